"""The same recording under several ids.

The notes of all shards hold the identity of each record (`data/identity.py`);
so nothing is read twice, whoever wrote the shards and when. Once all are
written, equal identities are found by sorting, 16 bytes a record: 800,035 of
them take 0.8 s and 75 MiB at the end of a build, on one core
(`python -m tests.benchmarks.duplicates`, two runs).
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgdmer_jax import files
from cgdmer_jax.data import identity
from data_builders import shards

FILE_NAME = "duplicates.jsonl"
REASON = "duplicate"


@dataclasses.dataclass(frozen=True, eq=False)
class Record:
  """A record of a split; `job` has its `id` and `labels`."""

  split: str
  job: Any


@dataclasses.dataclass(frozen=True)
class Group:
  """Records of one recording.

  Attributes:
    records: two or more, in the order of the splits.
    left_out: those that are not kept.
  """

  records: tuple[Record, ...]
  left_out: tuple[Record, ...] = ()

  @property
  def crosses_splits(self) -> bool:
    """Whether the records are in more than one split."""
    return len({record.split for record in self.records}) > 1

  def keep_one(self) -> Group:
    """Leaves out all but one record, the first of the last split.

    The last split is the test: it is the smallest, so a record less costs most
    there, and results stay comparable with those of a split that has it.
    """
    last = self.records[-1].split
    kept = next(record for record in self.records if record.split == last)
    rest = tuple(record for record in self.records if record is not kept)
    return dataclasses.replace(self, left_out=rest)


def find(
  plan: Mapping[str, Sequence[shards.Shard]],
  outcomes: Mapping[str, Sequence[shards.Outcome]],
) -> list[Group]:
  """Finds the records of the same recordings.

  Args:
    plan: split -> its shards; jobs have an `id`.
    outcomes: split -> what has become of them.

  Returns:
    Groups in the order of their first records.
  """
  text = [outcome.identities for k in plan for outcome in outcomes[k]]
  groups = equal_rows(identity.to_rows(bytes.fromhex("".join(text))))
  wanted = {int(i) for group in groups for i in group}
  found = {}
  number = 0
  for split, members in plan.items():
    for shard, outcome in zip(members, outcomes[split], strict=True):
      if wanted.isdisjoint(range(number, number + outcome.num_examples)):
        number += outcome.num_examples
        continue
      for job in written(shard, outcome):
        if number in wanted:
          found[number] = Record(split, job)
        number += 1
  return [Group(tuple(found[int(i)] for i in group)) for group in groups]


def equal_rows(rows: np.ndarray) -> list[np.ndarray]:
  """Numbers of the rows of each set of two or more equal rows, both ascending.

  Args:
    rows: uint64 (n, k).
  """
  order = np.lexsort(rows.T)  # stable
  ordered = rows[order]
  is_first = np.ones(len(rows), bool)
  is_first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
  starts = np.flatnonzero(is_first)
  sizes = np.diff(np.append(starts, len(rows)))
  groups = [
    order[start : start + size]
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True)
  ]
  return sorted(groups, key=lambda group: group[0])


def written(shard: shards.Shard, outcome: shards.Outcome) -> list[Any]:
  """The jobs of a shard whose records are in it, in their order."""
  rejected = {rejection.id for rejection in outcome.rejected}
  return [job for job in shard.jobs if job.id not in rejected]


def without(
  shard: shards.Shard, outcome: shards.Outcome, left_out: set[str]
) -> shards.Shard | None:
  """The shard that takes the place of one with records that are left out.

  It is another file, a function of its own jobs: both are found finished when
  a build that was stopped goes on.

  Args:
    shard: a finished shard.
    outcome: what has become of it.
    left_out: ids of records.

  Returns:
    None: it has none of these records.
  """
  jobs = written(shard, outcome)
  kept = [job for job in jobs if job.id not in left_out]
  if len(kept) == len(jobs):
    return None
  return shards.Shard(shard.path.with_name(f"{shard.path.name}.single"), kept)


def summary(groups: Sequence[Group]) -> str | None:
  """What the user must know, in a line; None: there are no duplicates."""
  if not groups:
    return None
  number = sum(len(group.records) for group in groups)
  crossing = [group for group in groups if group.crosses_splits]
  text = f"duplicates: {number} records of {len(groups)} recordings"
  if crossing:
    where = collections.Counter(
      " and ".join(dict.fromkeys(r.split for r in group.records))
      for group in crossing
    )
    places = ", ".join(f"{k} {n}" for k, n in sorted(where.items()))
    text += f", {len(crossing)} of them in several splits ({places})"
  if crossing:
    text += f", {_examples(crossing)}"
  left_out = sum(len(group.left_out) for group in groups)
  if left_out:
    return f"{text}; {left_out} records were left out, one of each is kept"
  return f"{text}; the splits are published ones, so all are kept"


def _examples(groups: Sequence[Group]) -> str:
  first = [
    " = ".join(f"{r.job.id} ({r.split})" for r in group.records)
    for group in groups[:3]
  ]
  return "for instance " + ", ".join(first)


def metadata(groups: Sequence[Group]) -> dict[str, int]:
  """Numbers for the metadata of the data set."""
  return {
    "recordings": len(groups),
    "records": sum(len(group.records) for group in groups),
    "in_several_splits": sum(group.crosses_splits for group in groups),
    "left_out": sum(len(group.left_out) for group in groups),
  }


def write(path: pathlib.Path, groups: Sequence[Group]) -> None:
  """Writes a line for each recording, a JSON object.

  `ids` and `splits` of its records, `left_out`: ids of those that the data set
  has not, `same_labels`: whether all have the same labels.
  """
  lines = [
    {
      "ids": [record.job.id for record in group.records],
      "splits": [record.split for record in group.records],
      "left_out": [record.job.id for record in group.left_out],
      "same_labels": _have_same_labels(group),
    }
    for group in groups
  ]
  files.write(
    path, "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines)
  )


def _have_same_labels(group: Group) -> bool:
  first, *others = (record.job.labels for record in group.records)
  return all(
    np.array_equal(first[name], other[name])
    for other in others
    for name in first
  )
