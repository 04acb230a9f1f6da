"""Tables of results for people: Markdown for files, rich for terminals.

One table per data set and label set: a row per encoder, a column per setting,
and below them the paired difference to each other encoder, which says so in
words where the interval covers zero.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import rich.table
import rich.text

from data_builders import schema


@dataclasses.dataclass(frozen=True)
class Table:
  """A table in words.

  Attributes:
    title: what it is about.
    header: C column names.
    rows: C cells each.
    notes: sentences to print below.
  """

  title: str
  header: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  notes: tuple[str, ...]


def make(documents: Sequence[dict]) -> Table:
  """Joins the results of one data set and label set into one table.

  Args:
    documents: contents of result files (`results.read`, `results.to_dict`), one
      per task, in column order.

  Returns:
    The table of macro AUROCs.

  Raises:
    ValueError: they are about different data or label sets.
  """
  first = documents[0]
  for document in documents:
    for key in ("dataset", "label_set", "label_mode"):
      if document[key] != first[key]:
        raise ValueError(
          f"one table cannot hold {key} {first[key]!r} and {document[key]!r}"
        )
  settings, encoders, differences = {}, {}, {}
  for document in documents:
    for encoder in document["encoders"]:
      cells = encoders.setdefault(encoder["name"], {})
      for row in encoder["settings"]:
        settings.setdefault(row["setting"], row)
        cells[row["setting"]] = _estimate(row["macro_auroc"])
    for row in document["comparisons"]:
      cells = differences.setdefault((row["a"], row["b"]), {})
      cells[row["setting"]] = _difference(row)
  rows = [(name, cells) for name, cells in encoders.items()]
  for (a, b), cells in differences.items():
    name = "difference" if len(differences) == 1 else f"{a} minus {b}"
    rows.append((name, cells))
  return Table(
    title=f"{topic(first)}: macro AUROC [95 % interval]",
    header=("encoder", *(_heading(row) for row in settings.values())),
    rows=tuple(
      (name, *(cells.get(s, "") for s in settings)) for name, cells in rows
    ),
    notes=tuple(_notes(documents, list(settings.values()))),
  )


def topic(document: dict) -> str:
  """What a result is about, for headings.

  Args:
    document: content of a result file.

  Returns:
    Data and label set, and the label mode unless it is the usual one.
  """
  words = f"{document['dataset']}, {document['label_set']}"
  if document["label_mode"] == schema.FIXED:
    return words
  return f"{words}, {document['label_mode']} labels"


def _heading(row: dict) -> str:
  if row["fraction"] is None:
    return row["setting"].replace("_", "-")
  return f"probe {100 * row['fraction']:g} %"


def _estimate(estimate: dict) -> str:
  if estimate["value"] is None:
    return "no label scored"
  text = f"{estimate['value']:.3f}"
  if estimate["low"] is not None:
    text += f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
  return text


def _difference(row: dict) -> str:
  macro = row["macro"]
  if macro["value"] is None or macro["low"] is None:
    return ""
  text = f"{macro['value']:+.3f} [{macro['low']:+.3f}, {macro['high']:+.3f}]"
  if macro["low"] <= 0 <= macro["high"]:
    return f"{text} no difference shown"
  return f"{text} p = {row['p_value']:.3f}"


def _notes(documents: Sequence[dict], settings: Sequence[dict]) -> list[str]:
  """What a reader must know to read the table right."""
  first, row = documents[0], settings[0]
  skipped = row["skipped_labels"]
  scored = len(row["labels"]) - len(skipped)
  notes = [
    f"{first['num_records']} test records of {first['num_subjects']} subjects;"
    f" {scored} labels scored, {len(skipped)} skipped"
    f" (labels: {first['label_mode']}).",
  ]
  if unknown := first["num_without_subject"]:
    notes.append(
      f"The patient of {unknown} records is unknown; each of them counts as a"
      " subject of its own."
    )
  if first["label_mode"] == schema.MERL_COMPAT:
    notes.append(
      "merl_compat: labels and splits of published files, mistakes included;"
      " compare with tables made from the same files only."
    )
  if skipped:
    by_reason = collections.defaultdict(list)
    for name, why in skipped.items():
      by_reason[why].append(name)
    reasons = "; ".join(
      f"{why}: {', '.join(names)}" for why, names in by_reason.items()
    )
    notes.append(f"Skipped, {reasons}.")
  if not scored:
    least = max(1, row["min_positives"])
    notes.append(
      f"Nothing is scored: no label has {least} positive and {least} negative"
      " test records."
    )
    return notes
  notes.append(
    f"Intervals: percentile bootstrap over subjects, {row['num_bootstrap']}"
    " resamples. p: paired permutation test."
  )
  repeated = [s for s in settings if s["num_seeds"] > 1]
  if repeated:
    spread = ", ".join(_seed_spread(s) for s in repeated)
    notes.append(
      f"Mean over {repeated[0]['num_seeds']} training subsets; standard"
      f" deviation over them, which the intervals leave out: {spread}."
    )
  failed = sum(
    s["not_converged"]
    for document in documents
    for encoder in document["encoders"]
    for s in encoder["settings"]
  )
  if failed:
    notes.append(f"{failed} probe fits missed the solver's tolerance.")
  return notes


def _seed_spread(row: dict) -> str:
  spread = row["seed_std"]
  return f"{_heading(row)} " + ("n/a" if spread is None else f"{spread:.3f}")


def to_markdown(table: Table) -> str:
  """The table as Markdown, title and notes included."""
  lines = [f"### {table.title}", ""]
  lines.append(_markdown_row(table.header))
  lines.append(_markdown_row(("---",) * len(table.header)))
  lines += [_markdown_row(row) for row in table.rows]
  lines.append("")
  lines += [f"{note}  " for note in table.notes]
  return "\n".join(lines).rstrip() + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
  return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def to_rich(table: Table) -> rich.table.Table:
  """The table for a terminal, each interval on a line of its own."""
  out = rich.table.Table(
    title=rich.text.Text(table.title),
    caption=rich.text.Text("\n".join(table.notes)),
    caption_justify="left",
    title_justify="left",
  )
  for i, name in enumerate(table.header):
    out.add_column(name, justify="left" if i == 0 else "right", no_wrap=i == 0)
  for cells in table.rows:
    lines = [cell.replace(" [", "\n[").replace("] ", "]\n") for cell in cells]
    out.add_row(*(rich.text.Text(line) for line in lines))
  return out
