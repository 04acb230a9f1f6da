"""What separates encoders on the same test records.

A point estimate that is higher says little: the difference to the best row is
resampled and tested with both encoders on the same subjects each time. Encoders
that differ in their pretraining seed alone are one row, the mean over them.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results, scoring, statistics

MACRO = "macro"


@dataclasses.dataclass(frozen=True)
class Row:
  """One number of one encoder, and how far it is from the best encoder's.

  Attributes:
    dataset: with the next three, what the number is about.
    task: such as "linear_probe".
    label_set: name; empty without labels.
    setting: such as "probe_1".
    metric: "AUROC", "AUPRC", or the name of a measure.
    label: name, "macro", or empty for a measure.
    encoder: name.
    value: with its interval (`low`, `high`); None where not scored.
    low: see `value`.
    high: see `value`.
    seeds: pretraining seeds that the value is the mean of.
    seed_std: standard deviation over them; None for a single one.
    subsets: training subsets of each.
    subset_std: standard deviation over these, mean over pretraining seeds.
    num_positive: test records with the label.
    prevalence: their share, about the AUPRC of random scores.
    chance: of a measure, for an encoder that knows nothing.
    best: encoder with the best value of this number.
    difference: value minus that of the best, with its interval.
    difference_low: see `difference`.
    difference_high: see `difference`.
    p_value: of the paired permutation test; for macro AUROCs.
    p_holm: corrected for the number of pairs of encoders (Holm).
    better: "higher", "lower" or "" (neither; then nothing is best).
    unit: of a measure.
    main: whether it belongs in a short table.
    note: why there is no value.
  """

  dataset: str
  task: str
  label_set: str
  setting: str
  metric: str
  label: str
  encoder: str
  value: float | None
  low: float | None
  high: float | None
  seeds: int
  seed_std: float | None
  subsets: int = 1
  subset_std: float | None = None
  num_positive: int | None = None
  prevalence: float | None = None
  chance: float | None = None
  best: str = ""
  difference: float | None = None
  difference_low: float | None = None
  difference_high: float | None = None
  p_value: float | None = None
  p_holm: float | None = None
  better: str = "higher"
  unit: str = ""
  main: bool = True
  note: str = ""


def difference(
  test: scoring.TestSet,
  a: scoring.Outcome,
  b: scoring.Outcome,
  *,
  num_permutations: int = 1000,
  seed: int = 0,
) -> tuple[scoring.Estimate, float | None]:
  """Paired difference of two macro AUROCs, a minus b.

  Args:
    test: the records of both.
    a: an outcome.
    b: another, with the same resamples of subjects.
    num_permutations: swaps of the permutation test.
    seed: of the swaps.

  Returns:
    The difference with its interval, and the p value of the permutation test;
    None without any label that counts.
  """
  estimate = _minus(
    (a.evaluation.macro_auroc, statistics.macro(a.samples[0])),
    (b.evaluation.macro_auroc, statistics.macro(b.samples[0])),
  )
  if estimate.value is None:
    return estimate, None
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
  return estimate, permutation.p_value


def compare(
  path_a: str | os.PathLike, path_b: str | os.PathLike, **options
) -> dict[str, tuple[scoring.Estimate, float | None]]:
  """Paired comparison of two result files, a minus b.

  Records are matched by id and labels by name, so the two files may list them
  in different order.

  Args:
    path_a: result file.
    path_b: another.
    **options: of `difference`.

  Returns:
    What `difference` returns, by each setting that both have.

  Raises:
    UserError: the files are not about the same test records and labels.
  """
  a, b = (results.read(path).findings for path in (path_a, path_b))
  test, other = a.test, b.test
  problem = f"cannot compare {path_a} with {path_b}: "
  if set(test.label_names) != set(other.label_names):
    raise UserError(problem + "they are about different labels")
  if not np.array_equal(np.sort(test.record_ids), np.sort(other.record_ids)):
    raise UserError(problem + "they are about different test records")
  rows = np.empty(len(test.labels), int)
  rows[np.argsort(test.record_ids)] = np.argsort(other.record_ids)
  columns = [other.label_names.index(name) for name in test.label_names]
  if not np.array_equal(test.labels, other.labels[rows][:, columns]):
    raise UserError(problem + "the labels of their test records differ")
  by_setting = {o.setting: o for o in b.outcomes}
  found = {}
  for outcome in a.outcomes:
    if outcome.setting in by_setting:
      # Draws of subjects depend on the order of the records.
      again = scoring.evaluate(
        test,
        outcome.setting,
        by_setting[outcome.setting].scores[:, rows][:, :, columns],
        min_positives=outcome.evaluation.min_positives,
        num_bootstrap=outcome.evaluation.num_bootstrap,
      )
      found[outcome.setting] = difference(test, outcome, again, **options)
  return found


def compare_all(
  found: Iterable[results.Result], num_permutations: int = 1000
) -> list[Row]:
  """Every number of every result, beside the best encoder's.

  Args:
    found: results; those of one task, data set and label set must be about the
      same test records.
    num_permutations: least number of swaps of a permutation test. Where many
      encoders are compared there are more: with too few, the corrected p would
      be above 0.05 whatever the difference.

  Raises:
    UserError: they are not.
  """
  topics: dict[tuple, dict[str, list[results.Result]]] = {}
  for result in found:
    topic = (result.dataset, result.task, result.label_set)
    by_name = topics.setdefault(topic, {})
    by_name.setdefault(result.encoder.name, []).append(result)
  rows = []
  for topic, by_name in topics.items():
    _check_same_records(topic, by_name)
    rows += _label_rows(topic, by_name, num_permutations)
    rows += _measure_rows(topic, by_name)
  return rows


def _check_same_records(topic, by_name) -> None:
  every = [r for of_name in by_name.values() for r in of_name]
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


def _label_rows(topic, by_name, num_permutations) -> list[Row]:
  """Rows of all settings that score labels."""
  test = next(iter(by_name.values()))[0].findings.test
  pools: dict[str, dict[str, scoring.Outcome]] = {}
  spreads: dict[tuple[str, str], tuple] = {}
  for name, of_name in by_name.items():
    per_setting: dict[str, list[scoring.Outcome]] = {}
    for result in of_name:
      for outcome in result.findings.outcomes:
        per_setting.setdefault(outcome.setting, []).append(outcome)
    for setting, outcomes in per_setting.items():
      pools.setdefault(setting, {})[name] = (
        outcomes[0] if len(outcomes) == 1 else scoring.pool(test, outcomes)
      )
      macros = [o.evaluation.macro_auroc.value for o in outcomes]
      within = [o.evaluation.seed_std for o in outcomes]
      of_subsets = None if None in within else float(np.mean(within))
      spreads[setting, name] = (len(outcomes), _std(macros), of_subsets)
  rows = []
  for setting, of_setting in pools.items():
    context = (*topic, setting)
    macro_rows = []
    best = _best({n: o.evaluation.macro_auroc for n, o in of_setting.items()})
    swaps = max(num_permutations, 25 * num_pairs(len(of_setting)))
    for name, outcome in of_setting.items():
      seeds, seed_std, subset_std = spreads[setting, name]
      e = outcome.evaluation
      p_value, minus = None, scoring.Estimate(None, None, None)
      if best and name != best:
        minus, p_value = difference(
          test, outcome, of_setting[best], num_permutations=swaps
        )
      macro_rows.append(
        Row(
          *(*context, "AUROC", MACRO, name),
          **_value(e.macro_auroc),
          seeds=seeds,
          seed_std=seed_std,
          subsets=e.num_seeds // seeds,
          subset_std=subset_std,
          best=best,
          **_difference(minus),
          p_value=p_value,
          note="" if e.macro_auroc.value is not None else "no label scored",
        )
      )
    rows += _holm(macro_rows)
    series = {n: _curves(o) for n, o in of_setting.items()}
    for metric, label in next(iter(series.values())):
      if (metric, label) == ("AUROC", MACRO):
        continue
      these = {n: s[metric, label] for n, s in series.items()}
      best = _best({n: estimate for n, (estimate, _, _) in these.items()})
      for name, (estimate, samples, score) in these.items():
        seeds = spreads[setting, name][0]
        minus = scoring.Estimate(None, None, None)
        if best and name != best:
          minus = _minus((estimate, samples), these[best][:2])
        rows.append(
          Row(
            *(*context, metric, label, name),
            **_value(estimate),
            seeds=seeds,
            seed_std=None,
            subsets=of_setting[name].evaluation.num_seeds // seeds,
            num_positive=score and score.num_positive,
            prevalence=score and score.prevalence,
            best=best,
            **_difference(minus),
            note=score.skipped if score else "",
          )
        )
  return rows


def _curves(outcome: scoring.Outcome) -> dict:
  """(metric, label) -> estimate, samples, and the label's score."""
  nothing = scoring.Estimate(None, None, None)
  e, (auroc, auprc) = outcome.evaluation, outcome.samples
  found = {
    ("AUROC", MACRO): (e.macro_auroc, statistics.macro(auroc), None),
    ("AUPRC", MACRO): (e.macro_auprc, statistics.macro(auprc), None),
  }
  at = 0
  for score in e.labels:
    for metric, estimate, samples in (
      ("AUROC", score.auroc, auroc),
      ("AUPRC", score.auprc, auprc),
    ):
      counted = estimate is not None
      found[metric, score.name] = (
        estimate if counted else nothing,
        samples[at] if counted else None,
        score,
      )
    at += score.auroc is not None
  return found


