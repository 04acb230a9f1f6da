"""What separates encoders on the same test records.

A point estimate that is higher says little: the difference to the best row is
resampled and tested with both encoders on the same subjects each time. Encoders
that differ in their pretraining seed alone are one row, the mean over them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.evaluators.scores.findings import (
  Estimate,
  LabelScore,
  Measure,
  Outcome,
  TestSet,
)
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.evaluators.scores.row import MACRO, Row

# Data set, task, label set.
_Topic = tuple[str, str, str]


def difference(
  test: TestSet,
  a: Outcome,
  b: Outcome,
  *,
  num_permutations: int = 1000,
  seed: int = 0,
) -> tuple[Estimate, float | None]:
  """Paired difference of two macro AUROCs, a minus b.

  Args:
    test: the records of both.
    a: an outcome.
    b: another, with the same resamples of subjects.
    num_permutations: swaps of the permutation test.
    seed: decides the swaps.

  Returns:
    The difference with its interval, and the p value of the permutation test;
    None without any label that counts.
  """
  minus = _minus(_macro_auroc(a), _macro_auroc(b))
  if minus.value is None:
    return minus, None
  counted = scoring.counted_labels(test.labels, a.evaluation.min_positives)
  seeds = math.lcm(len(a.scores), len(b.scores))
  permutation = statistics.permutation_test(
    test.labels[:, counted],
    *(
      np.tile(o.scores, (seeds // len(o.scores), 1, 1))[:, :, counted]
      for o in (a, b)
    ),
    test.subjects,
    num_permutations,
    seed,
  )
  return minus, permutation.p_value


def compare_all(
  every: Iterable[Result], num_permutations: int = 1000
) -> list[Row]:
  """Every number of every result, beside the best encoder's.

  Args:
    every: results; those of one task, data set and label set must be about the
      same test records.
    num_permutations: least number of swaps of a permutation test. Where many
      encoders are compared there are more: with too few, the corrected p would
      be above 0.05 whatever the difference.

  Raises:
    UserError: they are not.
  """
  topics: dict[_Topic, dict[str, list[Result]]] = {}
  for result in every:
    topic = (result.dataset, result.task, result.label_set)
    by_encoder = topics.setdefault(topic, {})
    by_encoder.setdefault(result.encoder.name, []).append(result)
  rows = []
  for topic, by_encoder in topics.items():
    _check_same_records(topic, by_encoder)
    rows += _outcome_rows(topic, by_encoder, num_permutations)
    rows += _measure_rows(topic, by_encoder)
  return rows


def _check_same_records(
  topic: _Topic, by_encoder: Mapping[str, Sequence[Result]]
) -> None:
  """Raises UserError unless all results are about the same test records."""
  every = [result for listed in by_encoder.values() for result in listed]
  first = every[0].findings.test
  for result in every[1:]:
    test = result.findings.test
    same = test.label_names == first.label_names and all(
      np.array_equal(getattr(test, name), getattr(first, name))
      for name in ("record_ids", "subjects", "labels")
    )
    if not same:
      raise UserError(
        f"{' '.join(topic)}: {every[0].encoder.name} and {result.encoder.name}"
        " were not scored on the same test records and labels"
        f" ({len(first.labels)} and {len(test.labels)} records)"
      )


@dataclasses.dataclass(frozen=True)
class _Number:
  """A number of one encoder, pooled over its pretraining seeds.

  Attributes:
    estimate: value and interval.
    samples: (R,) the number in each resample of subjects; None if it has no
      value.
    row: the fields of its `Row` that have nothing to do with other encoders.
  """

  estimate: Estimate
  samples: np.ndarray | None
  row: dict[str, Any]


_NOTHING = Estimate(None, None, None)


def _rows(
  topic: _Topic,
  setting: str,
  metric: str,
  label: str,
  numbers: Mapping[str, _Number],
  better: str = "higher",
) -> list[Row]:
  """One number of every encoder, each beside the best.

  Args:
    topic: data set, task and label set.
    setting: see `Row`, as are `metric`, `label` and `better`.
    metric: name of the number.
    label: name, or empty.
    numbers: by name of the encoder.
    better: "higher", "lower" or "".
  """
  best = _best(numbers, better)
  rows = []
  for encoder, number in numbers.items():
    minus = _NOTHING
    if best and encoder != best:
      minus = _minus(number, numbers[best])
    estimate = number.estimate
    rows.append(
      Row(
        *(*topic, setting, metric, label, encoder),
        *(estimate.value, estimate.low, estimate.high),
        best=best,
        difference=minus.value,
        difference_low=minus.low,
        difference_high=minus.high,
        better=better,
        **number.row,
      )
    )
  return rows


def _outcome_rows(
  topic: _Topic,
  by_encoder: Mapping[str, Sequence[Result]],
  num_permutations: int,
) -> list[Row]:
  """Rows of all settings that score labels."""
  test = next(iter(by_encoder.values()))[0].findings.test
  settings: dict[str, dict[str, list[Outcome]]] = {}
  for encoder, every in by_encoder.items():
    for result in every:
      for outcome in result.findings.outcomes:
        outcomes = settings.setdefault(outcome.setting, {})
        outcomes.setdefault(encoder, []).append(outcome)
  rows = []
  for setting, outcomes in settings.items():
    pooled = {
      encoder: runs[0] if len(runs) == 1 else scoring.pool(test, runs)
      for encoder, runs in outcomes.items()
    }
    numbers = {
      encoder: _numbers(pooled[encoder], runs)
      for encoder, runs in outcomes.items()
    }
    words = dict(zip(test.label_names, _words(topic, test), strict=True))
    for metric, label in next(iter(numbers.values())):
      column = {name: known[metric, label] for name, known in numbers.items()}
      compared = _rows(topic, setting, metric, label, column)
      if (metric, label) == ("AUROC", MACRO):
        compared = _tested(compared, test, pooled, num_permutations)
      rows += [
        dataclasses.replace(row, label_in_words=words.get(label, ""))
        for row in compared
      ]
  return rows


def _words(topic: _Topic, test: TestSet) -> list[str]:
  """What the labels mean."""
  label_set = topic[2].partition(" ")[0]  # before " from ..."
  return prompts.names_in_words(label_set, test.label_names)


def _numbers(
  pooled: Outcome, runs: Sequence[Outcome]
) -> dict[tuple[str, str], _Number]:
  """(metric, label) -> number, the macro AUROC first.

  Args:
    pooled: outcome of one encoder over its pretraining seeds.
    runs: outcomes of each seed.
  """
  e, (auroc, auprc) = pooled.evaluation, pooled.samples
  common = {
    "seeds": len(runs),
    "seed_std": None,
    "subsets": e.num_seeds // len(runs),
  }
  within = [o.evaluation.seed_std for o in runs]
  spread = {
    "seed_std": _std([o.evaluation.macro_auroc.value for o in runs]),
    "subset_std": None if None in within else float(np.mean(within)),
    "note": "no label scored" if e.macro_auroc.value is None else "",
  }
  macro = _macro_auroc(pooled)
  numbers = {
    ("AUROC", MACRO): dataclasses.replace(macro, row=common | spread),
    ("AUPRC", MACRO): _Number(e.macro_auprc, statistics.macro(auprc), common),
  }
  place = 0  # among the labels that count
  for score in e.labels:
    for metric, samples in (("AUROC", auroc), ("AUPRC", auprc)):
      numbers[metric, score.name] = _label_number(
        score, metric, samples[place : place + 1], common
      )
    place += score.auroc is not None
  return numbers


def _label_number(
  score: LabelScore, metric: str, samples: np.ndarray, common: dict[str, Any]
) -> _Number:
  """AUROC or AUPRC of one label; `samples` (1, R) are its own, if it counts."""
  estimate = score.auroc if metric == "AUROC" else score.auprc
  row = common | {
    "num_positive": score.num_positive,
    "prevalence": score.prevalence,
    "note": score.skipped,
  }
  if estimate is None:
    return _Number(_NOTHING, None, row)
  return _Number(estimate, samples[0], row)


def _macro_auroc(outcome: Outcome) -> _Number:
  """The macro AUROC with its resamples."""
  macro = statistics.macro(outcome.samples[0])
  return _Number(outcome.evaluation.macro_auroc, macro, {})


def _tested(
  rows: Sequence[Row],
  test: TestSet,
  pooled: Mapping[str, Outcome],
  num_permutations: int,
) -> list[Row]:
  """Rows of macro AUROCs with the p values of their distance to the best.

  Args:
    rows: one for each encoder.
    test: the test records.
    pooled: outcome of each encoder.
    num_permutations: see `compare_all`.
  """
  swaps = max(num_permutations, 25 * num_pairs(len(rows)))
  tested = []
  for row in rows:
    if row.best and row.encoder != row.best:
      a, b = pooled[row.encoder], pooled[row.best]
      _, p_value = difference(test, a, b, num_permutations=swaps)
      row = dataclasses.replace(row, p_value=p_value)
    tested.append(row)
  return _holm(tested)


def _measure_rows(
  topic: _Topic, by_encoder: Mapping[str, Sequence[Result]]
) -> list[Row]:
  """Rows of the numbers that are not computed from labels."""
  series: dict[tuple[str, str], dict[str, list[Measure]]] = {}
  for encoder, every in by_encoder.items():
    for result in every:
      for measure in result.findings.measures:
        measures = series.setdefault((measure.setting, measure.name), {})
        measures.setdefault(encoder, []).append(measure)
  rows = []
  for (setting, name), measures in series.items():
    first = next(iter(measures.values()))[0]
    numbers = {
      encoder: _pooled(runs, first) for encoder, runs in measures.items()
    }
    rows += _rows(topic, setting, name, "", numbers, first.better)
  return rows


def _pooled(measures: Sequence[Measure], first: Measure) -> _Number:
  """The mean of a measure over pretraining seeds.

  Args:
    measures: one for each seed.
    first: the same measure of the first encoder, which decides what is the same
      for all.
  """
  values = [m.estimate.value for m in measures]
  samples = np.mean([m.samples for m in measures], axis=0)
  row = {
    "seeds": len(measures),
    "seed_std": _std(values),
    "chance": first.chance,
    "unit": first.unit,
    "main": first.main,
  }
  estimate = scoring.estimate(float(np.mean(values)), samples)
  return _Number(estimate, samples, row)


def _std(values: Sequence[float | None]) -> float | None:
  """Sample standard deviation; None where it is undefined."""
  if len(values) < 2 or None in values:
    return None
  return float(np.std(values, ddof=1))


def _best(numbers: Mapping[str, _Number], better: str) -> str:
  """Name of the best encoder; empty where nothing is better than another."""
  values = {name: number.estimate.value for name, number in numbers.items()}
  known = {name: value for name, value in values.items() if value is not None}
  if len(known) < 2 or not better:
    return ""
  return (max if better == "higher" else min)(known, key=known.__getitem__)


def _minus(a: _Number, b: _Number) -> Estimate:
  """Paired difference of two numbers."""
  if a.estimate.value is None or b.estimate.value is None:
    return _NOTHING
  value = a.estimate.value - b.estimate.value
  return scoring.estimate(value, a.samples - b.samples)


def _holm(rows: Sequence[Row]) -> list[Row]:
  """Adds Holm's step-down correction of the p values of one column.

  The best was chosen by the records that it is tested on, so each of these is a
  chosen one of all pairs of encoders, and the family is all pairs. Those that
  were not tested can only make a rank later, and its factor smaller.
  """
  tested = sorted(
    (r.p_value, i) for i, r in enumerate(rows) if r.p_value is not None
  )
  pairs = num_pairs(len(tested) + 1)
  rows, largest = list(rows), 0.0
  for rank, (p, i) in enumerate(tested):
    largest = max(largest, min(1.0, p * (pairs - rank)))
    rows[i] = dataclasses.replace(rows[i], p_holm=largest)
  return rows


def num_pairs(num_encoders: int) -> int:
  """Pairs of different encoders."""
  return num_encoders * (num_encoders - 1) // 2
