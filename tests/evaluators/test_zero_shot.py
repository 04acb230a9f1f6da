"""Zero-shot scores and the prompts they come from."""

import importlib
import json

import numpy as np
import pytest

from cgdmer_jax.config import presets
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.tasks import zero_shot
from configs import zero_shot as zero_shot_config
from data_builders import build, scp
from data_builders.cpsc2018 import cpsc2018_dataset_builder
from data_builders.csn import csn_dataset_builder
from data_builders.mimic_iv_ecg import report_labels


def test_prompts_count_the_same_whatever_their_length():
  vectors = {"a": np.array([[10.0, 0.0], [0.0, 0.1]]), "b": np.eye(2)[1:]}
  classes = zero_shot.class_embeddings(vectors, ("a", "b"))
  np.testing.assert_allclose(classes, [[0.5**0.5, 0.5**0.5], [0, 1]])


def test_scores_are_cosines_in_the_order_of_the_labels():
  classes = zero_shot.class_embeddings(
    {"a": np.array([[2.0, 0.0]]), "b": np.array([[0.0, 3.0]])}, ("b", "a")
  )
  scores = zero_shot.cosine_scores(np.array([[3.0, 4.0], [0.0, 0.0]]), classes)
  np.testing.assert_allclose(scores, [[0.8, 0.6], [0, 0]], atol=1e-6)


def test_planted_classes_are_found_and_a_label_does_not_move_others():
  rng = np.random.default_rng(0)
  labels = (rng.random((300, 3)) < 0.3).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  directions = np.eye(8)[:3]
  z = labels @ directions + 0.2 * rng.normal(size=(300, 8))
  embedded = {n: directions[i : i + 1] for i, n in enumerate("abc")}
  subjects = np.arange(300)
  result = zero_shot.zero_shot(
    z, embedded, labels, subjects, tuple("abc"), num_bootstrap=50
  )
  (outcome,) = result.outcomes
  assert (outcome.setting, outcome.num_train) == ("zero_shot", 0)
  assert outcome.evaluation.macro_auroc.low > 0.9
  keep = labels[:, :2].any(axis=1)
  two = zero_shot.zero_shot(
    z, embedded, labels[:, :2], subjects, ("a", "b"), num_bootstrap=50
  )
  np.testing.assert_array_equal(
    two.outcomes[0].scores, outcome.scores[:, keep, :2]
  )


def test_missing_embedding_and_damaged_embeddings_are_errors():
  z, labels = np.ones((2, 2)), np.ones((2, 1))
  with pytest.raises(UserError, match="label 'a' has no embedded prompt"):
    zero_shot.zero_shot(z, {}, labels, np.arange(2), ("a",))
  z[1, 0] = np.nan
  with pytest.raises(UserError, match="1 of 2 test records are not finite"):
    zero_shot.zero_shot(z, {"a": np.ones((1, 2))}, labels, np.arange(2), ("a",))


# Label sets whose labels stand for several statements.
CLASSES = "superclass", "subclass"


def shipped_label_sets(dataset, data_dir):
  """(label set, names) of every config of a builder."""
  module = f"data_builders.{dataset}.{dataset}_dataset_builder"
  cls = importlib.import_module(module).Builder
  for config in cls.builder_configs:
    info = cls(config=config, data_dir=data_dir).info
    for label_set, names in info.metadata["label_sets"].items():
      yield label_set, tuple(names)


@pytest.mark.parametrize("dataset", build.dataset_names())
def test_every_label_has_prompts_of_its_own(dataset, tmp_path):
  for label_set, names in set(shipped_label_sets(dataset, tmp_path)):
    loaded = prompts.load(label_set, names)
    assert tuple(loaded) == names
    for sentences in loaded.values():
      assert len(set(sentences)) == len(sentences)
      if label_set not in CLASSES:
        assert len(sentences) <= 4
    # A sentence that two labels share could not tell them apart.
    every = [s for sentences in loaded.values() for s in sentences]
    assert len(set(every)) == len(every)
    # Of a data set of one's own: its own text.
    own = prompts.load(label_set, (*names, "wide_QRS"))
    assert own["wide_QRS"] == ("wide QRS",)


