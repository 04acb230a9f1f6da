import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from cgdmer_jax.evaluators.scores import calibration


def test_platt_is_logistic_regression_on_his_targets():
  rng = np.random.default_rng(0)
  scores = rng.normal(0.3, 0.1, 400)
  labels = (rng.random(400) < 1 / (1 + np.exp(-12 * (scores - 0.4)))) * 1
  slope, offset = calibration.fit_platt(scores, labels)
  n1 = labels.sum()
  n0 = len(labels) - n1
  high, low = (n1 + 1) / (n1 + 2), 1 / (n0 + 2)
  target = np.where(labels, high, low)
  # Each record twice: as a positive with its target, as a negative with 1 - it.
  model = LogisticRegression(C=1e9, tol=1e-12, max_iter=10_000)
  model.fit(
    np.r_[scores, scores][:, None],
    np.r_[np.ones(400), np.zeros(400)],
    np.r_[target, 1 - target],
  )
  assert slope == pytest.approx(model.coef_[0, 0], rel=1e-3)
  assert offset == pytest.approx(model.intercept_[0], rel=1e-3)


def test_separated_and_falling_scores():
  slope, offset = calibration.fit_platt(np.arange(10.0), np.arange(10) > 4)
  p = 1 / (1 + np.exp(-(slope * np.arange(10.0) + offset)))
  assert np.isfinite(slope) and p.min() > 0.05 and p.max() < 0.95
  slope, offset = calibration.fit_platt(np.arange(10.0), np.arange(10) < 5)
  assert slope == 0 and offset == pytest.approx(0)
  with pytest.raises(ValueError, match="positive and negative"):
    calibration.fit_platt(np.arange(3.0), np.zeros(3))


def test_calibration_error_by_hand():
  p = [0.1, 0.1, 0.9, 0.9, 1.0]
  y = [0, 1, 1, 1, 0]
  # Bins of a tenth: 0.1, two records; 0.9 with 1.0, three.
  expected = (abs(0.2 - 1) + abs(2.8 - 2)) / 5
  error = calibration.expected_calibration_error(np.array(p), np.array(y), 10)
  assert error == pytest.approx(expected)
