"""Reads the tables (CSV) that come with data sets."""

from __future__ import annotations

import contextlib
import csv
import itertools
import operator
import pathlib
from collections.abc import Collection, Iterator, Sequence

from cgdmer_jax.errors import UserError, one_line


def read(
  path: pathlib.Path,
  columns: Collection[str],
  source: str,
  delimiter: str = ",",
) -> list[dict[str, str]]:
  """Reads the rows of a table by the names of its columns.

  Args:
    path: the file, UTF-8; blank lines do not count.
    columns: columns that it must have; it may have others.
    source: what the file should be a part of, for error messages.
    delimiter: what separates its fields.

  Raises:
    UserError: there is no such file, or it is not a table with these columns.
  """
  with _open(path, columns, source, delimiter) as (names, rows):
    return [dict(zip(names, row, strict=True)) for row in rows]


def stream(
  path: pathlib.Path, columns: Sequence[str], source: str
) -> Iterator[tuple[str, ...]]:
  """Reads some columns of a table row by row, for tables of a million rows.

  Args:
    path: the file, UTF-8; blank lines do not count.
    columns: names of two or more columns.
    source: what the file should be a part of, for error messages.

  Yields:
    The values of `columns` in one row.

  Raises:
    UserError: there is no such file, or it is not a table with these columns.
  """
  with _open(path, columns, source) as (names, rows):
    yield from map(operator.itemgetter(*map(names.index, columns)), rows)


@contextlib.contextmanager
def _open(
  path: pathlib.Path,
  columns: Collection[str],
  source: str,
  delimiter: str = ",",
) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
  """Yields the names of the columns, and the rows; raises `UserError`."""
  try:
    with path.open(encoding="utf-8-sig", newline="") as f:
      lines = itertools.dropwhile(lambda line: not line.strip(), f)
      reader = csv.reader(lines, delimiter=delimiter, strict=True)
      rows = filter(None, reader)
      names = next(rows, [])
      for column in columns:
        if names.count(column) != 1:
          number = "several columns" if column in names else "no column"
          raise UserError(f"{path} has {number} {column!r}; expected {source}")
      yield names, _check(rows, len(names), path, source)
  except FileNotFoundError:
    raise UserError(
      f"no {path.name} in {path.parent}; expected {source}"
    ) from None
  except (OSError, UnicodeDecodeError, csv.Error) as e:
    raise UserError(f"{path} is not a table of {source}: {one_line(e)}") from e


def _check(
  rows: Iterator[list[str]], width: int, path: pathlib.Path, source: str
) -> Iterator[list[str]]:
  """Fails at a row of another width: after a stray comma nothing is certain."""
  for number, row in enumerate(rows, 1):
    if len(row) != width:
      raise UserError(
        f"row {number} of {path} has {len(row)} fields instead of {width};"
        f" expected {source}"
      )
    yield row
