"""From scores to probabilities, and how far these are from frequencies."""

from __future__ import annotations

import numpy as np
import scipy.optimize

NUM_BINS = 15
_STEPS = 100
_RIDGE = 1e-6  # keeps the slope finite where a threshold separates the classes


def fit_platt(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
  """Fits sigmoid(slope score + offset) to labels.

  Platt 1999, with his targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2): no
  probability becomes 0 or 1 from a few records. A score that falls with the
  label says nothing: its slope is 0, and the probability is the frequency.

  Args:
    scores: (N,).
    labels: (N,) 0 or 1, both of them there.

  Raises:
    ValueError: a class is not there.
  """
  scores = np.asarray(scores, np.float64)
  is_positive = np.asarray(labels, bool)
  positives, negatives = is_positive.sum(), (~is_positive).sum()
  if not positives or not negatives:
    raise ValueError("calibration needs positive and negative records")
  high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
  target = np.where(is_positive, high, low)
  center, scale = scores.mean(), scores.std() or 1.0
  x = np.stack([(scores - center) / scale, np.ones_like(scores)], axis=1)
  w = np.array([0.0, np.log((positives + 1) / (negatives + 1))])
  ridge = _RIDGE * len(scores) * np.eye(2)

  def loss(w):
    z = x @ w
    return (np.logaddexp(0, z) - target * z).sum() + w @ ridge @ w / 2

  for _ in range(_STEPS):
    p = 1 / (1 + np.exp(-x @ w))
    gradient = x.T @ (p - target) + ridge @ w
    step = np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, gradient)
    size = 1.0
    while size > 1e-6 and loss(w - size * step) > loss(w):
      size /= 2
    w = w - size * step
    if np.abs(step).max() < 1e-10:
      break
  slope = w[0] / scale
  if slope <= 0:
    mean = target.mean()
    return 0.0, float(np.log(mean / (1 - mean)))
  return float(slope), float(w[1] - slope * center)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
  """The temperature of least log-loss, between 1/100 and 100.

  All logits are divided by it (Guo et al., ICML 2017, section 4.2).

  Args:
    logits: (N, L) of records that were not trained on.
    labels: (N, L) 0 or 1.
  """
  sign = 1.0 - 2.0 * labels

  def loss(log_temperature: float) -> float:
    x = sign * logits * np.exp(-log_temperature)
    return float(np.logaddexp(0, x).mean())

  bound = np.log(100)
  found = scipy.optimize.minimize_scalar(
    loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-4}
  )
  return float(np.exp(found.x))


def calibration_errors(
  labels: np.ndarray,
  probabilities: np.ndarray,
  weights: np.ndarray,
  num_bins: int = NUM_BINS,
) -> np.ndarray:
  """The calibration error in each resample.

  Mean distance of probability and frequency over bins of equal width, each of
  which counts by its records (Naeini et al. 2015, AAAI).

  Args:
    labels: (N,) 0 or 1.
    probabilities: (N,).
    weights: (N, R), how often each record is drawn.
    num_bins: number of bins.

  Returns:
    (R,), NaN where nothing is drawn.
  """
  bins = np.minimum((probabilities * num_bins).astype(int), num_bins - 1)
  gap = probabilities - labels
  gaps = (bins[:, None] == np.arange(num_bins)) * gap[:, None]
  return ratio(np.abs(weights.T @ gaps).sum(1), weights.sum(0))


def expected_calibration_error(
  probabilities: np.ndarray, labels: np.ndarray, num_bins: int = NUM_BINS
) -> float:
  """`calibration_errors` of all entries of arrays of any shape, pooled."""
  p = np.ravel(probabilities).astype(np.float64)
  y = np.ravel(labels).astype(np.float64)
  return float(calibration_errors(y, p, np.ones((len(p), 1)), num_bins)[0])


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Divides; NaN where b is 0."""
  return np.divide(a, b, out=np.full(a.shape, np.nan), where=b > 0)
