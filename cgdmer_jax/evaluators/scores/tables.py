"""Tables of results for people: Markdown, LaTeX, CSV, and rich for terminals.

One table per data set and label set: a row per encoder, a column per setting,
and below them the paired differences to the best encoder of each column, which
say so in words where the interval covers zero. Numbers without labels have a
table per task.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import re
from collections.abc import Sequence

import rich.table
import rich.text

from cgdmer_jax.data import schema
from cgdmer_jax.evaluators.scores import comparison, results


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


def make(
  rows: Sequence[comparison.Row], found: Sequence[results.Result]
) -> list[Table]:
  """The short tables.

  Args:
    rows: of `comparison.compare_all`.
    found: what they were made of.

  Returns:
    For each data and label set one table of zero-shot, probes and fine-tuning,
    and one for each other task.
  """
  tables: dict[tuple, list[comparison.Row]] = {}
  for row in rows:
    macro = row.label == comparison.MACRO and row.metric == "AUROC"
    if macro or (not row.label and row.main):
      key = (row.dataset, row.label_set, together(row.task))
      tables.setdefault(key, []).append(row)
  return [
    _table(
      of_table,
      [
        r
        for r in found
        if (r.dataset, r.label_set) == key[:2] and together(r.task) == key[2]
      ],
      key[2],
    )
    for key, of_table in tables.items()
  ]


def together(task: str) -> str:
  """Tasks that share tables and figures: none for the usual ones, or itself."""
  return "" if task in ("zero_shot", "linear_probe", "finetune") else task


def _table(rows, about, task) -> Table:
  """One table of the rows of one topic."""
  cells: dict[str, dict[tuple, comparison.Row]] = {
    result.encoder.name: {} for result in about
  }
  columns: dict[tuple, comparison.Row] = {}
  for row in rows:
    column = (row.task, row.setting, row.metric)
    columns.setdefault(column, row)
    cells[row.encoder][column] = row
  lines = [
    (name, *(_estimate(of_name.get(c)) for c in columns))
    for name, of_name in cells.items()
  ]
  if len(cells) == 2:
    (a, first), (b, second) = cells.items()
    pairs = [(first.get(c), second.get(c)) for c in columns]
    both = [_difference(x) or _difference(y, -1) for x, y in pairs]
    cells = {f"{a} minus {b}": both}
  else:
    cells = {
      f"{name} minus best": [_difference(of_name.get(c)) for c in columns]
      for name, of_name in cells.items()
    }
  lines += [(name, *of_name) for name, of_name in cells.items() if any(of_name)]
  words = topic(about[0])
  words += f", {task.replace('_', ' ')}" if task else ""
  scored = [row.label for row in columns.values()]
  title = f"{words}: macro AUROC" if all(scored) else words
  return Table(
    title=f"{title} [95 % interval]",
    header=("encoder", *map(heading, columns.values())),
    rows=tuple(lines),
    notes=tuple(_notes(rows, about)),
  )


def topic(result: results.Result) -> str:
  """What a result is about, for headings.

  Returns:
    Data and label set, and the label mode unless it is the usual one.
  """
  words = result.dataset
  if result.label_set:
    words += f", {result.label_set}"
  if result.label_mode == schema.FIXED:
    return words
  return f"{words}, {result.label_mode} labels"


def heading(row: comparison.Row) -> str:
  """Name of a column: setting and measure in words."""
  match = re.fullmatch(r"(.*)(probe|finetune)_([0-9.]+)(.*)", row.setting)
  words = "{}{} {} %{}".format(*match.groups()) if match else row.setting
  words = words.replace("zero_shot", "zero-shot").replace("_", " ")
  words = words.replace("finetune", "fine-tuned")
  if row.label:
    return words
  words += f", {row.metric}"
  words += f" ({row.unit})" if row.unit else ""
  return words if row.chance is None else f"{words}; chance {row.chance:.3g}"


def _estimate(row: comparison.Row | None) -> str:
  if row is None:
    return ""
  if row.value is None:
    return row.note
  text = _number(row.value)
  if row.best == row.encoder:
    text = f"**{text}**"
  if row.low is not None:
    text += f" [{_number(row.low)}, {_number(row.high)}]"
  return text


def _number(x: float, sign: str = "") -> str:
  """Three digits behind the point, one from ten on; no negative zero.

  With a `sign`, four where three show nothing: whether an interval covers zero
  must be seen.
  """
  digits = 3 if abs(x) < 10 else 1
  if sign and round(x, digits) == 0:
    digits = 4
  return f"{round(x, digits) + 0.0:{sign}.{digits}f}"


def _difference(row: comparison.Row | None, sign: int = 1) -> str:
  """Difference to the best; with `sign` -1 that of the best to this one."""
  if row is None or row.difference is None or row.difference_low is None:
    return ""
  low, high = sorted((sign * row.difference_low, sign * row.difference_high))
  numbers = [_number(x, "+") for x in (sign * row.difference, low, high)]
  text = "{} [{}, {}]".format(*numbers)
  if low <= 0 <= high or (row.p_holm or 0) >= 0.05:
    return f"{text} no difference shown"
  if row.p_holm is None:
    return text
  return f"{text} p = {row.p_holm:.3f}"


def _notes(rows, about: Sequence[results.Result]) -> list[str]:
  """What a reader must know to read the table right."""
  first = about[0]
  test = first.findings.test
  subjects = test.subjects
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
  if first.findings.outcomes and rows[0].label:
    notes += _label_notes(first.findings.outcomes[0].evaluation)
  text = "Intervals: percentile bootstrap over subjects."
  if any(row.p_value is not None for row in rows):
    text += " p: paired permutation test against the best of the column"
    most = max(sum(r.p_value is not None for r in g) for g in _by(rows))
    pairs = comparison.num_pairs(most + 1)
    if pairs > 1:
      text += (
        f", corrected for {pairs} pairs of encoders (Holm), as the best was"
        " chosen by the same records"
      )
    text += "; no difference is shown from 0.05 on."
  notes.append(text)
  trained = sorted({o.num_train for r in about for o in r.findings.outcomes})
  if trained and trained[-1]:
    counts = ", ".join(f"{n:,}" for n in trained if n)
    notes.append(f"Training records with labels: {counts}.")
  notes += _spreads(rows)
  failed = sum(o.not_converged for r in about for o in r.findings.outcomes)
  if failed:
    notes.append(f"{failed} probe fits missed the solver's tolerance.")
  for key in sorted({k for r in about for k in r.findings.details}):
    texts = collections.defaultdict(list)
    for r in about:
      if "text" in r.findings.details.get(key, {}):
        texts[r.encoder.name].append(r.findings.details[key]["text"])
    for name, of_name in texts.items():
      name += f" (first of {len(of_name)})" if len(set(of_name)) > 1 else ""
      notes.append(f"{name}: {of_name[0]}")
  return notes


def _by(rows):
  """Rows of each column."""
  groups = collections.defaultdict(list)
  for row in rows:
    groups[row.task, row.setting, row.metric].append(row)
  return groups.values()


def _label_notes(evaluation) -> list[str]:
  """Which labels count, and why the others do not."""
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
  if not scored:
    least = max(1, evaluation.min_positives)
    notes.append(
      f"Nothing is scored: no label has {least} positive and {least} negative"
      " test records."
    )
  return notes


def _spreads(rows) -> list[str]:
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


def to_csv(rows: Sequence[comparison.Row]) -> str:
  """All numbers, a line each."""
  out = io.StringIO()
  names = [f.name for f in dataclasses.fields(comparison.Row)]
  writer = csv.DictWriter(out, names, lineterminator="\n")
  writer.writeheader()
  writer.writerows(dataclasses.asdict(row) for row in rows)
  return out.getvalue()


_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$"}


def to_latex(table: Table) -> str:
  """The table for booktabs, notes below."""
  lines = [
    r"\begin{table}",
    rf"  \caption{{{_latex(table.title)}}}",
    rf"  \begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
    r"    \toprule",
    _latex_row(table.header),
    r"    \midrule",
  ]
  lines += [_latex_row(row) for row in table.rows]
  lines += [r"    \bottomrule", r"  \end{tabular}", ""]
  lines += [rf"  {_latex(note)}\par" for note in table.notes]
  return "\n".join([*lines, r"\end{table}"]) + "\n"


def _latex(text: str) -> str:
  text = re.sub(r"[&%_#$]", lambda m: _LATEX[m[0]], text)
  return re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", text)


def _latex_row(cells: Sequence[str]) -> str:
  return "    " + " & ".join(map(_latex, cells)) + r" \\"


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


def to_rich(table: Table, width: int) -> list[rich.table.Table]:
  """The table for a terminal, each interval on a line of its own.

  Args:
    table: in words.
    width: of the terminal, in characters.

  Returns:
    As many tables below each other as let every number be read whole; the first
    has the title, the last the notes.
  """
  lines = [[_lines(cell) for cell in row] for row in table.rows]
  # A header may break between words, a number may not.
  widths = [3 + max(map(len, name.split())) for name in table.header]
  for row in lines:
    for i, cell in enumerate(row):
      widths[i] = max(widths[i], 3 + max(map(len, cell.split("\n"))))
  groups, used = [[]], 0
  for i in range(1, len(table.header)):
    if groups[-1] and used + widths[i] > width:
      groups.append([])
    if not groups[-1]:
      used = 1 + widths[0]
    groups[-1].append(i)
    used += widths[i]
  return [
    _rich(
      table.header,
      lines,
      [0, *group],
      table.title if group is groups[0] else "",
      table.notes if group is groups[-1] else (),
    )
    for group in groups
  ]


def _lines(cell: str) -> str:
  cell = cell.replace("**", "")
  return cell.replace(" [", "\n[").replace("] ", "]\n")


def _rich(header, lines, columns, title, notes) -> rich.table.Table:
  """A rich table of some of the columns."""
  out = rich.table.Table(
    title=rich.text.Text(title) if title else None,
    caption=rich.text.Text("\n".join(notes)) if notes else None,
    caption_justify="left",
    title_justify="left",
  )
  for i in columns:
    out.add_column(header[i], justify="right" if i else "left", no_wrap=i == 0)
  for row in lines:
    out.add_row(*(rich.text.Text(row[i]) for i in columns))
  return out
