"""What a reader must know to read a table of results right."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from cgdmer_jax.data import schema
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.scores import comparison
from cgdmer_jax.evaluators.scores.findings import Evaluation
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.evaluators.scores.row import Row


def write(rows: Sequence[Row], results: Sequence[Result]) -> list[str]:
  """The sentences below a table.

  Args:
    rows: numbers in the table.
    results: what they were made of.
  """
  first = results[0]
  notes = _record_notes(first)
  if first.findings.outcomes and rows[0].label:
    evaluation = first.findings.outcomes[0].evaluation
    notes += _label_notes(evaluation, first.label_set.partition(" ")[0])
  notes.append(_method_note(rows))
  outcomes = [o for result in results for o in result.findings.outcomes]
  trained = sorted({o.num_train for o in outcomes})
  if trained and trained[-1]:
    counts = ", ".join(f"{n:,}" for n in trained if n)
    notes.append(f"Training records with labels: {counts}.")
  notes += _spread_notes(rows)
  failed = sum(o.not_converged for o in outcomes)
  if failed:
    notes.append(f"{failed} probe fits missed the solver's tolerance.")
  return notes + _task_notes(results)


def _record_notes(first: Result) -> list[str]:
  """The test records and their patients."""
  subjects = first.findings.test.subjects
  known = len(set(subjects) - {""})
  unknown = int((subjects == "").sum())
  notes = [
    f"{len(subjects)} test records of {known + unknown} subjects"
    f" (labels: {first.label_mode})."
  ]
  if unknown:
    notes.append(
      f"The patient of {unknown} records is unknown; each of them counts as a"
      " subject of its own."
    )
  if first.label_mode == schema.MERL_COMPAT:
    notes.append(
      "merl_compat: labels and splits of published files, mistakes included;"
      " compare with tables made from the same files only."
    )
  return notes


def _label_notes(evaluation: Evaluation, label_set: str) -> list[str]:
  """Which labels count, and why the others do not; what their codes mean."""
  by_reason = collections.defaultdict(list)
  for score in evaluation.labels:
    if score.skipped:
      by_reason[score.skipped].append(score.name)
  skipped = sum(map(len, by_reason.values()))
  scored = len(evaluation.labels) - skipped
  notes = [f"{scored} labels scored, {skipped} skipped."]
  if by_reason:
    reasons = "; ".join(
      f"{why}: {', '.join(names)}" for why, names in by_reason.items()
    )
    notes.append(f"Skipped, {reasons}.")
  codes = [score.name for score in evaluation.labels if not score.skipped]
  words = prompts.names_in_words(label_set, codes)
  known = [f"{c} {w}" for c, w in zip(codes, words, strict=True) if w]
  if known:
    notes.append(f"Labels: {', '.join(known)}.")
  if not scored:
    least = max(1, evaluation.min_positives)
    notes.append(
      f"Nothing is scored: no label has {least} positive and {least} negative"
      " test records."
    )
  return notes


def _method_note(rows: Sequence[Row]) -> str:
  """How intervals and p values were computed."""
  text = "In brackets: 95 % interval, percentile bootstrap over subjects."
  if any(row.best for row in rows):
    text += (
      " Bold: the best of the column. Minus: the difference, computed on the"
      ' same subjects each time; "no difference shown" where its interval'
      " covers 0 or p is 0.05 or more."
    )
  tested = collections.Counter(
    (row.task, row.setting, row.metric)
    for row in rows
    if row.p_value is not None
  )
  if not tested:
    return text
  text += (
    " p: how often chance alone would separate two equal encoders as far, by a"
    " paired permutation test against the best of the column"
  )
  pairs = comparison.num_pairs(max(tested.values()) + 1)
  if pairs > 1:
    text += (
      f", corrected for {pairs} pairs of encoders (Holm), as the best was"
      " chosen by the same records"
    )
  return f"{text}."


def _spread_notes(rows: Sequence[Row]) -> list[str]:
  """What the intervals leave out: seeds of pretraining, training subsets."""
  notes = []
  seeds = max(row.seeds for row in rows)
  if seeds > 1:
    number = seeds if all(r.seeds == seeds for r in rows) else f"up to {seeds}"
    text = (
      f"Mean over {number} pretraining seeds. Intervals and p are about these"
      " checkpoints and leave out what other seeds would give"
    )
    known = [r.seed_std for r in rows if r.seed_std is not None and r.label]
    if known:
      text += (
        "; standard deviation of the AUROC over them: "
        f"{min(known):.3f} to {max(known):.3f}"
      )
    notes.append(f"{text}.")
  repeated = [r for r in rows if r.subsets > 1 and r.subset_std is not None]
  if repeated:
    spread = max(r.subset_std for r in repeated)
    notes.append(
      f"Probes of parts: mean over {repeated[0].subsets} training subsets;"
      " standard deviation over them, which the intervals leave out: at most"
      f" {spread:.3f}."
    )
  return notes


def _task_notes(results: Sequence[Result]) -> list[str]:
  """What tasks themselves say about each encoder."""
  notes = []
  for key in sorted({k for r in results for k in r.findings.details}):
    texts: dict[str, list[str]] = {}
    for result in results:
      detail = result.findings.details.get(key, {})
      if "text" in detail:
        texts.setdefault(result.encoder.name, []).append(detail["text"])
    for name, said in texts.items():
      several = f" (first of {len(said)})" if len(set(said)) > 1 else ""
      notes.append(f"{name}{several}: {said[0]}")
  return notes