def _measure_rows(topic, by_name) -> list[Row]:
  """Rows of the numbers that no label is behind."""
  series: dict[tuple[str, str], dict[str, list[scoring.Measure]]] = {}
  for name, of_name in by_name.items():
    for result in of_name:
      for m in result.findings.measures:
        of_measure = series.setdefault((m.setting, m.name), {})
        of_measure.setdefault(name, []).append(m)
  rows = []
  for (setting, metric), of_measure in series.items():
    pooled = {}
    for name, measures in of_measure.items():
      samples = np.mean([m.samples for m in measures], axis=0)
      value = float(np.mean([m.estimate.value for m in measures]))
      pooled[name] = (scoring.estimate(value, samples), samples)
    first = next(iter(of_measure.values()))[0]
    best = _best({n: e for n, (e, _) in pooled.items()}, first.better)
    for name, measures in of_measure.items():
      minus = scoring.Estimate(None, None, None)
      if best and name != best:
        minus = _minus(pooled[name], pooled[best])
      rows.append(
        Row(
          *(*topic, setting, metric, "", name),
          **_value(pooled[name][0]),
          seeds=len(measures),
          seed_std=_std([m.estimate.value for m in measures]),
          chance=first.chance,
          best=best,
          **_difference(minus),
          better=first.better,
          unit=first.unit,
          main=first.main,
        )
      )
  return rows


def _std(values: Sequence[float | None]) -> float | None:
  if len(values) < 2 or None in values:
    return None
  return float(np.std(values, ddof=1))


def _best(
  estimates: Mapping[str, scoring.Estimate], better: str = "higher"
) -> str:
  """Name of the best encoder; empty where nothing is better than another."""
  known = {n: e.value for n, e in estimates.items() if e.value is not None}
  if len(known) < 2 or not better:
    return ""
  return (max if better == "higher" else min)(known, key=known.__getitem__)


def _minus(a, b) -> scoring.Estimate:
  """Difference of two (estimate, samples) pairs."""
  if a[0].value is None or b[0].value is None:
    return scoring.Estimate(None, None, None)
  return scoring.estimate(a[0].value - b[0].value, a[1] - b[1])


def _value(e: scoring.Estimate) -> dict:
  return {"value": e.value, "low": e.low, "high": e.high}


def _difference(e: scoring.Estimate) -> dict:
  return {
    "difference": e.value,
    "difference_low": e.low,
    "difference_high": e.high,
  }


def _holm(rows: list[Row]) -> list[Row]:
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
