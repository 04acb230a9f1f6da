"""Evaluations of test scores and paired comparisons."""

import numpy as np
import pytest
import sklearn.metrics

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import comparison, scoring, statistics
from cgdmer_jax.evaluators.scores.findings import Estimate


def _test_set(rng, n=400, rates=(0.5, 0.2, 0.1)):
  latent = rng.normal(size=(n, len(rates)))
  cut = [np.quantile(latent[:, j], 1 - r) for j, r in enumerate(rates)]
  labels = (latent > np.array(cut)).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  names = [f"label {j}" for j in range(len(rates))]
  test, _ = scoring.make_test_set(rng.integers(0, n, n), labels, names)
  return test, latent


def _evaluate(test, scores, **options):
  return scoring.evaluate(test, "s", scores, **options).evaluation


def _difference(test, a, b, **options):
  a, b = (scoring.evaluate(test, "s", x) for x in (a, b))
  return comparison.difference(test, a, b, **options)


def test_records_without_a_label_are_no_part_of_the_set():
  labels = np.array([[0, 1], [0, 0], [1, 1]])
  test, belongs = scoring.make_test_set(
    np.array(["p", "q", "r"]), labels, ("a", "b"), np.array(["x", "y", "z"])
  )
  np.testing.assert_array_equal(belongs, [True, False, True])
  assert test.record_ids.tolist() == ["x", "z"]
  assert test.subjects.tolist() == ["p", "r"]
  with pytest.raises(UserError, match="no test record carries any .* a, b"):
    scoring.make_test_set(np.array(["p"]), np.zeros((1, 2)), ("a", "b"))


@pytest.mark.parametrize(
  "labels, message",
  [(np.zeros((2, 3)), "shape"), (np.full((2, 2), 2), "0 or 1")],
)
def test_wrong_labels_are_refused(labels, message):
  with pytest.raises(ValueError, match=message):
    scoring.make_test_set(np.array(["p", "q"]), labels, ("a", "b"))


def test_rare_and_single_class_labels_are_reported_not_scored():
  rng = np.random.default_rng(0)
  labels = np.zeros((100, 5), np.uint8)
  labels[:50, 0] = 1
  labels[:9, 1] = 1
  labels[:, 2] = 1
  labels[:95, 4] = 1
  test, _ = scoring.make_test_set(np.arange(100), labels, tuple("abcde"))
  scores = rng.normal(size=(100, 5))
  result = _evaluate(test, scores, num_bootstrap=50)
  reasons = {row.name: row.skipped for row in result.labels}
  assert reasons == {
    "a": "",
    "b": "9 positive in test, fewer than 10",
    "c": "no negative in test",
    "d": "no positive in test",
    "e": "5 negative in test, fewer than 10",
  }
  assert [row.num_positive for row in result.labels] == [50, 9, 100, 0, 95]
  assert result.macro_auroc.value == result.labels[0].auroc.value
  assert result.labels[1].auroc is None and result.labels[1].auprc is None
  # A lower bar lets them in, but never a label of one class.
  scored = _evaluate(test, scores, min_positives=0, num_bootstrap=50)
  assert [bool(row.skipped) for row in scored.labels] == [0, 0, 1, 1, 0]


def test_nothing_scored_is_none_and_not_nan():
  test, _ = scoring.make_test_set(np.arange(2), np.array([[1], [1]]), ("a",))
  scores = np.zeros((2, 1))
  result = _evaluate(test, scores, num_bootstrap=10)
  assert result.macro_auroc == Estimate(None, None, None)
  assert result.macro_auprc == result.macro_auroc
  difference, p_value = _difference(test, scores, scores)
  assert difference.value is None and p_value is None


def test_seeds_are_averaged_and_their_spread_reported():
  rng = np.random.default_rng(1)
  test, latent = _test_set(rng)
  scores = latent + rng.normal(size=(5, *latent.shape))
  single = [_evaluate(test, s, num_bootstrap=20) for s in scores]
  values = [e.macro_auroc.value for e in single]
  result = _evaluate(test, scores, num_bootstrap=20)
  assert result.macro_auroc.value == pytest.approx(np.mean(values))
  assert result.seed_std == pytest.approx(np.std(values, ddof=1))
  assert (result.num_seeds, single[0].seed_std) == (5, None)
  assert result.macro_auroc.low < result.macro_auroc.value
  assert result.macro_auroc.value < result.macro_auroc.high


