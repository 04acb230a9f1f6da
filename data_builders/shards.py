"""A data set is built shard by shard, and a shard is a function of its jobs.

A job describes one record. Which jobs make up which shard is settled before
anything is read, so shards can be written by any number of processes or
machines, in any order, with the same bytes. A finished shard has a note beside
it: what is in it, and a fingerprint of all that its bytes depend on. After a
stop, the next build writes only the shards that have none.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer

from cgdmer_jax import files
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.recordings import rejected
from data_builders import rejects

_FORMAT = "3"  # raise it when the same jobs give other bytes than before

SHARD_BYTES = 64 << 20  # of signals; what a killed process loses at most

# Groups of one record: every record can be read alone. The lowest level of
# compression: half the time of the default one, files 8 % larger, real ECGs at
# 500 Hz less than half of their int16 samples.
_ARRAY_RECORD = "group_size:1,zstd:1"

# A user may fix the files of such records before going on.
_FIXABLE = {
  cls.reason
  for cls in (
    rejected.MissingFile,
    rejected.Unreadable,
    rejected.Truncated,
    rejected.Corrupt,
  )
}


@dataclasses.dataclass(frozen=True)
class Shard:
  """Some jobs of a split.

  Attributes:
    path: file to be written; its note is `path` with `.json` appended.
    jobs: what to write, in this order.
  """

  path: pathlib.Path
  jobs: Sequence[Any]

  @property
  def note(self) -> pathlib.Path:
    """The file whose existence says that the shard is finished."""
    return self.path.with_name(self.path.name + ".json")


@dataclasses.dataclass(frozen=True)
class Made:
  """What is made of a job.

  Attributes:
    fields: of the record, as `schema.features` wants them.
    identity: bytes that only records of the same recording share; empty where
      there are no recordings.
    faults: why leads are invalid, a reason for each.
  """

  fields: Mapping[str, Any]
  identity: bytes = b""
  faults: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What has become of the jobs of a shard.

  Attributes:
    num_examples: records written.
    num_bytes: their size before compression.
    rejected: records that cannot be used.
    identities: hexadecimal `Made.identity` of all records, one after the other.
    faults: reason -> number of leads that are invalid for it.
    resumed: the shard was finished by an earlier build.
  """

  num_examples: int
  num_bytes: int
  rejected: tuple[rejects.Rejection, ...]
  identities: str = ""
  faults: Mapping[str, int] = dataclasses.field(default_factory=dict)
  resumed: bool = False


