"""AUROC and average precision of multi-label scores, under record weights.

Everything here is a pure function of arrays. A label is scored for itself:
nothing couples the scores of two labels (a softmax over labels would).

The AUROC of a label under R sets of record weights costs one pass over the
records, from low to high scores: negatives are added up, and each positive has
won against those with lower scores. All labels, seeds and weights take that
pass together, on the device. Bootstrap counts and the swaps of the permutation
test are both such weights.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

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


def _pass(
  labels: np.ndarray, scores: np.ndarray, weights: np.ndarray, precision: bool
) -> list[np.ndarray]:
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
    part = _scan(weights, order, positive, opens, ties, precision)
    for score, x in zip(out, jax.device_get(part), strict=True):
      score[start : start + width] = x[:width]
  return list(out)


# Weights of positives and negatives so far, those of them with a lower score
# (None without ties), and the precision at this score (None if not wanted).
_State = tuple[list[jax.Array], list[jax.Array] | None, jax.Array | None]
# The state, and the sums that become AUROC and average precision.
_Carry = tuple[_State, list[jax.Array]]


@functools.partial(jax.jit, static_argnums=(4, 5))
def _scan(
  weights: jax.Array,
  order: jax.Array,
  positive: jax.Array,
  opens: jax.Array,
  ties: bool,
  precision: bool,
) -> list[jax.Array]:
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
  step = functools.partial(_step, weights, num_positive, total)

  def block(carry: _Carry, rows: tuple) -> tuple[_Carry, None]:
    # Sums of sums: a long one would lose digits.
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


def _step(
  weights: jax.Array,
  num_positive: jax.Array,
  total: jax.Array,
  carry: _Carry,
  row: tuple[jax.Array, jax.Array, jax.Array],
) -> tuple[_Carry, None]:
  """Takes in one record of each column.

  Args:
    weights: (N, R).
    num_positive: (C, R) weight of all positives.
    total: (1, R) weight of all records.
    carry: see `_Carry`.
    row: (C,) each: the record, whether it is positive, whether its score is
      higher than the one before.
  """
  (passed, lower, level), sums = carry
  which, is_positive, is_new = row
  is_positive, is_new = is_positive[:, None], is_new[:, None]
  w = weights[which]
  w = jnp.where(is_positive, w, 0.0), jnp.where(is_positive, 0.0, w)
  if lower is None:
    gains = [w[0] * passed[1]]
  else:
    lower = [
      jnp.where(is_new, new, old)
      for new, old in zip(passed, lower, strict=True)
    ]
    # Half of a pair with equal scores, when the second of the two comes.
    gains = [w[0] * (passed[1] + lower[1]) + w[1] * (passed[0] - lower[0])]
    gains[0] *= 0.5
  if level is not None:
    left = num_positive - passed[0]  # with this score or a higher one
    now = left / jnp.maximum(total - passed[0] - passed[1], 1e-30)
    level = jnp.where(is_new, now, level)
    gains.append(w[0] * level)
  passed = [a + b for a, b in zip(passed, w, strict=True)]
  sums = [a + b for a, b in zip(sums, gains, strict=True)]
  return ((passed, lower, level), sums), None


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
