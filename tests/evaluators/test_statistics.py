"""AUROC, average precision, bootstrap and permutation test against oracles."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from cgdmer_jax.evaluators.scores import ranking, statistics


def _binormal(rng, n, auroc, prevalence=0.3):
  """Labels and scores whose expected AUROC is known."""
  labels = (rng.random(n) < prevalence).astype(np.uint8)
  shift = np.sqrt(2) * scipy.stats.norm.ppf(auroc)
  return labels, rng.normal(size=n) + shift * labels


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("prevalence", [0.02, 0.4, 0.95])
def test_scores_equal_scikit_learn(ties, weighted, prevalence):
  rng = np.random.default_rng(0)
  labels = (rng.random(500) < prevalence).astype(np.uint8)
  scores = rng.normal(size=500) + labels
  scores = np.round(scores) if ties else scores
  weights = rng.integers(0, 4, 500).astype(float) if weighted else None
  assert ranking.auroc(labels, scores, weights) == pytest.approx(
    sklearn.metrics.roc_auc_score(labels, scores, sample_weight=weights),
    abs=1e-6,
  )
  assert ranking.average_precision(labels, scores, weights) == pytest.approx(
    sklearn.metrics.average_precision_score(
      labels, scores, sample_weight=weights
    ),
    abs=1e-9,
  )


@pytest.mark.parametrize("value", [0, 1])
def test_one_class_has_no_score(value):
  labels, scores = np.full(5, value), np.arange(5.0)
  assert np.isnan(ranking.auroc(labels, scores))
  assert np.isnan(ranking.average_precision(labels, scores))


def test_constant_scores_are_chance():
  labels = np.array([0, 1, 0, 1, 1])
  assert ranking.auroc(labels, np.zeros(5)) == 0.5
  assert ranking.average_precision(labels, np.zeros(5)) == 0.6


def test_non_finite_scores_are_refused():
  with pytest.raises(ValueError, match="finite"):
    ranking.auroc(np.array([0, 1]), np.array([np.nan, 1.0]))


def test_many_weights_at_once_equal_repeated_records():
  rng = np.random.default_rng(1)
  labels, scores = _binormal(rng, 60, 0.7)
  scores = np.round(scores, 1)
  weights = statistics.subject_weights(rng.integers(0, 20, 60), 1500, 3)
  many = ranking.weighted_scores(labels[:, None], scores[:, None], weights)[0][
    0
  ]
  for r in (0, 1, 1023, 1024, 1499):  # both sides of a chunk's border
    rows = np.repeat(np.arange(60), weights[:, r].astype(int))
    expected = sklearn.metrics.roc_auc_score(labels[rows], scores[rows])
    assert many[r] == pytest.approx(expected, abs=1e-6)


def test_subjects_are_drawn_with_all_their_records():
  subjects = np.array(["b", "a", "b", "c", "a"])
  weights = statistics.subject_weights(subjects, 200, 0)
  np.testing.assert_array_equal(weights[0], weights[2])
  np.testing.assert_array_equal(weights[1], weights[4])
  per_subject = weights[[1, 0, 3]]
  np.testing.assert_array_equal(per_subject.sum(axis=0), 3)
  np.testing.assert_array_equal(
    weights, statistics.subject_weights(subjects, 200, 0)
  )


def test_records_of_unknown_subjects_are_drawn_one_by_one():
  subjects = np.array(["q", "", "p", "", "q"])
  number = statistics.number_subjects(subjects)
  assert number[0] == number[4] and sorted(set(number)) == [0, 1, 2, 3]
  unknown = np.full(60, "")
  np.testing.assert_array_equal(
    statistics.subject_weights(unknown, 50, 0),
    statistics.subject_weights(np.arange(60), 50, 0),
  )
  rng = np.random.default_rng(0)
  labels = (rng.random((60, 1)) < 0.5).astype(np.uint8)
  a, b = labels + rng.normal(size=(2, 1, 60, 1))
  assert statistics.permutation_test(
    labels, a, b, unknown
  ) == statistics.permutation_test(labels, a, b, np.arange(60))


def test_bootstrap_interval_covers_the_truth():
  rng = np.random.default_rng(2)
  truth, repeats = 0.8, 300
  drawn = [_binormal(rng, 300, truth) for _ in range(repeats)]
  labels, scores = (np.stack(x, axis=1) for x in zip(*drawn, strict=True))
  weights = statistics.subject_weights(np.arange(300), 300, 0)
  samples, _ = ranking.weighted_scores(labels, scores, weights)
  low, high = np.quantile(samples, (0.025, 0.975), axis=1)
  covered = ((low <= truth) & (truth <= high)).mean()
  # 95 % with the sampling error of 300 repeats (sd 1.3 %).
  assert 0.90 <= covered <= 0.98


def test_subject_bootstrap_is_wider_than_record_bootstrap_on_clusters():
  rng = np.random.default_rng(3)
  labels, scores = _binormal(rng, 100, 0.75)
  labels, scores = np.repeat(labels, 8), np.repeat(scores, 8)
  scores = scores + 0.05 * rng.normal(size=800)

  def width(subjects):
    weights = statistics.subject_weights(subjects, 1000, 0)
    low, high = statistics.interval(
      ranking.weighted_scores(labels[:, None], scores[:, None], weights)[0][0]
    )
    return high - low

  ratio = width(np.repeat(np.arange(100), 8)) / width(np.arange(800))
  assert 2.2 < ratio < 3.5  # sqrt(8) = 2.83 for fully dependent records


def test_resample_without_a_class_leaves_the_label_out_of_the_macro():
  labels = np.zeros((30, 2), np.uint8)
  labels[0, 0] = 1  # absent from about a third of the resamples
  labels[:15, 1] = 1
  scores = np.random.default_rng(4).normal(size=(1, 30, 2))
  weights = statistics.subject_weights(np.arange(30), 400, 0)
  samples = statistics.bootstrap(labels, scores, weights)[0]
  missing = np.isnan(samples[0])
  assert 0.2 < missing.mean() < 0.5
  macro = statistics.macro(samples)
  np.testing.assert_array_equal(macro[missing], samples[1][missing])
  assert np.isfinite(macro).all()


def test_permutation_p_values_are_uniform_under_the_null():
  rng = np.random.default_rng(5)
  p_values = []
  for i in range(150):
    latent = rng.normal(size=(120, 2))
    labels = (latent + rng.normal(size=(120, 2)) > 0.8).astype(np.uint8)
    # Two equally good models, on different scales.
    a = latent + 0.7 * rng.normal(size=(120, 2))
    b = np.exp(latent + 0.7 * rng.normal(size=(120, 2)))
    result = statistics.permutation_test(
      labels, a[None], b[None], np.arange(120), 99, i
    )
    p_values.append(result.p_value)
  assert min(p_values) >= 0.01  # the +1 correction: never 0
  assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01
  assert np.mean(np.array(p_values) <= 0.05) < 0.1


def test_permutation_test_finds_a_better_model_and_no_difference_in_itself():
  rng = np.random.default_rng(6)
  latent = rng.normal(size=(300, 3))
  labels = (latent + rng.normal(size=(300, 3)) > 1).astype(np.uint8)
  subjects = rng.integers(0, 250, 300)
  worse = (latent + 2 * rng.normal(size=(300, 3)))[None]
  result = statistics.permutation_test(labels, latent[None], worse, subjects)
  assert result.difference > 0.05
  assert result.p_value < 0.01
  same = statistics.permutation_test(
    labels, latent[None], np.exp(latent)[None], subjects
  )
  assert same.difference == 0
  assert same.p_value == 1
