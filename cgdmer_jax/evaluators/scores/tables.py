"""Tables of results in words, before they are written in some format.

One table per data set and label set: a row per encoder, a column per setting,
and below them the paired differences to the best encoder of each column, which
say so in words where the interval covers zero. Some tasks have tables of their
own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from matplotlib.figure import Figure

from cgdmer_jax.data import schema
from cgdmer_jax.evaluators.scores import notes
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.evaluators.scores.row import MACRO, Row


@runtime_checkable
class Shown(Protocol):
  """How a task is shown; see `task.Task`."""

  name: str
  own_table: bool
  heading: Callable[[str], str]
  label_figure: int | None
  figure: Callable[[Sequence[Row], Sequence[str], str], Figure] | None


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
  rows: Sequence[Row], results: Sequence[Result], tasks: Mapping[str, Shown]
) -> list[Table]:
  """The short tables.

  Args:
    rows: what `comparison.compare_all` makes of the results.
    results: all results.
    tasks: name -> how it is shown.

  Returns:
    For each data and label set one table of the tasks that share it, and one
    for each other task.
  """
  groups: dict[tuple[str, str, str], list[Row]] = {}
  for row in rows:
    macro = row.label == MACRO and row.metric == "AUROC"
    if macro or (not row.label and row.main):
      key = (row.dataset, row.label_set, own_table(tasks[row.task]))
      groups.setdefault(key, []).append(row)
  return [
    _table(
      group,
      [
        result
        for result in results
        if key
        == (result.dataset, result.label_set, own_table(tasks[result.task]))
      ],
      tasks,
    )
    for key, group in groups.items()
  ]


def own_table(task: Shown) -> str:
  """Name of the table that a task stands in: its own, or "" for the common."""
  return task.name if task.own_table else ""


def _table(
  rows: Sequence[Row], results: Sequence[Result], tasks: Mapping[str, Shown]
) -> Table:
  """One table of the rows of one topic, which `results` are about."""
  columns: dict[tuple, Row] = {}
  known: dict[str, dict[tuple, Row]] = {
    result.encoder.name: {} for result in results
  }
  for row in rows:
    column = (row.task, row.setting, row.metric)
    columns.setdefault(column, row)
    known[row.encoder][column] = row
  lines = [
    (encoder, *(_estimate(cells.get(column)) for column in columns))
    for encoder, cells in known.items()
  ]
  lines += [
    (name, *cells)
    for name, cells in _differences(known, list(columns))
    if any(cells)
  ]
  words = topic(results[0])
  own = own_table(tasks[results[0].task])
  words += f", {own.replace('_', ' ')}" if own else ""
  scored = [row.label for row in columns.values()]
  title = f"{words}: macro AUROC" if all(scored) else words
  headings = [heading(row, tasks[row.task]) for row in columns.values()]
  return Table(
    title=f"{title} [95 % interval]",
    header=("encoder", *headings),
    rows=tuple(lines),
    notes=tuple(notes.write(rows, results)),
  )


def _differences(
  known: Mapping[str, Mapping[tuple, Row]], columns: Sequence[tuple]
) -> list[tuple[str, list[str]]]:
  """Lines of differences: name, and a cell for each column.

  Of two encoders it is one line, the first minus the second; of more, each
  minus the best.
  """
  if len(known) == 2:
    (a, first), (b, second) = known.items()
    cells = [
      _difference(first.get(column)) or _difference(second.get(column), -1)
      for column in columns
    ]
    return [(f"{a} minus {b}", cells)]
  return [
    (f"{name} minus best", [_difference(cells.get(c)) for c in columns])
    for name, cells in known.items()
  ]


def topic(result: Result) -> str:
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


def heading(row: Row, task: Shown) -> str:
  """Name of a column: setting and measure in words."""
  words = task.heading(row.setting)
  if row.label:
    return words
  words += f", {row.metric}"
  words += f" ({row.unit})" if row.unit else ""
  return words if row.chance is None else f"{words}; chance {row.chance:.3g}"


def _estimate(row: Row | None) -> str:
  """Value and interval, or why there is none."""
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


def _difference(row: Row | None, sign: int = 1) -> str:
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
