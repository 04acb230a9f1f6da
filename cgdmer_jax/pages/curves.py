"""Charts of a workdir: losses, ROC, calibration, embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special

from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Outcome
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.figures import curves
from cgdmer_jax.pages.charts import Panel, Series, reach

GRID = np.linspace(0, 1, 101)  # false positive rates
MAX_LABELS = 8  # with a ROC curve of their own
NUM_BINS = 10
MIN_IN_BIN = 20
_MAX_POINTS = 300  # of a loss curve


def losses(rows: Sequence[Mapping[str, float | None]]) -> list[Panel]:
  """A panel for each term: training, and validation with markers.

  Args:
    rows: of `metrics.jsonl`.
  """
  panels = []
  for name, by_prefix in curves.panels(rows, "step").items():
    series = []
    for prefix, (x, y) in by_prefix.items():
      is_validation = prefix == "validation"
      is_known = np.isfinite(y)
      if not is_known.any():
        continue
      steps, values = np.array(x)[is_known], np.array(y)[is_known]
      if len(values) > _MAX_POINTS:
        values = curves.running_mean(values, len(values) // 50)
        keep = np.linspace(0, len(values) - 1, _MAX_POINTS).astype(int)
        steps, values = steps[keep], values[keep]
      series.append(Series(int(is_validation), steps, values))
      if len(values) <= 60:
        series.append(Series(int(is_validation), steps, values, False))
    if not series:
      continue
    panels.append(
      Panel(
        *(name.replace("_", " "), "step", ""),
        reach([s.x for s in series], 0.02),
        reach([s.y for s in series]),
        tuple(series),
      )
    )
  return panels


def roc(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """True positive rate at the false positive rates of `GRID`.

  Args:
    labels: (N,) 0 or 1, both of them there.
    scores: (N,).
  """
  order = np.argsort(-scores, kind="stable")
  positive = labels[order].astype(bool)
  is_last = np.append(scores[order][1:] != scores[order][:-1], True)
  hits = np.cumsum(positive)[is_last] / positive.sum()
  misses = np.cumsum(~positive)[is_last] / (~positive).sum()
  # At a step the upper end counts.
  return np.interp(GRID, np.append(0, misses), np.append(0, hits))


def rocs(by_encoder: Mapping[int, Sequence[Outcome]], test: Any) -> list[Panel]:
  """ROC curves: the mean over labels, then of the most frequent labels.

  The area below the mean curve is the macro AUROC. Means are over pretraining
  seeds and training subsets, too.

  Args:
    by_encoder: number of an encoder, which decides its colour -> outcomes of
      one setting, on the same records.
    test: the records, a `findings.TestSet`.

  Returns:
    Panels; none if no label counts. The title of the first one is empty, those
    of the others are codes.
  """
  first = next(iter(by_encoder.values()))[0]
  counted = np.flatnonzero(
    scoring.counted_labels(test.labels, first.evaluation.min_positives)
  )
  if not len(counted):
    return []
  means = []
  for outcomes in by_encoder.values():
    every = np.concatenate([o.scores for o in outcomes])
    means.append(
      np.array(
        [
          np.mean([roc(test.labels[:, j], s[:, j]) for s in every], axis=0)
          for j in counted
        ]
      )
    )
  numbers = list(by_encoder)
  panels = [_roc_panel("", numbers, [x.mean(axis=0) for x in means])]
  if len(counted) > 1:
    order = np.argsort(-test.labels[:, counted].sum(axis=0), kind="stable")
    for k in order[:MAX_LABELS]:
      name = test.label_names[counted[k]]
      panels.append(_roc_panel(name, numbers, [x[k] for x in means]))
  return panels


def _roc_panel(
  title: str, numbers: Sequence[int], rates: Sequence[np.ndarray]
) -> Panel:
  series = [
    Series(k, np.append(0, GRID), np.append(0, y))
    for k, y in zip(numbers, rates, strict=True)
  ]
  axes = "false alarms (1 - specificity)", "found (sensitivity)"
  ends = (0.0, 1.0), (0.0, 1.0)
  return Panel(title, *axes, *ends, tuple(series[::-1]), has_diagonal=True)


def calibration(
  by_encoder: Mapping[int, Sequence[Result]], setting: str
) -> Panel | None:
  """Probabilities of a probe against frequencies, pooled over labels.

  Probabilities are those after temperature scaling on validation records.
  `NUM_BINS` bins of equal width; those with less than `MIN_IN_BIN` entries are
  left out. Intervals are Wilson's (1927), as if entries were independent.

  Args:
    by_encoder: number of an encoder -> results of one task, on the same
      records.
    setting: of their outcomes.

  Returns:
    A panel; None where nothing was calibrated.
  """
  series = []
  for k, every in by_encoder.items():
    p, y = [], []
    for result in every:
      key = f"calibration_{setting.split('_')[0]}"
      fitted = result.findings.details.get(key, {}).get(setting)
      if not fitted:
        continue
      test = result.findings.test
      (outcome,) = (o for o in result.findings.outcomes if o.setting == setting)
      counted = scoring.counted_labels(
        test.labels, outcome.evaluation.min_positives
      )
      for logits, t in zip(outcome.scores, fitted["temperatures"], strict=True):
        logits = logits[:, counted].astype(np.float64)
        p.append(scipy.special.expit(logits / t).ravel())
        y.append(test.labels[:, counted].ravel())
    if p:
      x, *rest = reliability(np.concatenate(p), np.concatenate(y))
      series.append(Series(k, x, rest[0], False, *rest[1:]))
      series.append(Series(k, x, rest[0]))
  if not any(len(s.x) for s in series):
    return None
  axes = "probability, mean of a bin", "share that has the label"
  ends = (0.0, 1.0), (0.0, 1.0)
  shown = tuple(s for s in series[::-1] if len(s.x))
  return Panel("", *axes, *ends, shown, has_diagonal=True)


def reliability(
  probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Bins of a reliability curve.

  Args:
    probabilities: (N,).
    labels: (N,) 0 or 1.

  Returns:
    Mean probability, frequency, and the ends of its 95 % interval in each bin
    with enough entries.
  """
  bins = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
  n = np.bincount(bins, minlength=NUM_BINS).astype(float)
  enough = n >= MIN_IN_BIN
  n = n[enough]
  x, share = (
    np.bincount(bins, v, NUM_BINS)[enough] / n for v in (probabilities, labels)
  )
  z = 1.959964
  middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
  half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
  half /= 1 + z**2 / n
  return x, share, middle - half, middle + half


