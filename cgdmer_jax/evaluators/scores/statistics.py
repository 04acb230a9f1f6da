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
records, from low to high scores: negatives are added up, and each positive has
won against those with lower scores. All labels, seeds and weights take that
pass together, on the device. Bootstrap counts and the swaps of the permutation
test are both such weights.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

# Columns handled at once: what a pass carries stays in the caches of a CPU.
_COLUMNS = 32
_BLOCK = 256


def weighted_scores(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """AUROC and average precision under many sets of record weights.

  The AUROC is the probability that a positive scores higher than a negative,
  ties counting one half (the Mann-Whitney statistic), both drawn with the given
  weights. For the average precision see `average_precision`.

  Args:
    labels: (N, C), 0 or 1.
    scores: (N, C); finite, any monotone scale.
    weights: (N, R) non-negative; whole numbers are summed exactly.

  Returns:
    Two arrays (C, R) float32, right to 1e-6; NaN where the positives or the
    negatives weigh nothing.

  Raises:
    ValueError: a score is not finite.
  """
  auroc, precision = _pass(labels, scores, weights, True)
  return auroc, precision


def weighted_auroc(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
  """The first of `weighted_scores`, in less time."""
  return _pass(labels, scores, weights, False)[0]


def _pass(labels, scores, weights, precision) -> list[np.ndarray]:
  """See `weighted_scores`; without `precision` the AUROC alone."""
  labels, scores = np.asarray(labels).astype(bool), np.asarray(scores)
  if not np.isfinite(scores).all():
    raise ValueError("scores must be finite")
  n, count = labels.shape
  # Records that weigh nothing make up few shapes, hence few compilations.
  rows = -(-n // _BLOCK) * _BLOCK
  weights = np.pad(np.asarray(weights, np.float32), ((0, rows - n), (0, 0)))
  weights = jax.device_put(weights)
  out = np.empty((1 + precision, count, weights.shape[1]), np.float32)
  for start in range(0, count, _COLUMNS):
    y, x = (v[:, start : start + _COLUMNS] for v in (labels, scores))
    width = y.shape[1]
    padding = ((0, rows - n), (0, -(-width // 8) * 8 - width))
    order = np.argsort(x, axis=0, kind="stable")
    ordered = np.take_along_axis(x, order, axis=0)
    opens = np.ones(order.shape, bool)  # a new score, above the last
    opens[1:] = ordered[1:] > ordered[:-1]
    positive = np.take_along_axis(y, order, axis=0)
    ties = not opens.all()
    order = np.pad(order.astype(np.int32), padding)
    order[n:] = np.arange(n, rows)[:, None]
    positive, opens = np.pad(positive, padding), np.pad(opens, padding)
    found = _scan(weights, order, positive, opens, ties, precision)
    for score, x in zip(out, jax.device_get(found), strict=True):
      score[start : start + width] = x[:width]
  return list(out)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _scan(weights, order, positive, opens, ties, precision):
  """One pass from low to high scores.

  Args:
    weights: (N, R).
    order: (N, C) records from low to high scores.
    positive: (N, C) in that order.
    opens: (N, C) whether the score is higher than the one before.
    ties: whether it is not, somewhere.
    precision: whether average precision is wanted, too.

  Returns:
    AUROC and, if it is wanted, average precision, (C, R) each.
  """
  shape = (order.shape[1], weights.shape[1])
  with jax.default_matmul_precision("highest"):
    unsorted = jnp.zeros(order.shape).at[order, jnp.arange(shape[0])]
    num_positive = unsorted.set(positive.astype(jnp.float32)).T @ weights
  total = weights.sum(0, keepdims=True)
  blocks = jax.tree.map(
    lambda x: x.reshape(-1, _BLOCK, *x.shape[1:]), (order, positive, opens)
  )

  def step(carry, row):
    # `passed`: weight of the positives and of the negatives so far; `lower`: of
    # those with a lower score; `level`: precision at this score.
    (passed, lower, level), sums = carry
    which, is_positive, is_new = row
    is_positive, is_new = is_positive[:, None], is_new[:, None]
    w = weights[which]
    w = jnp.where(is_positive, w, 0.0), jnp.where(is_positive, 0.0, w)
    if ties:
      lower = [
        jnp.where(is_new, new, old)
        for new, old in zip(passed, lower, strict=True)
      ]
      # Half of a pair with equal scores, when the second of the two comes.
      gains = [w[0] * (passed[1] + lower[1]) + w[1] * (passed[0] - lower[0])]
      gains[0] *= 0.5
    else:
      gains = [w[0] * passed[1]]
    if precision:
      left = num_positive - passed[0]  # with this score or a higher one
      now = left / jnp.maximum(total - passed[0] - passed[1], 1e-30)
      level = jnp.where(is_new, now, level)
      gains.append(w[0] * level)
    passed = [a + b for a, b in zip(passed, w, strict=True)]
    sums = [a + b for a, b in zip(sums, gains, strict=True)]
    return ((passed, lower, level), sums), None

  def block(carry, rows):  # sums of sums: a long one would lose digits
    state, sums = carry
    (state, more), _ = jax.lax.scan(step, (state, nothing), rows)
    return (state, [a + b for a, b in zip(sums, more, strict=True)]), None

  zero = jnp.zeros(shape)
  nothing = [zero] * (1 + precision)
  lower, level = [zero] * 2 if ties else None, zero if precision else None
  state = ([zero] * 2, lower, level)
  (_, sums), _ = jax.lax.scan(block, (state, nothing), blocks)
  pairs = num_positive * (total - num_positive)
  counts = (pairs, num_positive)[: len(sums)]
  return [
    jnp.where(pairs > 0, x / jnp.maximum(count, 1e-30), jnp.nan)
    for x, count in zip(sums, counts, strict=True)
  ]


def auroc(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
  """Area under the ROC curve of one label, in float64.

  Args:
    labels: (N,) 0 or 1.
    scores: (N,).
    weights: (N,) non-negative record weights; None counts every record once.

  Returns:
    AUROC, NaN where only one class is present.

  Raises:
    ValueError: a score is not finite.
  """
  labels = np.asarray(labels).astype(np.float64)
  weights = np.ones(len(labels)) if weights is None else np.asarray(weights)
  if not np.isfinite(scores).all():
    raise ValueError("scores must be finite")
  _, level = np.unique(scores, return_inverse=True)
  positive = np.bincount(level, weights * labels)
  negative = np.bincount(level, weights * (1 - labels))
  pairs = positive.sum() * negative.sum()
  if not pairs:
    return float("nan")
  below = np.cumsum(negative) - 0.5 * negative
  return float(positive @ below / pairs)


def average_precision(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float:
  """Average precision (area under the precision-recall steps) of one label.

  AP = sum_k (R_k - R_{k-1}) P_k over the distinct thresholds k; no
  interpolation. Random scores get about the prevalence, and more where there
  are few positives (1.7 times as much for 10 among 2,000).

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
    for x in weighted_scores(
      np.tile(labels, (1, seeds)), _flat(scores), weights
    )
  )
  return auroc, precision


def _flat(scores):
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
  ranks = np.concatenate(
    [scipy.stats.rankdata(x, axis=1) for x in (scores_a, scores_b)], axis=1
  )
  both = np.concatenate([labels, labels])
  columns, repeated = _flat(ranks), np.tile(both, (1, len(ranks)))
  difference = weighted_auroc(repeated, columns, first).astype(np.float64)
  difference -= weighted_auroc(repeated, columns, second)
  difference = difference.mean(axis=0)
  observed = float(difference[0])
  # Equal differences can differ by rounding: count them as equal.
  extreme = np.abs(difference[1:]) >= abs(observed) - 1e-6
  p_value = (1 + int(extreme.sum())) / (1 + num_permutations)
  return Permutation(observed, p_value, num_permutations)