def test_a_class_has_the_sentences_of_its_statements():
  statements = prompts.load("all", scp.LABEL_SETS["all"])
  for code in scp.BY_CODE:
    found = scp.labels({code: 100.0})
    own = np.asarray(scp.LABEL_SETS["all"])[np.asarray(found["all"], bool)]
    for label_set in CLASSES:
      classes = prompts.load(label_set, scp.LABEL_SETS[label_set])
      for name, is_in in zip(classes, found[label_set], strict=True):
        if is_in:
          assert set(statements[own[0]]) <= set(classes[name]), (code, name)


def test_no_prompt_is_superfluous():
  for label_set, names in (
    ("cpsc2018", cpsc2018_dataset_builder.LABEL_NAMES),
    ("csn", csn_dataset_builder.CODES),
    ("report_labels", report_labels.NAMES),
  ):
    path = prompts.SCP_PROMPTS.with_name(f"{label_set}.json")
    assert json.loads(path.read_text()).keys() == set(names)


@pytest.mark.parametrize("preset", list(presets.DATASETS))
def test_presets_name_data_sets_that_can_be_built(preset, tmp_path):
  chosen = zero_shot_config.get_config(f"{preset},labels=x").evaluation
  assert chosen.label_sets == ("x",) and chosen.tasks == ("zero_shot",)
  whole = zero_shot_config.get_config(f"{preset},folds=all").evaluation
  assert (chosen.test, whole.test) == ("test", "train+validation+test")
  if preset == "built":
    assert not chosen.datasets
    return
  cls, name = build.builder_class(chosen.datasets)
  assert cls(config=name, data_dir=tmp_path).info.metadata["label_sets"]


def test_the_choice_of_prompts_is_reported():
  rng = np.random.default_rng(0)
  labels = (rng.random((200, 2)) < 0.5).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  z = labels @ np.eye(4)[:2] + 0.3 * rng.normal(size=(200, 4))
  # The first prompt of each label says what it is, the second says nothing.
  embedded = {"a": np.eye(4)[[0, 2]], "b": np.eye(4)[[1, 3]]}
  result = zero_shot.zero_shot(z, embedded, labels, np.arange(200), ("a", "b"))
  good, bad = result.details["prompts"]["macro_auroc_with_one_prompt_a_label"]
  assert good > 0.9 and abs(bad - 0.5) < 0.1
  assert "one prompt a label" in result.details["prompts"]["text"]


def test_one_name_has_other_prompts_as_class_and_as_statement():
  for name in ("AMI", "LVH"):
    subclass = prompts.load("subclass", (name,))
    assert subclass != prompts.load("all", (name,))
  assert "STTC" not in json.loads(prompts.SCP_PROMPTS.read_text())["all"]


def test_flat_file_serves_every_label_set(tmp_path):
  path = tmp_path / "flat.json"
  path.write_text(json.dumps({"A": "one sentence", "B": ["x", " y "]}))
  for label_set in ("form", "anything"):
    assert prompts.load(label_set, ("B", "A"), path) == {
      "B": ("x", "y"),
      "A": ("one sentence",),
    }


def test_published_prompt_file_can_be_given(real_data):
  path = real_data / "splits" / "CKEPE_prompt.json"
  loaded = prompts.load("rhythm", scp.LABEL_SETS["rhythm"], path)
  assert all(len(sentences) == 1 for sentences in loaded.values())


@pytest.mark.parametrize(
  "content, message",
  [
    ("{", "not valid JSON"),
    ("[]", "must hold an object"),
    ('{"all": {"A": ["x"]}, "B": "y"}', "mixes label sets and labels"),
    ('{"form": {"A": ["x"]}}', "no section 'rhythm' or 'all', only form"),
    ('{"all": {"B": ["x"]}}', "label 'A' of label set 'rhythm' has no prompt"),
    ('{"all": {"A": [" "]}}', "label 'A' of label set 'rhythm' has no prompt"),
    ('{"all": {"A": [1]}}', "must be a sentence or a list"),
    ('{"all": {"A": {"x": 1}}}', "must be a sentence or a list"),
  ],
)
def test_wrong_prompt_files_are_explained(tmp_path, content, message):
  path = tmp_path / "wrong.json"
  path.write_text(content)
  with pytest.raises(UserError, match=message) as error:
    prompts.load("rhythm", ("A",), path)
  assert str(path) in str(error.value)
  assert "\n" not in str(error.value)


def test_absent_prompt_file_is_explained(tmp_path):
  with pytest.raises(UserError, match="cannot read the prompt file .*no.json"):
    prompts.load("rhythm", ("A",), tmp_path / "no.json")
