"""Intervals and paired tests of scores, over subjects.

Everything here is a pure function of arrays.

Resampling is over *subjects*, not records: two tracings of one patient are not
independent, and intervals that pretend they are come out too narrow. One draw
of subjects serves all labels and all models, so the interval of a macro average
carries the covariance between labels, and differences between models are
paired. A bootstrap stratified by label (keeping each label's number of
positives, as some benchmarks do) draws other records for every label and
therefore cannot give an interval of the macro average at all. The price of the
joint draw: a resample can miss every positive (or negative) of a rare label;
that label then has no AUROC in that resample and is left out of its macro.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.stats

from cgdmer_jax.evaluators.scores import ranking


def number_subjects(subjects: np.ndarray) -> np.ndarray:
  """Numbers the subjects of records.

  Args:
    subjects: (N,) subject ids of any sortable type. An empty one is unknown:
      the record counts as a subject of its own.

  Returns:
    int (N,), from 0 to the number of subjects - 1.
  """
  subjects = np.asarray(subjects)
  ids, number = np.unique(subjects, return_inverse=True)
  unknown = np.flatnonzero(subjects == "")
  number[unknown] = len(ids) + np.arange(len(unknown))
  return np.unique(number, return_inverse=True)[1]


def subject_weights(
  subjects: np.ndarray, num_resamples: int, seed: int
) -> np.ndarray:
  """Bootstrap counts: subjects drawn with replacement, with all their records.

  Args:
    subjects: (N,) subject id of each record, see `number_subjects`.
    num_resamples: R.
    seed: the draw is a pure function of it and of the subjects' order.

  Returns:
    (N, R) float32 counts: how often each record is in each resample.
  """
  subject = number_subjects(subjects)
  n = subject.max() + 1
  rng = np.random.default_rng(seed)
  counts = np.empty((n, num_resamples), np.float32)
  for r in range(num_resamples):
    counts[:, r] = np.bincount(rng.integers(n, size=n), minlength=n)
  return counts[subject]


def bootstrap(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Scores of every label in every resample, averaged over training seeds.

  Args:
    labels: (N, L) 0 or 1.
    scores: (K, N, L): K models that differ by their training seed only.
    weights: (N, R) from `subject_weights`.

  Returns:
    AUROC and average precision, each (L, R) float32, NaN where a resample lacks
    a class of the label.
  """
  seeds, _, num_labels = scores.shape
  auroc, precision = (
    x.reshape(seeds, num_labels, weights.shape[1]).mean(axis=0)
    for x in ranking.weighted_scores(
      np.tile(labels, (1, seeds)), _flat(scores), weights
    )
  )
  return auroc, precision


def _flat(scores: np.ndarray) -> np.ndarray:
  """(K, N, L) as columns (N, K L)."""
  return np.moveaxis(scores, 0, 1).reshape(scores.shape[1], -1)


def macro(values: np.ndarray) -> np.ndarray:
  """Mean over labels (axis 0) of those that have a value; NaN without any."""
  has = np.isfinite(values)
  count = has.sum(0)
  total = np.where(has, values, 0.0).sum(0)
  return np.divide(
    total, count, out=np.full(count.shape, np.nan), where=count > 0
  )


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
  """Percentile interval of bootstrap samples (R,), undefined ones left out."""
  samples = samples[np.isfinite(samples)]
  if not samples.size:
    return float("nan"), float("nan")
  tail = (1 - level) / 2
  low, high = np.quantile(samples, [tail, 1 - tail])
  return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Permutation:
  """Outcome of the paired permutation test.

  Attributes:
    difference: macro AUROC of model a minus that of model b.
    p_value: two-sided.
    num_permutations: random swaps drawn.
  """

  difference: float
  p_value: float
  num_permutations: int


def permutation_test(
  labels: np.ndarray,
  scores_a: np.ndarray,
  scores_b: np.ndarray,
  subjects: np.ndarray,
  num_permutations: int = 1000,
  seed: int = 0,
) -> Permutation:
  """Paired permutation test of the macro AUROC of two models.

  Null hypothesis: which of the two models gave which score is exchangeable
  within a subject. Scores are first replaced by their ranks per label and
  model, as scales of different models are not comparable; that leaves each
  AUROC as it is. Then all the scores of a random half of the subjects are
  swapped. p = (1 + #{|d*| >= |d|}) / (1 + R), which is valid at any R.

  A swap is a 0/1 weight over the 2N records (those of a, then those of b), so
  the ranks are sorted once per label and not once per permutation.

  Args:
    labels: (N, L), every label with positives and negatives.
    scores_a: (K, N, L), K training seeds; seed k of a is paired with k of b.
    scores_b: (K, N, L).
    subjects: (N,), see `number_subjects`.
    num_permutations: R.
    seed: decides the swaps.

  Returns:
    The difference of the two macro AUROCs and its p value.
  """
  subject = number_subjects(subjects)
  n = subject.max() + 1
  rng = np.random.default_rng(seed)
  swap = np.zeros((n, num_permutations + 1), np.float32)
  swap[:, 1:] = rng.integers(2, size=(n, num_permutations))
  swap = swap[subject]
  first = np.concatenate([1 - swap, swap])
  second = np.concatenate([swap, 1 - swap])
  ranks = np.concatenate(
    [scipy.stats.rankdata(x, axis=1) for x in (scores_a, scores_b)], axis=1
  )
  both = np.concatenate([labels, labels])
  columns, repeated = _flat(ranks), np.tile(both, (1, len(ranks)))
  difference = ranking.weighted_auroc(repeated, columns, first).astype(
    np.float64
  )
  difference -= ranking.weighted_auroc(repeated, columns, second)
  difference = difference.mean(axis=0)
  observed = float(difference[0])
  # Equal differences can differ by rounding: count them as equal.
  extreme = np.abs(difference[1:]) >= abs(observed) - 1e-6
  p_value = (1 + int(extreme.sum())) / (1 + num_permutations)
  return Permutation(observed, p_value, num_permutations)