def divide(
  jobs: Sequence[Any], record_bytes: int, folder: pathlib.Path, split: str
) -> list[Shard]:
  """Divides a split into shards of nearly equal numbers of jobs.

  Args:
    jobs: jobs of one split, in the order of its records.
    record_bytes: size of the signal of a record.
    folder: where the shards will be.
    split: name of the split.
  """
  number = min(
    len(jobs), math.ceil(len(jobs) * record_bytes / SHARD_BYTES) or 1
  )
  starts = [len(jobs) * k // number for k in range(number + 1)]
  return [
    Shard(folder / f"{split}-{k:05}-of-{number:05}", jobs[start:stop])
    for k, (start, stop) in enumerate(zip(starts, starts[1:], strict=False))
  ]


@dataclasses.dataclass(frozen=True)
class Writer:
  """Writes a shard unless it is finished; can be sent to other processes.

  Attributes:
    make: job -> its record, or why there is none.
    features: names and types of the fields of a record.
  """

  make: Callable[[Any], Made | rejects.Rejection]
  features: tfds.features.FeaturesDict

  def __call__(self, shard: Shard) -> Outcome:
    """Writes a shard; nothing partial ever has its name.

    Raises:
      UserError: the disk is full or cannot be written.
    """
    fingerprint = self._fingerprint(shard.jobs)
    if _is_finished(shard, fingerprint):
      return dataclasses.replace(read_outcome(shard), resumed=True)
    with contextlib.ExitStack() as stack:
      with _explained():
        partial = stack.enter_context(files.replacing(shard.path))
      outcome = self._write(partial, shard.jobs)
      with _explained():
        size = partial.stat().st_size
        stack.close()  # the shard gets its name, before its note exists
        note = dataclasses.asdict(outcome)
        note |= {"fingerprint": fingerprint, "size": size}
        files.write(shard.note, json.dumps(note))
    return outcome

  def _fingerprint(self, jobs: Sequence[Any]) -> str:
    """Hash of everything that the bytes of a shard depend on."""
    content = {
      "format": [_FORMAT, _ARRAY_RECORD],
      "features": self.features.to_json(),
      "make": self.make,
      "jobs": list(jobs),
    }
    # The features come in another order in every process.
    text = json.dumps(
      content, default=_plain, ensure_ascii=False, sort_keys=True
    )
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

  def _write(self, path: pathlib.Path, jobs: Sequence[Any]) -> Outcome:
    serializer = example_serializer.ExampleSerializer(
      self.features.get_serialized_info()
    )
    num_examples, num_bytes, rejected = 0, 0, []
    identities, faults = [], collections.Counter()
    with _array_record(path) as write:
      for job in jobs:
        made = self.make(job)
        if isinstance(made, rejects.Rejection):
          rejected.append(made)
          continue
        example = serializer.get_tf_example(
          self.features.encode_example(made.fields)
        )
        # The fields are a map, whose order differs between processes.
        record = example.SerializeToString(deterministic=True)
        write(record)
        num_examples += 1
        num_bytes += len(record)
        identities.append(made.identity.hex())
        faults.update(made.faults)
    return Outcome(
      num_examples,
      num_bytes,
      tuple(rejected),
      "".join(identities),
      dict(sorted(faults.items())),
    )


@contextlib.contextmanager
def _array_record(path: pathlib.Path) -> Iterator[Callable[[bytes], None]]:
  """Opens a file; yields the function that appends a record to it."""
  with _explained():
    writer = array_record_module.ArrayRecordWriter(str(path), _ARRAY_RECORD)

  def write(record: bytes) -> None:
    with _explained():
      writer.write(record)

  try:
    yield write
  except BaseException:
    with contextlib.suppress(RuntimeError):
      writer.close()
    raise
  with _explained():
    writer.close()


@contextlib.contextmanager
def _explained() -> Iterator[None]:
  """Turns errors of writing into one that says what to do."""
  try:
    yield
  except (OSError, RuntimeError) as e:  # the latter of ArrayRecord
    raise UserError(
      f"cannot write the data set: {one_line(e)} (is the disk full?); once that"
      " is fixed, the same command continues from the finished shards"
    ) from e


def _plain(value: Any) -> Any:
  """Turns a value of a job, or a function with its settings, into JSON."""
  if isinstance(value, functools.partial):
    return [value.func, value.args, value.keywords]
  if callable(value) and hasattr(value, "__qualname__"):
    return f"{value.__module__}.{value.__qualname__}"
  if isinstance(value, np.ndarray):
    return value.tolist()
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  return vars(value)


def read_outcome(shard: Shard) -> Outcome:
  """Reads the outcome of a finished shard from its note."""
  note = json.loads(shard.note.read_text(encoding="utf-8"))
  return Outcome(
    note["num_examples"],
    note["num_bytes"],
    tuple(rejects.Rejection(**r) for r in note["rejected"]),
    note["identities"],
    note["faults"],
  )


def _is_finished(shard: Shard, fingerprint: str) -> bool:
  """Tells whether an earlier build has written these jobs just like that."""
  try:
    note = json.loads(shard.note.read_text(encoding="utf-8"))
    expected = note["fingerprint"], note["size"]
    reasons = {r["reason"] for r in note["rejected"]}
    size = shard.path.stat().st_size
  except (OSError, ValueError, KeyError, TypeError):
    return False
  return expected == (fingerprint, size) and not reasons & _FIXABLE
