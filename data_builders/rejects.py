"""Records that cannot be used: why, how many, and when that is too many.

A record that cannot be used never enters a data set and never vanishes: it is
counted under the reason of its exception class and listed by `Rejects`. So is a
record that could be used but that the data set leaves out by its definition;
this is not a defect and does not count against the limit.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable

from cgdmer_jax import files
from cgdmer_jax.errors import UserError

FILE_NAME = "rejected.jsonl"
MAX_DETAIL = 200  # characters; a damaged line may have millions


@dataclasses.dataclass(frozen=True)
class Rejection:
  """A record that cannot be used, or is left out.

  Attributes:
    id: the data set's own id of the record.
    reason: slug of the exception class, or of the rule that leaves it out.
    detail: what exactly is wrong, for people; at most `MAX_DETAIL` characters.
  """

  id: str
  reason: str
  detail: str

  def __post_init__(self):
    if len(self.detail) > MAX_DETAIL:
      cut = f"{self.detail[: MAX_DETAIL - 3]}..."
      object.__setattr__(self, "detail", cut)


class TooManyRejected(UserError):
  """More records were rejected than the user allows."""


class Rejects:
  """The list of rejected records of one build and its limit.

  Attributes:
    total: number of records of the corpus, once it is known.
    seen: number of records that were looked at so far.
    counts: reason -> number of rejected records.
    left_out: reason -> number of records left out by definition; they are in
      neither `total` nor `counts`.
  """

  def __init__(self, max_fraction: float):
    """Starts an empty list.

    Args:
      max_fraction: the largest acceptable share of `total`, 0..1.
    """
    self.total = 0
    self.seen = 0
    self.counts: collections.Counter[str] = collections.Counter()
    self.left_out: collections.Counter[str] = collections.Counter()
    self._max_fraction = max_fraction
    self._entries: list[Rejection] = []

  def start(self, num_left: int) -> None:
    """Takes down how many records are still to come; checks the limit."""
    self.seen = self.counts.total()
    self.total = self.seen + num_left
    self.check()

  def add(self, record_id: str, reason: str, detail: str) -> None:
    """Adds a record that cannot be used."""
    self.extend([Rejection(record_id, reason, detail)])

  def extend(self, rejected: Iterable[Rejection]) -> None:
    """Adds records that cannot be used."""
    for rejection in rejected:
      self.counts[rejection.reason] += 1
      self._entries.append(rejection)

  def leave_out(self, record_id: str, reason: str, detail: str) -> None:
    """Adds a record that the data set leaves out by its definition."""
    self.left_out[reason] += 1
    self._entries.append(Rejection(record_id, reason, detail))

  def check(self) -> None:
    """Raises `TooManyRejected` as soon as the limit cannot be kept any more.

    Call it after every shard: a corpus of a million records in a wrong folder
    should fail after seconds.
    """
    rejected = self.counts.total()
    if rejected <= self._max_fraction * self.total:
      return
    raise TooManyRejected(
      f"{rejected} of the first {self.seen} of {self.total} records"
      f" cannot be used ({self.summary()}), more than"
      f" --max_rejected={self._max_fraction:g} allows"
    )

  def summary(self) -> str:
    """Counts by reason: `truncated 3, no_signal 1`, or `none`."""
    return summary(self.counts)

  def left_out_summary(self) -> str:
    """Counts by reason of the records left out: `short_report 7`, or `none`."""
    return summary(self.left_out)

  def write(self, path: pathlib.Path) -> None:
    """Writes a line for each record, a JSON object of id, reason and detail."""
    lines = [
      json.dumps(vars(e), ensure_ascii=False) + "\n" for e in self._entries
    ]
    # A path in a detail may hold bytes that are not text; they are escaped.
    files.write(path, "".join(lines).encode("utf-8", "backslashreplace"))


def summary(counts: collections.Counter[str]) -> str:
  """Counts by reason, the largest first: `truncated 3, no_signal 1`."""
  ordered = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))
  return ", ".join(f"{reason} {n}" for reason, n in ordered) or "none"
