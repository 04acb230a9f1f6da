"""Calibration: are probabilities frequencies, and where are they cut?

A logistic function makes probabilities of the logits of a probe. Temperature
scaling (Guo et al., ICML 2017, section 4.2) divides all logits by one number
before, which is fitted on validation. A label is said to be present from a
threshold on: that of the greatest sum of sensitivity and specificity on
validation (Youden 1950). Test decides nothing.

Of every number it is the mean over the labels that count, and over training
subsets:

- Brier score: mean square of the difference of probability and label.
- Calibration error: in 15 bins of equal width, the distance of the mean
  probability from the share of positives, weighted by the records of a bin
  (the expected calibration error of one label).
- Sensitivity and specificity at the thresholds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from cgdmer_jax.evaluators.scores import calibration, scoring, statistics
from cgdmer_jax.evaluators.scores.findings import (
  Findings,
  Measure,
  Outcome,
  TestSet,
)


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float | None:
  """The score from which on a record counts as positive.

  Args:
    labels: (N,) 0 or 1.
    scores: (N,).

  Returns:
    The largest score with the greatest sensitivity + specificity; None where
    one class is lacking.
  """
  positive = int(labels.sum())
  if not 0 < positive < len(labels):
    return None
  order = np.argsort(-scores, kind="stable")
  y, x = labels[order].astype(np.int64), scores[order]
  gain = np.cumsum(y) / positive - np.cumsum(1 - y) / (len(y) - positive)
  is_last = np.append(x[1:] != x[:-1], True)  # of equal scores
  return float(x[np.argmax(np.where(is_last, gain, -np.inf))])


def measure(
  test: TestSet,
  outcome: Outcome,
  validation_scores: np.ndarray,
  validation_labels: np.ndarray,
  seed: int = 0,
) -> tuple[list[Measure], dict[str, Any]]:
  """Calibrates logits on validation and measures them on test.

  Args:
    test: the N test records.
    outcome: with logits (K, N, L) of K training subsets.
    validation_scores: (K, M, L) logits.
    validation_labels: (M, L) 0 or 1.
    seed: decides the resampling.

  Returns:
    Measures with intervals, and what was fitted: temperatures (K), thresholds
    (probabilities after scaling; K of each label). Both are empty if no label
    counts.
  """
  evaluation = outcome.evaluation
  columns = np.flatnonzero(
    scoring.counted_labels(test.labels, evaluation.min_positives)
  )
  if not len(columns):
    return [], {}
  weights = statistics.subject_weights(
    test.subjects, evaluation.num_bootstrap, seed
  )
  # The first column is the test set as it is, the others are its resamples.
  weights = np.concatenate([np.ones((len(weights), 1)), weights], axis=1)
  numbers: dict[str, list[np.ndarray]] = {name: [] for name in _NAMES}
  temperatures = []
  thresholds = {test.label_names[j]: [] for j in columns}
  for logits, known in zip(outcome.scores, validation_scores, strict=True):
    temperature = calibration.fit_temperature(known, validation_labels)
    temperatures.append(temperature)
    for j in columns:
      cut = youden_threshold(validation_labels[:, j], known[:, j])
      thresholds[test.label_names[j]].append(
        None if cut is None else float(scipy.special.expit(cut / temperature))
      )
      values = _label(
        test.labels[:, j], logits[:, j], temperature, cut, weights
      )
      for name, value in values.items():
        numbers[name].append(value)
  measures = [
    _mean_measure(outcome.setting, name, listed)
    for name, listed in numbers.items()
    if listed
  ]
  return measures, {"temperatures": temperatures, "thresholds": thresholds}


_NAMES = {  # better
  "Brier score": "lower",
  "Brier score before scaling": "lower",
  "calibration error": "lower",
  "calibration error before scaling": "lower",
  "sensitivity": "higher",
  "specificity": "higher",
}


def _label(
  labels: np.ndarray,
  logits: np.ndarray,
  temperature: float,
  cut: float | None,
  weights: np.ndarray,
) -> dict[str, np.ndarray]:
  """Every number of one label in each resample, (R,) each."""
  values = {}
  for suffix, x in (("", logits / temperature), (" before scaling", logits)):
    p = scipy.special.expit(np.asarray(x, np.float64))
    values[f"Brier score{suffix}"] = calibration.ratio(
      weights.T @ (p - labels) ** 2, weights.sum(0)
    )
    values[f"calibration error{suffix}"] = calibration.calibration_errors(
      labels, p, weights
    )
  if cut is not None:
    right = (logits >= cut) == labels
    for name, group in (("sensitivity", labels), ("specificity", 1 - labels)):
      values[name] = calibration.ratio(
        weights.T @ (right * group), weights.T @ group
      )
  return values


def _mean_measure(setting: str, name: str, values: list[np.ndarray]) -> Measure:
  """The mean of a number over labels and subsets, those that are defined."""
  x = np.array(values)
  is_known = np.isfinite(x)
  mean = calibration.ratio(
    np.where(is_known, x, 0).sum(0), is_known.sum(0).astype(float)
  )
  samples = mean[1:].astype(np.float32)
  estimate = scoring.estimate(mean[0], samples)
  return Measure(setting, name, _NAMES[name], estimate, samples, main=False)


def add(
  findings: Findings,
  validation_scores: Sequence[np.ndarray],
  validation_labels: np.ndarray,
) -> Findings:
  """Findings of a probe with its calibration.

  Args:
    findings: outcomes with logits.
    validation_scores: (K, M, L) logits of each outcome.
    validation_labels: (M, L) 0 or 1.

  Returns:
    The findings, with measures of each outcome, and among the details, under
    "calibration_" and the first word of the settings, what was fitted, and the
    last outcome in words.
  """
  if not findings.outcomes:
    return findings
  measures, details = [], {}
  name = findings.outcomes[0].setting.split("_")[0]
  for outcome, known in zip(findings.outcomes, validation_scores, strict=True):
    listed, fitted = measure(findings.test, outcome, known, validation_labels)
    measures += listed
    if fitted:
      text = f"{outcome.setting}: {_sentence(listed, fitted['temperatures'])}"
      details |= {outcome.setting: fitted, "text": text}
  return dataclasses.replace(
    findings,
    measures=(*findings.measures, *measures),
    details=findings.details | {f"calibration_{name}": details},
  )


def _sentence(measures: list[Measure], temperatures: list[float]) -> str:
  """What stands below a table: the numbers of one outcome in words."""
  value = {m.name: f"{m.estimate.value:.3f}" for m in measures}
  text = (
    f"Brier score {value['Brier score']}, calibration error"
    f" {value['calibration error']} at temperature {np.mean(temperatures):.2f}"
    f" ({value['Brier score before scaling']},"
    f" {value['calibration error before scaling']} without)"
  )
  if "sensitivity" in value:
    text += (
      f"; at thresholds of validation sensitivity {value['sensitivity']},"
      f" specificity {value['specificity']}"
    )
  return text
