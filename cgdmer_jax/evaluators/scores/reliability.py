"""How far probabilities of several labels are from frequencies.

All pairs of a record and a label are pooled, in bins of equal width, as the
expected calibration error counts them (`calibration.py`). This error is never
negative, so chance makes it larger, in a test set and once more in a resample
of it. Hence its intervals are those of the basic bootstrap over subjects, which
turns the second bias round (Davison and Hinkley 1997, section 5.2), and beside
it stands what chance alone makes of probabilities that are right.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cgdmer_jax.evaluators.scores import calibration, statistics
from cgdmer_jax.evaluators.scores.findings import Estimate

_DRAWS = 50


@dataclasses.dataclass(frozen=True)
class Reliability:
  """Probabilities beside frequencies.

  Attributes:
    error: expected calibration error of all pairs.
    label_error: mean over labels of that of each label alone.
    floor, label_floor: the same, expected of labels that are drawn with these
      probabilities.
    predicted: (bins,) mean probability, NaN in empty bins.
    observed: (bins,) share of positives.
    low, high: (bins,) its 95 % interval.
    counts: (bins,) pairs.
  """

  error: Estimate
  label_error: Estimate
  floor: float
  label_floor: float
  predicted: np.ndarray
  observed: np.ndarray
  low: np.ndarray
  high: np.ndarray
  counts: np.ndarray


def measure(
  probabilities: np.ndarray,
  labels: np.ndarray,
  subjects: np.ndarray,
  num_bootstrap: int = 1000,
  seed: int = 0,
) -> Reliability:
  """Compares probabilities with labels.

  Args:
    probabilities: (N, L).
    labels: (N, L) 0 or 1.
    subjects: (N,) patients, empty if unknown.
    num_bootstrap: resamples of patients.
    seed: decides them.
  """
  p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.float64)
  draws = statistics.subject_weights(subjects, num_bootstrap, seed)
  # The first column is the test set as it is, the others are its resamples.
  weights = np.concatenate([np.ones((len(p), 1)), draws], axis=1)
  number = calibration.NUM_BINS
  rng = np.random.default_rng(seed)
  bins = np.minimum((p * number).astype(int), number - 1)

  def add_up(values: np.ndarray) -> np.ndarray:
    """Sum over pairs, (bins, 1 + R)."""
    at = bins + number * np.arange(len(p))[:, None]
    each = np.bincount(at.ravel(), values.ravel(), number * len(p))
    return each.reshape(len(p), number).T @ weights

  count, positive, total = add_up(np.ones_like(p)), add_up(y), add_up(p)

  def label_errors(y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    each = [
      calibration.calibration_errors(y[:, k], p[:, k], weights)
      for k in range(y.shape[1])
    ]
    return np.mean(each, axis=0)

  error = np.abs(total - positive).sum(0) / count.sum(0)
  once = np.ones((len(p), 1))
  by_chance = [
    (calibration.expected_calibration_error(p, x), label_errors(x, once)[0])
    for x in ((rng.random(p.shape) < p).astype(float) for _ in range(_DRAWS))
  ]
  floor, label_floor = np.mean(by_chance, axis=0).tolist()
  observed = calibration.ratio(positive, count)
  limits = [statistics.interval(row[1:]) for row in observed]
  return Reliability(
    _estimate(error),
    _estimate(label_errors(y, weights)),
    floor,
    label_floor,
    calibration.ratio(total, count)[:, 0],
    observed[:, 0],
    np.array([low for low, _ in limits]),
    np.array([high for _, high in limits]),
    count[:, 0].astype(int),
  )


def _estimate(samples: np.ndarray) -> Estimate:
  """The first value, with the basic bootstrap interval of the others."""
  value = float(samples[0])
  low, high = statistics.interval(samples[1:])
  return Estimate(value, max(2 * value - high, 0.0), max(2 * value - low, 0.0))
