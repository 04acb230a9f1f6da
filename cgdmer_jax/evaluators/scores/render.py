"""Tables as Markdown, LaTeX, CSV, and for terminals."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Sequence

import rich.table
import rich.text

from cgdmer_jax.evaluators.scores.row import Row
from cgdmer_jax.evaluators.scores.tables import Table


def to_csv(rows: Sequence[Row]) -> str:
  """All numbers, a line each, with six digits.

  docs/evaluation.md describes the columns; `comparison.json` has all digits.
  """
  out = io.StringIO()
  names = [f.name for f in dataclasses.fields(Row)]
  writer = csv.DictWriter(out, names, lineterminator="\n")
  writer.writeheader()
  for row in rows:
    fields = dataclasses.asdict(row).items()
    writer.writerow(
      {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in fields}
    )
  return out.getvalue()


_LATEX = {c: f"\\{c}" for c in "&%_#${}"} | {
  "\\": r"\textbackslash{}",
  "~": r"\textasciitilde{}",
  "^": r"\textasciicircum{}",
}


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
  """The text with LaTeX's special characters escaped, bold parts bold."""
  text = re.sub(r"[&%_#${}\\~^]", lambda m: _LATEX[m[0]], text)
  return re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", text)


def _latex_row(cells: Sequence[str]) -> str:
  """One line of a tabular."""
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
  """One line of a table."""
  return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"


def to_rich(
  table: Table, width: int
) -> list[rich.table.Table | rich.text.Text]:
  """The table for a terminal, each interval on a line of its own.

  Args:
    table: in words.
    width: characters that the terminal shows in a line.

  Returns:
    As many tables below each other as let every number be read whole, the first
    with the title; then the notes, as wide as the terminal.
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
  tables = [
    _rich(
      *(table.header, lines, [0, *group]),
      table.title if group is groups[0] else "",
    )
    for group in groups
  ]
  if not table.notes:
    return tables
  return [*tables, rich.text.Text("\n".join(table.notes) + "\n", "dim")]


def _lines(cell: str) -> str:
  """A cell without marks, its interval on a line of its own."""
  cell = cell.replace("**", "")
  return cell.replace(" [", "\n[").replace("] ", "]\n")


def _rich(
  header: Sequence[str],
  lines: Sequence[Sequence[str]],
  columns: Sequence[int],
  title: str,
) -> rich.table.Table:
  """A rich table of some of the columns."""
  out = rich.table.Table(
    title=rich.text.Text(title) if title else None,
    title_justify="left",
  )
  for i in columns:
    out.add_column(header[i], justify="right" if i else "left", no_wrap=i == 0)
  for row in lines:
    out.add_row(*(rich.text.Text(row[i]) for i in columns))
  return out