def test_macro_interval_carries_the_covariance_between_labels():
  rng = np.random.default_rng(2)
  one = rng.integers(0, 2, (300, 1)).astype(np.uint8)
  score = one + rng.normal(size=(300, 1))
  # Four copies of one label: averaging them narrows nothing. The fifth label
  # only keeps every record in the set.
  labels = np.concatenate([one] * 4 + [np.ones_like(one)], axis=1)
  test, _ = scoring.make_test_set(np.arange(300), labels, tuple("abcde"))
  result = _evaluate(test, np.concatenate([score] * 5, axis=1))
  assert result.macro_auroc.low == pytest.approx(result.labels[0].auroc.low)
  assert result.macro_auroc.high == pytest.approx(result.labels[0].auroc.high)


def test_softmax_over_labels_would_change_the_scores():
  rng = np.random.default_rng(3)
  test, latent = _test_set(rng)
  logits = 3 * latent  # ranks every label without a mistake, except label 0
  odds = np.exp(logits)
  softmax = odds / odds.sum(axis=1, keepdims=True)
  ours = _evaluate(test, logits, num_bootstrap=10)
  theirs = _evaluate(test, softmax, num_bootstrap=10)
  assert ours.labels[1].auroc.value == 1.0
  assert theirs.labels[1].auroc.value < 0.99
  # A monotone map of each label alone changes nothing.
  sigmoid = 1 / (1 + np.exp(-logits))
  same = _evaluate(test, sigmoid, num_bootstrap=10)
  assert same.macro_auroc == ours.macro_auroc


def test_comparison_of_equal_and_of_better_models():
  rng = np.random.default_rng(4)
  test, latent = _test_set(rng)
  a = latent + 0.5 * rng.normal(size=latent.shape)
  b = latent + 3.0 * rng.normal(size=latent.shape)
  same, p_value = _difference(test, a, a)
  assert same == Estimate(0.0, 0.0, 0.0)
  assert p_value == 1.0
  better, p_value = _difference(test, a, b)
  assert better.low > 0
  assert p_value < 0.01
  values = [_evaluate(test, x).macro_auroc.value for x in (a, b)]
  assert better.value == pytest.approx(values[0] - values[1])
  worse, _ = _difference(test, b, a)
  assert worse.high == pytest.approx(-better.low)


def test_paired_difference_is_sharper_than_two_intervals():
  rng = np.random.default_rng(5)
  test, latent = _test_set(rng)
  shared = latent + rng.normal(size=latent.shape)
  a = shared + 0.1 * rng.normal(size=latent.shape)
  b = shared + 0.1 * rng.normal(size=latent.shape)
  difference, _ = _difference(test, a, b)
  alone = _evaluate(test, a).macro_auroc
  assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_any_numbers_of_seeds_pair():
  rng = np.random.default_rng(6)
  test, latent = _test_set(rng)
  scores = latent + rng.normal(size=(6, *latent.shape))
  for other in (scores[0], scores[:2], scores[:4]):
    difference, _ = _difference(test, scores, other, num_permutations=10)
    values = [_evaluate(test, x).macro_auroc.value for x in (scores, other)]
    assert difference.value == pytest.approx(values[0] - values[1])


def test_average_precision_has_an_interval_over_subjects():
  rng = np.random.default_rng(8)
  test, latent = _test_set(rng)
  scores = latent + rng.normal(size=latent.shape)
  outcome = scoring.evaluate(test, "s", scores, num_bootstrap=200)
  weights = statistics.subject_weights(test.subjects, 200, 0)
  for j, row in enumerate(outcome.evaluation.labels):
    expected = [
      sklearn.metrics.average_precision_score(
        test.labels[:, j], scores[:, j], sample_weight=w
      )
      for w in weights.T
    ]
    np.testing.assert_allclose(outcome.samples[1, j], expected, atol=1e-5)
    assert row.auprc.low == pytest.approx(
      np.quantile(expected, 0.025), abs=1e-5
    )


def test_pooled_seeds_are_the_mean_of_their_runs():
  rng = np.random.default_rng(9)
  test, latent = _test_set(rng)
  scores = latent + rng.normal(size=(3, *latent.shape))
  runs = [scoring.evaluate(test, "s", x, num_bootstrap=30) for x in scores]
  pooled = scoring.pool(test, runs)
  together = scoring.evaluate(test, "s", scores, num_bootstrap=30)
  np.testing.assert_allclose(pooled.samples, together.samples, atol=1e-6)
  assert pooled.evaluation.macro_auroc.value == pytest.approx(
    together.evaluation.macro_auroc.value
  )
  assert pooled.evaluation.num_seeds == 3