def embedding_map(result: Result) -> tuple[Panel, list[str]] | None:
  """Test records in two principal components, by label.

  Returns:
    The panel, and the codes of the labels by series; records with several
    labels or a rare one are faint and belong to the last series. None where
    the result has no map.
  """
  places = result.findings.details.get("map")
  if not places:
    return None
  test = result.findings.test
  labels = test.labels[places["rows"]].astype(bool)
  x, y = np.array(places["x"]), np.array(places["y"])
  shown = np.argsort(-labels.sum(axis=0), kind="stable")[:5]
  shown = [j for j in shown if labels[:, j].any()]
  is_single = labels.sum(axis=1) == 1
  series = []
  rest = np.ones(len(x), bool)
  for k, j in enumerate(shown):
    chosen = is_single & labels[:, j]
    rest &= ~chosen
    series.append(Series(k, x[chosen], y[chosen], False))
  series.append(Series(0, x[rest], y[rest], False, is_faint=True))
  first, second = places["shares"]
  panel = Panel(
    *(result.encoder.name, f"{first:.0%} of the variance"),
    f"{second:.0%} of the variance",
    *(reach([x]), reach([y])),
    tuple(s for s in series[::-1] if len(s.x)),
    has_numbers=False,
  )
  return panel, [test.label_names[j] for j in shown]
