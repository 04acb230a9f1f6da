"""Reads the tables (CSV) that come with data sets."""

from __future__ import annotations

import csv
import itertools
import pathlib
from collections.abc import Iterable

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
  try:
    with path.open(encoding="utf-8-sig", newline="") as f:
      lines = itertools.dropwhile(lambda line: not line.strip(), f)
      reader = csv.DictReader(lines, restval="")
      names, rows = reader.fieldnames or (), list(reader)
  except FileNotFoundError:
    raise UserError(
      f"no {path.name} in {path.parent}; expected {source}"
    ) from None
  except (UnicodeDecodeError, csv.Error) as e:
    raise UserError(f"{path} is no table of {source}: {e}") from e
  for column in columns:
    if column not in names:
      raise UserError(f"{path} has no column {column!r}; expected {source}")
  return rows
