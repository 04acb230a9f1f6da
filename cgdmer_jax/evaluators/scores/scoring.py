"""From scores of test records to outcomes and measures with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import ranking, statistics
from cgdmer_jax.evaluators.scores.findings import (
  Estimate,
  Evaluation,
  LabelScore,
  Measure,
  Outcome,
  TestSet,
)


def check_arrays(
  name: str, rows: int, labels: np.ndarray, label_names: Sequence[str]
) -> np.ndarray:
  """Labels of one split as uint8, after checks that name what is wrong.

  Args:
    name: the split, for the message.
    rows: N of the features or scores that go with the labels.
    labels: (N, L) 0 or 1.
    label_names: L names.

  Returns:
    (N, L) uint8.

  Raises:
    ValueError: shapes disagree, or a value is neither 0 nor 1.
  """
  labels = np.asarray(labels)
  if labels.shape != (rows, len(label_names)):
    raise ValueError(
      f"{name}: labels have shape {labels.shape}, expected"
      f" ({rows}, {len(label_names)})"
    )
  if not np.isin(labels, (0, 1)).all():
    raise ValueError(f"{name}: labels must be 0 or 1")
  return labels.astype(np.uint8)


def make_test_set(
  subjects: np.ndarray,
  labels: np.ndarray,
  label_names: Sequence[str],
  record_ids: np.ndarray | None = None,
) -> tuple[TestSet, np.ndarray]:
  """Test records that belong to the label set.

  A record without any label of the set is not part of it: the rule of the
  published PTB-XL benchmark (Strodthoff et al., IEEE JBHI 2021).

  Args:
    subjects: (N,) subject ids.
    labels: (N, L) 0 or 1.
    label_names: L names.
    record_ids: (N,) ids; None numbers the records.

  Returns:
    The test set of M <= N records, and which of the N they are, (N,) bool.

  Raises:
    UserError: no record carries a label.
  """
  labels = check_arrays("test", len(subjects), labels, label_names)
  belongs = labels.any(axis=1)
  if not belongs.any():
    raise UserError(
      f"no test record carries any of the labels {', '.join(label_names)};"
      " check the data set and its label set"
    )
  ids = np.arange(len(subjects)) if record_ids is None else record_ids
  test = TestSet(
    record_ids=np.asarray(ids).astype(str)[belongs],
    subjects=np.asarray(subjects).astype(str)[belongs],
    labels=labels[belongs],
    label_names=tuple(label_names),
  )
  return test, belongs


def counted_labels(labels: np.ndarray, min_positives: int) -> np.ndarray:
  """Which labels enter the macro average.

  Args:
    labels: (N, L) 0 or 1.
    min_positives: least number of positives, and of negatives, a label needs;
      an average over labels with a handful of positives is mostly noise.

  Returns:
    (L,) bool.
  """
  positive = labels.sum(axis=0, dtype=np.int64)
  least = max(1, min_positives)
  return (positive >= least) & (len(labels) - positive >= least)


def evaluate(
  test: TestSet,
  setting: str,
  scores: np.ndarray,
  *,
  min_positives: int = 10,
  num_bootstrap: int = 1000,
  seed: int = 0,
  **training: Any,
) -> Outcome:
  """Scores per label and macro, with intervals over subjects.

  Args:
    test: N records, L labels.
    setting: name of what gave the scores.
    scores: (K, N, L) or (N, L); the higher, the more likely the label. Only the
      order of records within a label matters.
    min_positives: see `counted_labels`.
    num_bootstrap: resamples of subjects.
    seed: decides the resampling; equal seeds pair the draws of models.
    **training: further fields of the outcome.

  Returns:
    The outcome.

  Raises:
    ValueError: a score is not finite or shapes disagree.
  """
  scores = seeds_first(test, scores)
  counted = counted_labels(test.labels, min_positives)
  weights = statistics.subject_weights(test.subjects, num_bootstrap, seed)
  samples = np.stack(
    statistics.bootstrap(
      test.labels[:, counted], scores[:, :, counted], weights
    )
  )
  evaluation = summarise(test, scores, samples, min_positives)
  return Outcome(setting, evaluation, scores, samples, **training)


def pool(test: TestSet, outcomes: Sequence[Outcome]) -> Outcome:
  """One outcome of models that differ by their pretraining seed only."""
  first = outcomes[0]
  scores = np.concatenate([o.scores for o in outcomes])
  samples = np.average(
    [o.samples for o in outcomes],
    axis=0,
    weights=[len(o.scores) for o in outcomes],
  )
  return dataclasses.replace(
    first,
    evaluation=summarise(test, scores, samples, first.evaluation.min_positives),
    scores=scores,
    samples=samples,
    strengths=sum((o.strengths for o in outcomes), ()),
    not_converged=sum(o.not_converged for o in outcomes),
  )


def summarise(
  test: TestSet, scores: np.ndarray, samples: np.ndarray, min_positives: int
) -> Evaluation:
  """What scores (K, N, L) and their resamples (2, L', R) say."""
  columns = np.flatnonzero(counted_labels(test.labels, min_positives))
  labels, scores = test.labels[:, columns], scores[:, :, columns]
  aurocs = _per_label(ranking.auroc, labels, scores)
  precisions = _per_label(ranking.average_precision, labels, scores)
  place = {j: i for i, j in enumerate(columns)}
  rows = []
  for j, name in enumerate(test.label_names):
    positive = int(test.labels[:, j].sum())
    negative = len(test.labels) - positive
    i = place.get(j)
    rows.append(
      LabelScore(
        name=name,
        num_positive=positive,
        num_negative=negative,
        prevalence=positive / len(test.labels),
        auroc=None
        if i is None
        else estimate(aurocs[:, i].mean(), samples[0, i]),
        auprc=None
        if i is None
        else estimate(precisions[:, i].mean(), samples[1, i]),
        skipped=""
        if i is not None
        else _skip_reason(positive, negative, min_positives),
      )
    )
  macro = Estimate(None, None, None)
  macro_auprc, seed_std = macro, None
  if len(columns):
    macro = estimate(aurocs.mean(), statistics.macro(samples[0]))
    macro_auprc = estimate(precisions.mean(), statistics.macro(samples[1]))
    if len(scores) > 1:
      seed_std = float(aurocs.mean(axis=1).std(ddof=1))
  return Evaluation(
    labels=tuple(rows),
    macro_auroc=macro,
    macro_auprc=macro_auprc,
    seed_std=seed_std,
    num_records=len(test.labels),
    num_subjects=int(statistics.number_subjects(test.subjects).max()) + 1,
    num_seeds=len(scores),
    min_positives=min_positives,
    num_bootstrap=samples.shape[-1],
  )


def _per_label(
  score: Callable[[np.ndarray, np.ndarray], float],
  labels: np.ndarray,
  scores: np.ndarray,
) -> np.ndarray:
  """Applies score(labels, scores) to each seed and label, (K, L)."""
  return np.array(
    [[score(y, x) for y, x in zip(labels.T, k.T, strict=True)] for k in scores]
  )


def seeds_first(test: TestSet, scores: np.ndarray) -> np.ndarray:
  """Scores (K, N, L) or (N, L) as (K, N, L); ValueError unless they fit."""
  scores = np.asarray(scores)
  scores = scores[None] if scores.ndim == 2 else scores
  if scores.ndim != 3 or scores.shape[1:] != test.labels.shape:
    raise ValueError(
      f"scores have shape {scores.shape}, expected (K, *{test.labels.shape})"
    )
  if not np.isfinite(scores).all():
    raise ValueError("scores must be finite")
  return scores


def mean_measure(
  setting: str,
  name: str,
  better: str,
  values: np.ndarray,
  weights: np.ndarray,
  counts: np.ndarray | None = None,
  **fields: Any,
) -> Measure:
  """A measure that is a mean over records, or a ratio of two sums over them.

  Args:
    setting: see `Measure`, as are the next two.
    name: what is measured.
    better: "higher", "lower" or "".
    values: (N,) summed over the records.
    weights: (N, R) of `statistics.subject_weights`.
    counts: (N,) that the sum of values is divided by the sum of; None: ones.
    **fields: further fields of the measure.
  """
  counts = np.ones(len(values)) if counts is None else counts
  total = weights.T @ counts
  samples = np.divide(
    weights.T @ values,
    total,
    out=np.full(total.shape, np.nan),
    where=total > 0,
  ).astype(np.float32)
  value = float(values.sum() / counts.sum())
  return Measure(
    setting, name, better, estimate(value, samples), samples, **fields
  )


def estimate(value: float, samples: np.ndarray) -> Estimate:
  """Value with the 95 % percentile interval of its resamples (R,)."""
  low, high = statistics.interval(samples)
  defined = np.isfinite(low)
  return Estimate(
    float(value), low if defined else None, high if defined else None
  )


def _skip_reason(positive: int, negative: int, least: int) -> str:
  """Why a label with so many positives and negatives does not count."""
  if not positive:
    return "no positive in test"
  if not negative:
    return "no negative in test"
  if positive < least:
    return f"{positive} positive in test, fewer than {least}"
  return f"{negative} negative in test, fewer than {least}"
