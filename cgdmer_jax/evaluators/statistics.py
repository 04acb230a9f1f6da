"""Ranking scores of multi-label tests, with intervals and paired tests.

Everything here is a pure function of arrays. A label is scored for itself:
nothing couples the scores of two labels (a softmax over labels would).

Resampling is over *subjects*, not records: two tracings of one patient are not
independent, and intervals that pretend they are come out too narrow. One draw
of subjects serves all labels and all models, so the interval of a macro average
carries the covariance between labels, and differences between models are
paired. A bootstrap stratified by label (keeping each label's number of
positives, as some benchmarks do) draws other records for every label and
therefore cannot give an interval of the macro average at all. The price of the
joint draw: a resample can miss every positive (or negative) of a rare label;
that label then has no AUROC in that resample and is left out of its macro.

The AUROC of a label under R sets of record weights costs one pass over the
records: sorted once, the negatives are summed into the gaps between positive
scores by a sparse product. Bootstrap counts and the swaps of the permutation
test are both such weights.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse

# Weight columns handled at once: bounds memory at 8 * records * 1024 bytes.
_CHUNK = 1024


def weighted_auroc(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """AUROC of one label under many sets of record weights.

  The probability that a positive scores higher than a negative, ties counting
  one half (the Mann-Whitney statistic), both drawn with the given weights.

  Args:
    labels: (N,) 0 or 1.
    scores: (N,) finite, any monotone scale.
    weights: (N, R) non-negative.

  Returns:
    (R,) float64; NaN where the positives or the negatives weigh nothing.

  Raises:
    ValueError: a score is not finite.
  """
  labels = np.asarray(labels).astype(bool)
  scores = np.asarray(scores)
  if not np.isfinite(scores).all():
    raise ValueError("scores must be finite")
  if 2 * labels.sum() > len(labels):  # the same wins, seen from the rarer class
    labels, scores = ~labels, -scores
  # One bin per distinct positive score (odd) and per gap around them (even).
  levels, level = np.unique(scores[labels], return_inverse=True)
  below = np.searchsorted(levels, scores[~labels], side="left")
  tied = np.searchsorted(levels, scores[~labels], side="right") > below
  negatives = _sum_rows(~labels, 2 * below + tied, 2 * len(levels) + 1)
  positives = _sum_rows(labels, level, len(levels))
  out = np.empty(weights.shape[1])
  for start in range(0, len(out), _CHUNK):
    chunk = slice(start, start + _CHUNK)
    w = np.ascontiguousarray(weights[:, chunk], np.float32)
    neg, pos = negatives @ w, positives @ w
    total = pos.sum(0, dtype=np.float64) * neg.sum(0, dtype=np.float64)
    half_tied = 0.5 * neg[1::2]
    # Running sum down the rows: several times faster than np.cumsum(axis=0).
    for above, row in zip(neg[:-1], neg[1:], strict=True):
      row += above
    wins = neg[0:-1:2] + half_tied
    won = np.einsum("kr,kr->r", pos, wins, dtype=np.float64)
    out[chunk] = np.divide(
      won, total, out=np.full(total.shape, np.nan), where=total > 0
    )
  return out


def _sum_rows(
  chosen: np.ndarray, bins: np.ndarray, num_bins: int
) -> scipy.sparse.csr_array:
  """Sparse (num_bins, N) matrix that sums the chosen rows into their bins."""
  rows = np.flatnonzero(chosen)
  entries = (np.ones(len(rows), np.float32), (bins, rows))
  return scipy.sparse.csr_array(entries, shape=(num_bins, len(chosen)))


def auroc(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
  """Area under the ROC curve of one label.

  Args:
    labels: (N,) 0 or 1.
    scores: (N,).
    weights: (N,) non-negative record weights; None counts every record once.

  Returns:
    AUROC, NaN where only one class is present.
  """
  weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
  return float(weighted_auroc(labels, scores, weights[:, None])[0])


def average_precision(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
  """Average precision (area under the precision-recall steps) of one label.

  AP = sum_k (R_k - R_{k-1}) P_k over the distinct thresholds k; no
  interpolation, so its floor is the prevalence.

  Args:
    labels: (N,) 0 or 1.
    scores: (N,).
    weights: (N,) non-negative record weights; None counts every record once.

  Returns:
    AP, NaN where only one class is present (a library that answers 0 there
    drags down the macro average).
  """
  labels = np.asarray(labels).astype(np.float64)
  scores = np.asarray(scores)
  weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
  keep = weights > 0
  labels, scores, weights = labels[keep], scores[keep], weights[keep]
  if not 0 < labels.sum() < len(labels):
    return float("nan")
  order = np.argsort(-scores, kind="stable")
  scores, weights, labels = scores[order], weights[order], labels[order]
  ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
  true = np.cumsum(weights * labels)[ends]
  precision = true / np.cumsum(weights)[ends]
  recall = true / true[-1]
  return float(np.sum(np.diff(recall, prepend=0.0) * precision))


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


def bootstrap_auroc(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """AUROC of every label in every resample, averaged over training seeds.

  Args:
    labels: (N, L) 0 or 1.
    scores: (K, N, L): K models that differ by their training seed only.
    weights: (N, R) from `subject_weights`.

  Returns:
    (L, R) float64, NaN where a resample lacks a class of the label.
  """
  seeds, _, num_labels = scores.shape
  out = np.zeros((num_labels, weights.shape[1]))
  for j in range(num_labels):
    for k in range(seeds):
      out[j] += weighted_auroc(labels[:, j], scores[k, :, j], weights)
  return out / seeds


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
    seed: of the swaps.

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
  difference = np.zeros(num_permutations + 1)
  seeds, _, num_labels = scores_a.shape
  for j in range(num_labels):
    both = np.concatenate([labels[:, j], labels[:, j]])
    for k in range(seeds):
      ranks = np.concatenate(
        [midranks(scores_a[k, :, j]), midranks(scores_b[k, :, j])]
      )
      difference += weighted_auroc(both, ranks, first)
      difference -= weighted_auroc(both, ranks, second)
  difference /= seeds * num_labels
  observed = float(difference[0])
  # Equal differences can differ by rounding: count them as equal.
  extreme = np.abs(difference[1:]) >= abs(observed) - 1e-9
  p_value = (1 + int(extreme.sum())) / (1 + num_permutations)
  return Permutation(observed, p_value, num_permutations)


def midranks(scores: np.ndarray) -> np.ndarray:
  """Ranks of scores (N,), ties sharing their mean rank, from 1 to N."""
  _, inverse, counts = np.unique(
    scores, return_inverse=True, return_counts=True
  )
  last = np.cumsum(counts)
  return (last - 0.5 * (counts - 1))[inverse]
