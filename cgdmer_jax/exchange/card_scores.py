"""Results of a run as the tables of its card."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from cgdmer_jax.evaluators import prompts, tasks
from cgdmer_jax.evaluators.scores import subgroups, tables
from cgdmer_jax.evaluators.scores.findings import (
  Estimate,
  Evaluation,
  LabelScore,
  Measure,
  Outcome,
)
from cgdmer_jax.evaluators.scores.results import Result

Lines = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Topic:
  """All that is known about one label set of one data set.

  Attributes:
    title: data set and label set.
    records: test records.
    subjects: their patients.
    macro: lines of settings.
    measures: lines of measures.
    settings: those of `per_label`.
    per_label: lines of labels.
    skipped: labels without a score, and why.
    groups: lines by sex and age.
    notes: sentences of the tasks.
  """

  title: str
  records: int
  subjects: int
  macro: Lines
  measures: Lines
  settings: tuple[str, ...]
  per_label: Lines
  skipped: str
  groups: Lines
  notes: tuple[str, ...]


def topics(found: Sequence[Result], groups: subgroups.Groups) -> list[Topic]:
  """Results by data set and label set, the smallest label set first."""
  by_topic: dict[tuple[str, str], list[Result]] = {}
  for result in sorted(found, key=_size):
    by_topic.setdefault((result.dataset, result.label_set), []).append(result)
  return [_topic(some, groups) for some in by_topic.values()]


def _size(result: Result) -> tuple[str, bool, int]:
  """Data set, then label sets by their size, then what has no labels."""
  names = result.findings.test.label_names
  return result.dataset, not result.label_set, len(names)


def words(task: str, setting: str) -> str:
  """A setting of a task in words."""
  return tasks.TASKS[task].heading(setting)


def _topic(some: Sequence[Result], groups: subgroups.Groups) -> Topic:
  first = some[0]
  named = [
    (words(r.task, o.setting), o) for r in some for o in r.findings.outcomes
  ]
  shown = _shown(some)
  subjects = first.findings.test.subjects
  return Topic(
    title=tables.topic(first) + ("" if first.label_set else ", without labels"),
    records=len(subjects),
    subjects=len(set(subjects) - {""}) + int((subjects == "").sum()),
    macro=tuple(_macro(name, o.evaluation) for name, o in named),
    measures=tuple(
      _measure(r.task, m) for r in some for m in r.findings.measures if m.main
    ),
    settings=tuple(name for name, _ in shown),
    per_label=_per_label(first.label_set, [o for _, o in shown]),
    skipped=_skipped(shown[0][1].evaluation) if shown else "",
    groups=_groups(some, groups),
    notes=tuple(
      dict.fromkeys(
        detail["text"].rstrip(".")
        for r in some
        for detail in r.findings.details.values()
        if isinstance(detail, dict) and "text" in detail
      )
    ),
  )


def _shown(some: Sequence[Result]) -> list[tuple[str, Outcome]]:
  """The last outcome of each task: with the most labels to train on."""
  return [
    (words(r.task, r.findings.outcomes[-1].setting), r.findings.outcomes[-1])
    for r in some
    if r.findings.outcomes
  ]


def _macro(name: str, evaluation: Evaluation) -> tuple[str, ...]:
  scored = [x for x in evaluation.labels if not x.skipped]
  share = sum(x.prevalence for x in scored) / max(len(scored), 1)
  return (
    name,
    estimate(evaluation.macro_auroc),
    estimate(evaluation.macro_auprc),
    f"{len(scored)} of {len(evaluation.labels)}",
    f"{share:.3f}" if scored else "",
  )


def _measure(task: str, measure: Measure) -> tuple[str, ...]:
  unit = f" ({measure.unit})" if measure.unit else ""
  chance = "" if measure.chance is None else f"{measure.chance:.3g}"
  name = f"{words(task, measure.setting)}, {measure.name}{unit}"
  return name, estimate(measure.estimate), chance


def _per_label(label_set: str, outcomes: Sequence[Outcome]) -> Lines:
  """A line for each label that counts."""
  if not outcomes:
    return ()
  every = [o.evaluation.labels for o in outcomes]
  meanings = prompts.names_in_words(
    label_set.partition(" ")[0], [x.name for x in every[0]]
  )
  return tuple(
    _label(scores, meaning)
    for *scores, meaning in zip(*every, meanings, strict=True)
    if not scores[0].skipped
  )


def _label(scores: Sequence[LabelScore], meaning: str) -> tuple[str, ...]:
  first = scores[0]
  name = f"{first.name}: {meaning}" if meaning else first.name
  cells = [name, f"{first.num_positive:,}", f"{first.prevalence:.3f}"]
  for x in scores:
    cells += [estimate(x.auroc), estimate(x.auprc)]
  return tuple(cells)


def _skipped(evaluation: Evaluation) -> str:
  by_reason: dict[str, list[str]] = {}
  for x in evaluation.labels:
    if x.skipped:
      by_reason.setdefault(x.skipped, []).append(x.name)
  return "; ".join(f"{', '.join(v)} ({k})" for k, v in by_reason.items())


def _groups(some: Sequence[Result], groups: subgroups.Groups) -> Lines:
  lines = []
  for result in some:
    for outcome in result.findings.outcomes[-1:]:
      for x in subgroups.score(result.findings.test, outcome, groups):
        e = x.evaluation
        lines.append(
          (
            f"{x.column}: {x.name}",
            words(result.task, outcome.setting),
            *(f"{e.num_records:,}", f"{e.num_subjects:,}"),
            *(estimate(e.macro_auroc), str(len(e.labels))),
          )
        )
  return tuple(lines)


def estimate(x: Estimate | None) -> str:
  """A value with its interval."""
  if x is None or x.value is None:
    return ""
  text = f"{x.value:.3f}" if abs(x.value) < 10 else f"{x.value:.1f}"
  if x.low is None:
    return text
  digits = 3 if abs(x.value) < 10 else 1
  return f"{text} [{x.low:.{digits}f}, {x.high:.{digits}f}]"
