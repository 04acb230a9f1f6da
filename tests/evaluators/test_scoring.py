"""Evaluations of test scores and paired comparisons."""

import dataclasses

import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import comparison, scoring


def _test_set(rng, n=400, rates=(0.5, 0.2, 0.1)):
  latent = rng.normal(size=(n, len(rates)))
  cut = [np.quantile(latent[:, j], 1 - r) for j, r in enumerate(rates)]
  labels = (latent > np.array(cut)).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  names = [f"label {j}" for j in range(len(rates))]
  test, _ = scoring.make_test_set(rng.integers(0, n, n), labels, names)
  return test, latent


def test_records_without_a_label_are_no_part_of_the_set():
  labels = np.array([[0, 1], [0, 0], [1, 1]])
  test, belongs = scoring.make_test_set(
    ["p", "q", "r"], labels, ("a", "b"), np.array(["x", "y", "z"])
  )
  np.testing.assert_array_equal(belongs, [True, False, True])
  assert test.record_ids.tolist() == ["x", "z"]
  assert test.subjects.tolist() == ["p", "r"]
  with pytest.raises(UserError, match="no test record carries any .* a, b"):
    scoring.make_test_set(["p"], np.zeros((1, 2)), ("a", "b"))


@pytest.mark.parametrize(
  "labels, message",
  [(np.zeros((2, 3)), "shape"), (np.full((2, 2), 2), "0 or 1")],
)
def test_wrong_labels_are_refused(labels, message):
  with pytest.raises(ValueError, match=message):
    scoring.make_test_set(["p", "q"], labels, ("a", "b"))


def test_rare_and_single_class_labels_are_reported_not_scored():
  rng = np.random.default_rng(0)
  labels = np.zeros((100, 5), np.uint8)
  labels[:50, 0] = 1
  labels[:9, 1] = 1
  labels[:, 2] = 1
  labels[:95, 4] = 1
  test, _ = scoring.make_test_set(np.arange(100), labels, tuple("abcde"))
  scores = rng.normal(size=(100, 5))
  result = scoring.evaluate(test, scores, num_bootstrap=50)
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
  scored = scoring.evaluate(test, scores, min_positives=0, num_bootstrap=50)
  assert [bool(row.skipped) for row in scored.labels] == [0, 0, 1, 1, 0]


def test_nothing_scored_is_none_and_not_nan():
  test, _ = scoring.make_test_set([1, 2], np.array([[1], [1]]), ("a",))
  scores = np.zeros((2, 1))
  result = scoring.evaluate(test, scores, num_bootstrap=10)
  assert result.macro_auroc == scoring.Estimate(None, None, None)
  assert result.macro_auprc is None
  difference = comparison.compare(test, "s", scores, scores)
  assert difference.macro.value is None and difference.p_value is None


def test_seeds_are_averaged_and_their_spread_reported():
  rng = np.random.default_rng(1)
  test, latent = _test_set(rng)
  scores = latent + rng.normal(size=(5, *latent.shape))
  single = [scoring.evaluate(test, s, num_bootstrap=20) for s in scores]
  values = [e.macro_auroc.value for e in single]
  result = scoring.evaluate(test, scores, num_bootstrap=20)
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
  result = scoring.evaluate(test, np.concatenate([score] * 5, axis=1))
  assert result.macro_auroc.low == pytest.approx(result.labels[0].auroc.low)
  assert result.macro_auroc.high == pytest.approx(result.labels[0].auroc.high)


def test_softmax_over_labels_would_change_the_scores():
  rng = np.random.default_rng(3)
  test, latent = _test_set(rng)
  logits = 3 * latent  # ranks every label without a mistake, except label 0
  odds = np.exp(logits)
  softmax = odds / odds.sum(axis=1, keepdims=True)
  ours = scoring.evaluate(test, logits, num_bootstrap=10)
  theirs = scoring.evaluate(test, softmax, num_bootstrap=10)
  assert ours.labels[1].auroc.value == 1.0
  assert theirs.labels[1].auroc.value < 0.99
  # A monotone map of each label alone changes nothing.
  sigmoid = 1 / (1 + np.exp(-logits))
  same = scoring.evaluate(test, sigmoid, num_bootstrap=10)
  assert same.macro_auroc == ours.macro_auroc


def test_comparison_of_equal_and_of_better_models():
  rng = np.random.default_rng(4)
  test, latent = _test_set(rng)
  a = latent + 0.5 * rng.normal(size=latent.shape)
  b = latent + 3.0 * rng.normal(size=latent.shape)
  same = comparison.compare(test, "s", a, a)
  assert same.macro == scoring.Estimate(0.0, 0.0, 0.0)
  assert same.p_value == 1.0
  better = comparison.compare(test, "s", a, b)
  assert better.macro.low > 0
  assert better.p_value < 0.01
  assert set(better.labels) == set(test.label_names)
  evaluation_a = scoring.evaluate(test, a)
  evaluation_b = scoring.evaluate(test, b)
  assert better.macro.value == pytest.approx(
    evaluation_a.macro_auroc.value - evaluation_b.macro_auroc.value
  )
  worse = comparison.compare(test, "s", b, a)
  assert worse.macro.high == pytest.approx(-better.macro.low)


def test_paired_difference_is_sharper_than_two_intervals():
  rng = np.random.default_rng(5)
  test, latent = _test_set(rng)
  shared = latent + rng.normal(size=latent.shape)
  a = shared + 0.1 * rng.normal(size=latent.shape)
  b = shared + 0.1 * rng.normal(size=latent.shape)
  difference = comparison.compare(test, "s", a, b).macro
  alone = scoring.evaluate(test, a).macro_auroc
  assert difference.high - difference.low < 0.5 * (alone.high - alone.low)


def test_seeds_pair_or_one_serves_all():
  rng = np.random.default_rng(6)
  test, latent = _test_set(rng)
  five = latent + rng.normal(size=(5, *latent.shape))
  comparison.compare(test, "s", five, latent, num_permutations=10)
  with pytest.raises(ValueError, match="5 training seeds with 2"):
    comparison.compare(test, "s", five, five[:2])


def test_other_records_cannot_be_compared():
  rng = np.random.default_rng(7)
  test, _ = _test_set(rng)
  other = dataclasses.replace(test, record_ids=test.record_ids[::-1])
  a, b = (scoring.EncoderResult(t, ()) for t in (test, other))
  with pytest.raises(UserError, match="not on the same test records"):
    comparison.compare_encoders(a, b)
