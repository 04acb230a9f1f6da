"""The table of a folder of recordings: who, what, and which split.

A CSV in UTF-8, with commas, semicolons or tabs. Columns, all but the first
optional:

file          path below the folder, with or without suffix
patient       records of a patient stay in one split
report        text
split         train, validation or test; in every row or in none
labels        names, separated by semicolons
age, sex      written to `groups.csv` beside the data set, for scores by group
any other     a label, 0 or 1 in every row; `label_columns` says which of them
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cgdmer_jax.errors import UserError, one_line
from data_builders import tables

FILE = "file"
SPLITS = ("train", "validation", "test")
GROUPS = ("age", "sex")
_KNOWN = (FILE, "patient", "report", "split", *GROUPS, "labels")
_SOURCE = f"a CSV table in UTF-8 with a column {FILE!r}"


@dataclasses.dataclass(frozen=True)
class Row:
  """What a table says of a file.

  Attributes:
    file: as it is written there.
    patient: empty if unknown.
    report: empty if there is none.
    split: empty if the table has no splits.
    labels: those that it carries.
    group: column -> cell, of the columns `age` and `sex`.
  """

  file: str
  patient: str = ""
  report: str = ""
  split: str = ""
  labels: frozenset[str] = frozenset()
  group: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Table:
  """A table.

  Attributes:
    rows: a row for each file, in its order.
    labels: names of the labels.
    unused: columns that are not used.
  """

  rows: tuple[Row, ...]
  labels: tuple[str, ...]
  unused: tuple[str, ...]

  def vector(self, row: Row) -> np.ndarray:
    """Labels of a row, uint8 (labels,)."""
    return np.array([name in row.labels for name in self.labels], np.uint8)


def read(
  path: pathlib.Path, label_columns: Sequence[str] | None = None
) -> Table:
  """Reads a table.

  Args:
    path: the CSV.
    label_columns: names of the label columns; None: see the module.

  Raises:
    UserError: a column is missing, or a cell cannot be right.
  """
  delimiter, columns = _head(path)
  rows = tables.read(path, (FILE, *(label_columns or ())), _SOURCE, delimiter)
  cells = [
    (number, {name: value.strip() for name, value in row.items()})
    for number, row in enumerate(rows, 1)
    if any(map(str.strip, row.values()))
  ]
  if not cells:
    raise UserError(f"{path} has no row; expected {_SOURCE}")
  chosen = _choose_labels(path, columns, label_columns)
  rows = [_row(path, number, row, chosen) for number, row in cells]
  _check_files(path, [number for number, _ in cells], rows)
  labels = chosen
  if labels is None:
    labels = sorted(set(itertools.chain(*(row.labels for row in rows))))
  used = {*_KNOWN[:-1], *(["labels"] if chosen is None else chosen)}
  unused = tuple(name for name in columns if name not in used)
  return Table(tuple(rows), tuple(labels), unused)


def _head(path: pathlib.Path) -> tuple[str, list[str]]:
  """The delimiter, and the names of the columns.

  Raises:
    UserError: two columns have one name, or one has none.
  """
  try:
    with path.open(encoding="utf-8-sig") as file:
      line = next((line for line in file if line.strip()), "")
  except UnicodeDecodeError as e:
    raise UserError(
      f"{path} is not UTF-8 ({one_line(e)}); save it as `CSV UTF-8`"
    ) from e
  except OSError as e:
    raise UserError(f"--table={path}: {e.strerror or one_line(e)}") from e
  delimiter = max(",;\t", key=line.count)
  names = next(csv.reader([line], delimiter=delimiter), [])
  for name in names:
    if not name.strip() or names.count(name) > 1:
      raise UserError(
        f"{path} has several columns {name!r}, or one without name"
      )
  return delimiter, names


def _choose_labels(
  path: pathlib.Path, columns: Sequence[str], given: Sequence[str] | None
) -> list[str] | None:
  """Names of the label columns; None: they stand in the column `labels`."""
  if given is not None:
    for name in given:
      if name in _KNOWN:
        raise UserError(f"--label_columns: {name!r} is no label column")
    return list(given)
  if "labels" in columns:
    return None
  return [name for name in columns if name not in _KNOWN]


def _row(
  path: pathlib.Path,
  number: int,
  cells: Mapping[str, str],
  columns: Sequence[str] | None,
) -> Row:
  """Checks and converts a row.

  Args:
    path: the table, for messages.
    number: of the row, from 1, for messages.
    cells: column -> text.
    columns: label columns; None: see `_choose_labels`.
  """
  where = f"row {number} of {path}"
  if not cells[FILE]:
    raise UserError(f"{where} names no file")
  split = cells.get("split", "")
  if "split" in cells and split not in SPLITS:
    raise UserError(
      f"{where}: split {split!r}; expected one of {', '.join(SPLITS)}"
    )
  if columns is None:
    labels = frozenset(filter(None, map(str.strip, cells["labels"].split(";"))))
  else:
    for name in columns:
      if cells[name] not in ("0", "1"):
        raise UserError(
          f"{where}: {name} is {cells[name]!r}, but labels are 0 or 1; name"
          " the label columns with --label_columns"
        )
    labels = frozenset(name for name in columns if cells[name] == "1")
  report = " ".join(cells.get("report", "").split())
  patient = cells.get("patient", "")
  group = {name: cells[name] for name in GROUPS if name in cells}
  return Row(cells[FILE], patient, report, split, labels, group)


def _check_files(
  path: pathlib.Path, numbers: Sequence[int], rows: Sequence[Row]
) -> None:
  """Checks that no file is named twice, and no patient is in two splits."""
  first: dict[str, int] = {}
  split_of: dict[str, str] = {}
  for number, row in zip(numbers, rows, strict=True):
    other = first.setdefault(row.file, number)
    if other != number:
      raise UserError(
        f"rows {other} and {number} of {path} name the same file {row.file!r}"
      )
    split = split_of.setdefault(row.patient, row.split)
    if row.patient and split != row.split:
      raise UserError(
        f"row {number} of {path}: patient {row.patient!r} is in {row.split},"
        f" and before in {split}"
      )
