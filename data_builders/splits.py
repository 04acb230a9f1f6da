"""Splits of data sets: published ones, or computed where there are none.

`stratified` is iterative stratification (Sechidis, Tsoumakas and Vlahavas,
ECML PKDD 2011), of patients instead of records. The order of a hash takes the
place of random numbers, so that a split is a function of the records alone,
whatever the order of their files.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from cgdmer_jax.errors import UserError
from data_builders import tables

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}


def stratified(
  ids: Sequence[str],
  labels: np.ndarray,
  groups: Sequence[str],
  fractions: Mapping[str, float] = FRACTIONS,
  seed: int = 0,
) -> dict[str, str]:
  """Splits records so that each label is spread over splits like the records.

  The rarest label is dealt first, each of its groups to the split that lacks
  most of that label. A label that a split then misses is moved there, one group
  at a time and never the last one of a label, the largest splits first.

  Args:
    ids: unique ids of the records.
    labels: 0 or 1 (records, labels); a row may be all zero.
    groups: the patient of each record, empty if unknown. Records of a patient
      stay together.
    fractions: split -> its share; they sum to 1.
    seed: any number; another one gives another split.

  Returns:
    Id -> split.
  """
  keys = [
    f"patient {group}" if group else f"record {record_id}"
    for record_id, group in zip(ids, groups, strict=True)
  ]
  order = sorted(set(keys), key=lambda key: _digest(f"{seed} {key}"))
  number = {key: i for i, key in enumerate(order)}
  group_of = np.array([number[key] for key in keys], int)
  # The records themselves count as the last and most frequent label.
  counts = np.zeros((len(order), labels.shape[1] + 1), int)
  np.add.at(counts, group_of, np.c_[labels, np.ones(len(ids), int)])
  names = list(fractions)
  shares = np.array([fractions[name] for name in names])
  split_of = _deal(counts, shares)
  _fill_gaps(counts > 0, split_of, shares)
  return {
    record_id: names[split_of[group]]
    for record_id, group in zip(ids, group_of, strict=True)
  }


def _digest(text: str) -> bytes:
  return hashlib.sha256(text.encode()).digest()


def _deal(counts: np.ndarray, shares: np.ndarray) -> np.ndarray:
  """Split of each group, int (groups,).

  Args:
    counts: positive records, int (groups, labels); the last label is in all.
    shares: float (splits,).
  """
  split_of = np.full(len(counts), -1)
  wanted = shares[:, None] * counts.sum(axis=0)
  while (left := split_of < 0).any():
    positives = counts[left].sum(axis=0)
    label = np.where(positives > 0, positives, np.inf).argmin()
    for group in np.flatnonzero(left & (counts[:, label] > 0)):
      # Of the splits that want the label most, the one with most room.
      split = np.lexsort((wanted[:, -1], wanted[:, label]))[-1]
      split_of[group] = split
      wanted[split] -= counts[group]
  return split_of


def _fill_gaps(
  has: np.ndarray, split_of: np.ndarray, shares: np.ndarray
) -> None:
  """Moves groups to splits without a positive of a label; edits `split_of`.

  Args:
    has: bool (groups, labels), the group has a record with the label.
    split_of: int (groups,).
    shares: float (splits,).
  """
  members = np.stack(
    [has[split_of == s].sum(axis=0) for s in range(len(shares))]
  )
  for label in np.argsort(has.sum(axis=0), kind="stable"):
    for split in np.argsort(-shares, kind="stable"):
      if members[split, label]:
        continue
      spare = [
        group
        for group in np.flatnonzero(has[:, label])
        if (members[split_of[group], has[group]] > 1).all()
      ]
      if spare:  # the one that disturbs the other labels least
        group = min(spare, key=lambda g: has[g].sum())
        members[split_of[group]] -= has[group]
        members[split] += has[group]
        split_of[group] = split


@dataclasses.dataclass(frozen=True)
class Published:
  """Published tables of splits and labels.

  Attributes:
    files: split -> its table, below the folder of the tables.
    id_column: column with the file of a record; its stem is the id.
    source: where the tables are from, for error messages.
  """

  files: Mapping[str, str]
  id_column: str
  source: str


def merl_files(
  corpus: str, id_column: str, label_set: str | None = None
) -> Published:
  """The split files that MERL published.

  Args:
    corpus: MERL's name for the corpus.
    id_column: see `Published`.
    label_set: MERL's name for the label set, where a corpus has several.
  """
  stem = f"{label_set}/{corpus}_{label_set}" if label_set else corpus
  names = {"train": "train", "validation": "val", "test": "test"}
  return Published(
    {split: f"{stem}_{name}.csv" for split, name in names.items()},
    id_column,
    "the split files in finetune/data_split/"
    f"{corpus} of https://github.com/cheliu-computation/MERL-ICML2024",
  )


def read_published(
  folder: pathlib.Path, published: Published, names: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
  """Reads published splits and labels as published loaders do: by position.

  A label of any table has the name of its column in the first table. Where the
  tables order their columns differently, labels are wrong in all but the first.

  Args:
    folder: folder of the tables.
    published: the tables.
    names: label names, each the name of a column of 0 and 1.

  Returns:
    Split -> id -> uint8 (labels,), order of `names`.

  Raises:
    UserError: a file or column is missing or superfluous, a value is neither 0
      nor 1, or a record is listed twice.
  """
  found: dict[str, dict[str, np.ndarray]] = {}
  id_column, header = published.id_column, []
  for split, file_name in published.files.items():
    path = folder / file_name
    rows = tables.read(path, (id_column, *names), published.source)
    header = header or list(next(iter(rows), ()))
    for row in rows:
      if len(row) != len(header):
        raise UserError(
          f"{path}: {row[id_column]!r} has {len(row)} columns, expected"
          f" {len(header)}"
        )
    ids = [pathlib.PurePosixPath(row[id_column]).stem for row in rows]
    rows = [dict(zip(header, row.values(), strict=True)) for row in rows]
    for name in names:
      for record_id, row in zip(ids, rows, strict=True):
        if row[name] not in ("0", "1"):
          raise UserError(
            f"{path}: {name} of {record_id!r} is {row[name]!r}, expected 0 or 1"
          )
    for record_id, times in collections.Counter(ids).items():
      if times > 1:
        raise UserError(f"{path} lists {record_id!r} twice")
    found[split] = {
      record_id: np.array([int(row[name]) for name in names], np.uint8)
      for record_id, row in zip(ids, rows, strict=True)
    }
  return found
