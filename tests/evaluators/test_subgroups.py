"""Scores by sex and age, against scikit-learn on each part."""

import numpy as np
import pytest
from sklearn import metrics

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import scoring, subgroups


def table(tmp_path, lines):
  path = tmp_path / "groups.csv"
  path.write_text("\n".join(lines) + "\n")
  return path


def test_each_group_is_scored_on_its_own_records(tmp_path):
  rng = np.random.default_rng(0)
  labels = (rng.random((600, 3)) < [0.5, 0.3, 0.01]).astype(np.uint8)
  labels[:2, 2] = 1
  ids = np.array([f"r{i}" for i in range(600)])
  test, kept = scoring.make_test_set(
    np.arange(600) // 2, labels, ("A", "B", "rare"), ids
  )
  scores = labels[kept] + rng.normal(size=(kept.sum(), 3))
  outcome = scoring.evaluate(test, "zero_shot", scores, num_bootstrap=50)
  sexes = ["f" if i % 3 else "Male" for i in range(599)]  # one is unknown
  lines = [f"r{i},{s},{20 + i % 70},x" for i, s in enumerate(sexes)]
  path = table(tmp_path, ["id,sex,age,else", *lines, "other,,"])
  found = subgroups.score(test, outcome, subgroups.read(path))
  assert [(x.column, x.name) for x in found] == [
    *(("sex", "female"), ("sex", "male"), ("age", "below 50")),
    *(("age", "50 to 64"), ("age", "65 to 79"), ("age", "80 and older")),
  ]
  women = [f"r{i}" for i, s in enumerate(sexes) if s == "f"]
  old = [f"r{i}" for i in range(599) if 20 + i % 70 >= 80]
  for x, members in ((found[0], women), (found[-1], old)):
    rows = np.isin(test.record_ids, members)
    assert x.evaluation.num_records == rows.sum()
    # "rare" is too rare, so A and B are what is averaged.
    assert [y.name for y in x.evaluation.labels] == ["A", "B"]
    expected = [
      metrics.roc_auc_score(test.labels[rows, j], scores[rows, j])
      for j in range(2)
    ]
    macro = x.evaluation.macro_auroc
    assert macro.value == pytest.approx(np.mean(expected))
    assert macro.low < macro.value < macro.high


def test_a_label_that_a_group_lacks_counts_in_none():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, (80, 3))
  labels[:, 2] = 1
  labels[:40, 1] = 0  # no B among the first forty
  test, kept = scoring.make_test_set(np.arange(80), labels, ("A", "B", "C"))
  outcome = scoring.evaluate(
    test, "zero_shot", rng.random((kept.sum(), 3)), min_positives=5,
    num_bootstrap=20,
  )  # fmt: skip
  sex = {x: "female" if int(x) < 40 else "male" for x in test.record_ids}
  found = subgroups.score(test, outcome, {"sex": sex})
  assert [len(x.evaluation.labels) for x in found] == [1, 1]
  alone = {x: "female" for x in sex}
  assert subgroups.score(test, outcome, {"sex": alone}) == []
  assert subgroups.score(test, outcome, {}) == []


@pytest.mark.parametrize(
  ("lines", "message"),
  [
    (["id,sex", "1,1"], "sex='1'; expected female or male"),
    (["id,age", "1,old"], "age='old'; expected years"),
    (["id,age", "1,-3"], "age='-3'; expected years"),
    (["name,age", "1,3"], "expected the columns id"),
    (["id,x", "1,3"], "expected the columns id"),
    ([], "expected the columns id"),
  ],
)
def test_tables_that_cannot_be_used(tmp_path, lines, message):
  with pytest.raises(UserError, match=message):
    subgroups.read(table(tmp_path, lines))
  with pytest.raises(UserError, match="cannot be read"):
    subgroups.read(tmp_path / "none.csv")
