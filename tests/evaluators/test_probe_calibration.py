"""Calibration against scikit-learn, loops and planted probabilities."""

import json

import numpy as np
import pytest
import scipy.special
from sklearn import metrics

from cgdmer_jax.evaluators.scores import (
  calibration,
  probe_calibration,
  scoring,
)


def planted(n, temperature=1.0, seed=0):
  """Logits that are right but for a temperature, and labels; the last is 1."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(-0.5, 2, (n, 3))
  labels = (rng.random((n, 3)) < scipy.special.expit(logits)).astype(np.uint8)
  logits[:, 2], labels[:, 2] = 20, 1
  return (logits * temperature).astype(np.float32), labels


def measure(scores, labels, validation, validation_labels):
  subjects = np.arange(len(labels)) // 2
  test, _ = scoring.make_test_set(subjects, labels, ("a", "b", "c"))
  outcome = scoring.evaluate(test, "probe_100", scores, num_bootstrap=200)
  measures, fitted = probe_calibration.measure(
    test, outcome, validation, validation_labels
  )
  return {m.name: m for m in measures}, fitted


def test_a_planted_temperature_is_found():
  logits, labels = planted(20_000, 3.0)
  found = calibration.fit_temperature(logits[:, :2], labels[:, :2])
  assert found == pytest.approx(3, rel=0.03)
  # Nothing to be sure of, and nothing wrong.
  assert calibration.fit_temperature(logits[:, :1], 1 - labels[:, :1]) > 99
  assert calibration.fit_temperature(np.ones((9, 1)), np.ones((9, 1))) < 0.011


def test_thresholds_are_those_of_the_roc_curve():
  rng = np.random.default_rng(1)
  for _ in range(20):
    scores = rng.integers(0, 12, 60).astype(float)  # many are equal
    labels = (rng.random(60) < scores / 12).astype(np.uint8)
    fpr, tpr, cuts = metrics.roc_curve(labels, scores, drop_intermediate=False)
    ours = probe_calibration.youden_threshold(labels, scores)
    assert ours == cuts[1:][np.argmax((tpr - fpr)[1:])]
  assert (
    probe_calibration.youden_threshold(np.ones(4, np.uint8), scores[:4]) is None
  )


def test_numbers_are_those_of_scikit_learn_and_of_loops():
  known = planted(3000, 2.0, seed=1)
  scores, labels = planted(1000, 2.0)
  found, fitted = measure(scores, labels, known[0][None], known[1])
  (temperature,) = fitted["temperatures"]
  assert temperature == pytest.approx(2, rel=0.1)
  for suffix, t in (("", temperature), (" before scaling", 1.0)):
    p = scipy.special.expit(scores[:, :2].astype(float) / t)
    brier = [metrics.brier_score_loss(labels[:, j], p[:, j]) for j in range(2)]
    value = found[f"Brier score{suffix}"].estimate.value
    assert value == pytest.approx(np.mean(brier), rel=1e-6)
    errors = []
    for j in range(2):
      total = 0.0
      for b in range(15):
        inside = (p[:, j] >= b / 15) & (p[:, j] < (b + 1) / 15)
        if inside.any():
          gap = p[inside, j].mean() - labels[inside, j].mean()
          total += inside.mean() * abs(gap)
      errors.append(total)
    value = found[f"calibration error{suffix}"].estimate.value
    assert value == pytest.approx(np.mean(errors), rel=1e-6)
  rates = []
  for j, name in enumerate("ab"):
    (cut,) = fitted["thresholds"][name]
    said = scipy.special.expit(scores[:, j].astype(float) / temperature) >= cut
    (tn, fp), (fn, tp) = metrics.confusion_matrix(labels[:, j], said)
    rates.append((tp / (tp + fn), tn / (tn + fp)))
  for name, value in zip(
    ("sensitivity", "specificity"), np.mean(rates, 0), strict=True
  ):
    assert found[name].estimate.value == pytest.approx(value)
  # Scaling helps, and intervals are about the values.
  after, before = (
    found[f"calibration error{s}"].estimate for s in ("", " before scaling")
  )
  assert after.high < before.low
  assert all(len(m.samples) == 200 and not m.main for m in found.values())
  text = probe_calibration._sentence([*found.values()], [temperature])
  assert f"calibration error {after.value:.3f} at temperature" in text
  assert list(fitted["thresholds"]) == ["a", "b"]  # c is in all records


def test_a_class_that_validation_lacks_has_no_threshold():
  scores, labels = planted(200)
  known = np.zeros((50, 3), np.float32)
  nothing = np.zeros((50, 3), np.uint8)
  nothing[:, 2] = 1
  found, fitted = measure(
    np.stack([scores] * 2), labels, np.stack([known] * 2), nothing
  )
  assert "sensitivity" not in found
  assert fitted["thresholds"] == {"a": [None] * 2, "b": [None] * 2}
  json.dumps(fitted, allow_nan=False)
  assert "thresholds" not in probe_calibration._sentence(
    [*found.values()], [1.0]
  )
  few, fitted = measure(scores[:8], labels[:8], known[None], nothing)
  assert (few, fitted) == ({}, {})
