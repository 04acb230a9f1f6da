"""Reads the tables (CSV) that come with data sets."""

from __future__ import annotations

import contextlib
import csv
import itertools
import operator
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from cgdmer_jax.errors import UserError


def read(
  path: pathlib.Path, columns: Iterable[str], source: str
) -> list[dict[str, str]]:
  """Reads the rows of a table by the names of its columns.

  Args:
    path: the file, UTF-8; blank lines before the header do not count.
    columns: columns that it must have; it may have others.
    source: what the file should be a part of, for error messages.

  Raises:
    UserError: there is no such file, or it is no table with these columns.
  """
  with _open(path, source) as lines:
    reader = csv.DictReader(lines, restval="")
    names, rows = reader.fieldnames or (), list(reader)
  _check(path, names, columns, source)
  return rows


def stream(
  path: pathlib.Path, columns: Sequence[str], source: str
) -> Iterator[tuple[str, ...]]:
  """Reads some columns of a table row by row, for tables of a million rows.

  Args:
    path: the file, UTF-8; blank lines do not count.
    columns: names of two or more columns.
    source: what the file should be a part of, for error messages.

  Yields:
    The values of `columns` in one row, empty where the row is too short.

  Raises:
    UserError: there is no such file, or it is no table with these columns.
  """
  with _open(path, source) as lines:
    reader = csv.reader(lines)
    names = next(reader, [])
    _check(path, names, columns, source)
    pick = operator.itemgetter(*map(names.index, columns))
    for row in reader:
      if row:
        row += [""] * (len(names) - len(row))
        yield pick(row)


@contextlib.contextmanager
def _open(path: pathlib.Path, source: str) -> Iterator[Iterator[str]]:
  """Lines from the first that is not blank; errors become `UserError`."""
  try:
    with path.open(encoding="utf-8-sig", newline="") as f:
      yield itertools.dropwhile(lambda line: not line.strip(), f)
  except FileNotFoundError:
    raise UserError(
      f"no {path.name} in {path.parent}; expected {source}"
    ) from None
  except (UnicodeDecodeError, csv.Error) as e:
    raise UserError(f"{path} is no table of {source}: {e}") from e


def _check(
  path: pathlib.Path, names: Sequence[str], columns: Iterable[str], source: str
) -> None:
  for column in columns:
    if column not in names:
      raise UserError(f"{path} has no column {column!r}; expected {source}")
