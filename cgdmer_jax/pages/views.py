"""Tables of results as a page shows them: cells that can be sorted."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence

from cgdmer_jax.evaluators.scores.row import MACRO, Row
from cgdmer_jax.evaluators.scores.tables import Table

_CELL = re.compile(r"(\*\*)?([-+]?\d[\d.]*)(?:\*\*)?( \[[^]]*\])?(.*)", re.S)


@dataclasses.dataclass(frozen=True)
class Cell:
  """A cell: text, what follows it smaller, and the number to sort by."""

  text: str
  rest: str = ""
  value: float | None = None
  is_best: bool = False


@dataclasses.dataclass(frozen=True)
class View:
  """A table.

  Attributes:
    title: above it.
    header: names of columns.
    rows: cells of each encoder.
    differences: cells of lines that compare encoders.
    notes: sentences below.
  """

  title: str
  header: tuple[str, ...]
  rows: tuple[tuple[Cell, ...], ...]
  differences: tuple[tuple[Cell, ...], ...]
  notes: tuple[str, ...]


def view(table: Table, encoders: Collection[str]) -> View:
  """A table in words as a page shows it.

  Args:
    table: from `tables.make`.
    encoders: names; the other lines are differences.
  """
  lines = [
    (row[0] in encoders, (Cell(row[0]), *map(_cell, row[1:])))
    for row in table.rows
  ]
  return View(
    table.title,
    table.header,
    tuple(cells for is_encoder, cells in lines if is_encoder),
    tuple(cells for is_encoder, cells in lines if not is_encoder),
    table.notes,
  )


def _cell(text: str) -> Cell:
  match = _CELL.fullmatch(text)
  if not match:
    return Cell(text)
  mark, number, interval, rest = match.groups()
  rest = f"{interval or ''}{rest}".strip()
  return Cell(number, rest, float(number), bool(mark))


@dataclasses.dataclass(frozen=True)
class Score:
  """A number of an encoder, and the encoder's number."""

  encoder: int
  value: float
  low: float | None
  high: float | None


@dataclasses.dataclass(frozen=True)
class LabelRow:
  """AUROC of one label.

  Attributes:
    code: name of the label.
    words: what it means; empty where unknown.
    num_positive: test records with the label.
    prevalence: their share.
    scores: of each encoder; None where not scored.
    note: why there is no score.
  """

  code: str
  words: str
  num_positive: int | None
  prevalence: float | None
  scores: tuple[Score | None, ...]
  note: str


def label_rows(rows: Sequence[Row], encoders: Sequence[str]) -> list[LabelRow]:
  """A line for each label, the best known first, those not scored last.

  Args:
    rows: AUROCs of one setting.
    encoders: names in the order of columns.
  """
  by_label: dict[str, dict[str, Row]] = {}
  for row in rows:
    if row.label != MACRO:
      by_label.setdefault(row.label, {})[row.encoder] = row
  lines = []
  for label, by_encoder in by_label.items():
    first = next(iter(by_encoder.values()))
    scores = []
    for k, name in enumerate(encoders):
      row = by_encoder.get(name)
      scores.append(
        None
        if row is None or row.value is None
        else Score(k, row.value, row.low, row.high)
      )
    lines.append(
      LabelRow(
        label,
        first.label_in_words,
        first.num_positive,
        first.prevalence,
        tuple(scores),
        first.note,
      )
    )

  def rank(line: LabelRow) -> float:
    known = [s.value for s in line.scores if s]
    return -max(known, default=-1.0)

  return sorted(lines, key=rank)
