"""Scores of parts of the test records: by sex and by age.

Records have neither sex nor age, so a table of the data set tells them: a CSV
with the columns `id` (as in the data set), `sex` (female or male) and `age`
(years). What a record lacks leaves it out of that comparison.
"""

from __future__ import annotations

import csv
import dataclasses
import math
import pathlib
from collections.abc import Mapping

import numpy as np

from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Evaluation, Outcome, TestSet

AGES = (50, 65, 80)  # years at which a group ends
_SEXES = {"f": "female", "female": "female", "m": "male", "male": "male"}

# Column -> record id -> group.
Groups = Mapping[str, Mapping[str, str]]


@dataclasses.dataclass(frozen=True)
class Subgroup:
  """Scores of a part of the test records.

  Attributes:
    column: "sex" or "age".
    name: of the group, such as "female".
    evaluation: over the labels that every group of the column has enough of, so
      that the macro averages of its groups are about the same labels.
  """

  column: str
  name: str
  evaluation: Evaluation


def read(path: pathlib.Path) -> Groups:
  """Reads a table; see the head of this file.

  Raises:
    UserError: the file cannot be read, lacks a column, or has a value that is
      no sex or age.
  """
  try:
    with path.open(encoding="utf-8-sig", newline="") as file:
      rows = [*csv.DictReader(file)]
  except (OSError, ValueError, csv.Error) as e:
    raise UserError(f"--groups={path} cannot be read: {one_line(e)}") from e
  if not rows or not {"id"} < set(rows[0]) & {"id", "sex", "age"}:
    raise UserError(
      f"--groups={path}: expected the columns id, sex and age, or two of them"
      " with id"
    )
  made = {"sex": _sex, "age": _age}
  return {
    column: {
      row["id"]: group(f"--groups={path}", row[column].strip())
      for row in rows
      if (row[column] or "").strip()
    }
    for column, group in made.items()
    if column in rows[0]
  }


def _sex(where: str, text: str) -> str:
  if text.lower() not in _SEXES:
    raise UserError(f"{where}: sex={text!r}; expected female or male")
  return _SEXES[text.lower()]


def _age(where: str, text: str) -> str:
  try:
    years = float(text)
  except ValueError:
    years = math.nan
  if not years >= 0:
    raise UserError(f"{where}: age={text!r}; expected years")
  low = 0
  for high in AGES:
    if years < high:
      return f"{low} to {high - 1}" if low else f"below {high}"
    low = high
  return f"{low} and older"


def score(
  test: TestSet, outcome: Outcome, groups: Groups, seed: int = 0
) -> list[Subgroup]:
  """Scores an outcome on each group of its test records.

  Args:
    test: the records.
    outcome: scores of all of them.
    groups: from `read`.
    seed: decides the resampling.

  Returns:
    Groups of each column; a column where fewer than two groups have records, or
    no label is common enough in all of them, is left out.
  """
  found = []
  for column, by_id in groups.items():
    known = np.array([by_id.get(x, "") for x in test.record_ids])
    names = sorted(set(known) - {""}, key=lambda x: (x[:5] != "below", x))
    parts = {name: known == name for name in names}
    counted = [
      scoring.counted_labels(
        test.labels[rows], outcome.evaluation.min_positives
      )
      for rows in parts.values()
    ]
    if len(names) < 2 or not np.all(counted, axis=0).any():
      continue
    columns = np.flatnonzero(np.all(counted, axis=0))
    for name, rows in parts.items():
      part = TestSet(
        test.record_ids[rows],
        test.subjects[rows],
        test.labels[rows][:, columns],
        tuple(test.label_names[i] for i in columns),
      )
      scored = scoring.evaluate(
        part,
        outcome.setting,
        outcome.scores[:, rows][:, :, columns],
        min_positives=outcome.evaluation.min_positives,
        num_bootstrap=outcome.evaluation.num_bootstrap,
        seed=seed,
      )
      found.append(Subgroup(column, name, scored.evaluation))
  return found
