"""What the builders of recorded data sets share.

A builder lists the records of its corpus as `RecordJob`s; reading, encoding,
rejecting and writing them is done here, in several processes and with the same
result for any number of them.
"""

from __future__ import annotations

import abc
import collections
import concurrent.futures
import dataclasses
import itertools
import multiprocessing
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError
from data_builders import codec, example_writer, rejects, wfdb_io

_CHUNK = 16  # records a task; two tasks a worker wait, so memory stays bounded
_JOBS_PER_WORKER = 500  # a worker starts in seconds and reads 1000 records/s

Reader = Callable[[pathlib.Path], codec.Recording]  # raises rejects.Rejected


@dataclasses.dataclass(frozen=True)
class RecordJob:
  """A record to be read.

  Attributes:
    id: the data set's own id, unique in the data set.
    path: its files without suffix.
    subject_id: patient; empty where the data set knows none.
    report: cleaned report, may be empty.
    labels: label set name -> uint8 multi-hot vector.
  """

  id: str
  path: pathlib.Path
  subject_id: str
  report: str
  labels: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Decoded:
  """The signal of a record: int16 (12, T) microvolt and bool (12,)."""

  ecg: np.ndarray
  lead_valid: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rejection:
  """Why a record cannot be used."""

  reason: str
  detail: str


def decode(
  path: pathlib.Path, spec: codec.SignalSpec, read: Reader = wfdb_io.read
) -> Decoded | Rejection:
  """Reads and encodes one record.

  Args:
    path: its files without suffix.
    spec: rate and length of the records.
    read: reads the files.
  """
  try:
    return Decoded(*codec.encode(read(path), spec))
  except rejects.Rejected as e:
    return Rejection(e.reason, str(e))


def decode_all(
  paths: Iterable[pathlib.Path],
  spec: codec.SignalSpec,
  num_workers: int,
  read: Reader = wfdb_io.read,
) -> Iterator[Decoded | Rejection]:
  """Decodes records in `num_workers` processes, in the order of `paths`.

  One worker decodes in this process. Otherwise processes are spawned, not
  forked, since this one may have threads; so `read` is a function of a module.
  """
  if num_workers <= 1:
    for path in paths:
      yield decode(path, spec, read)
    return
  executor = concurrent.futures.ProcessPoolExecutor(
    num_workers,
    mp_context=multiprocessing.get_context("spawn"),
    initializer=_start_worker,
  )
  paths = iter(paths)
  pending: collections.deque[concurrent.futures.Future] = collections.deque()
  try:
    while True:
      while len(pending) < 2 * num_workers:
        chunk = list(itertools.islice(paths, _CHUNK))
        if not chunk:
          break
        pending.append(executor.submit(_decode_chunk, chunk, spec, read))
      if not pending:
        return
      yield from pending.popleft().result()
  except concurrent.futures.process.BrokenProcessPool:
    raise UserError(
      f"one of {num_workers} reading processes died, perhaps for lack of"
      " memory; try fewer with --num_workers"
    ) from None
  finally:
    executor.shutdown(cancel_futures=True)


def _decode_chunk(
  paths: Sequence[pathlib.Path], spec: codec.SignalSpec, read: Reader
) -> list[Decoded | Rejection]:
  return [decode(path, spec, read) for path in paths]


def _start_worker() -> None:
  """Lets the parent alone decide when this worker ends."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes

  def end_with_parent() -> None:  # or it would wait for tasks for ever
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=end_with_parent, daemon=True).start()


def check_jobs(jobs: Mapping[str, Sequence[RecordJob]]) -> None:
  """Checks what must hold before anything is read.

  Args:
    jobs: split name -> jobs.

  Raises:
    UserError: a split is empty, an id occurs twice, or two splits share a
      patient.
  """
  ids: set[str] = set()
  split_of: dict[str, str] = {}
  for split, members in jobs.items():
    if not members:
      raise UserError(f"no records for the split {split!r}")
    for job in members:
      if job.id in ids:
        raise UserError(f"record {job.id} is listed twice")
      ids.add(job.id)
      other = split_of.setdefault(job.subject_id, split)
      if job.subject_id and other != split:
        raise UserError(
          f"patient {job.subject_id} is in the splits {other!r} and {split!r}"
        )


class RecordBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Base of the builders of recorded data sets.

  A subclass defines `_info`, `_signal_spec` and `_list_jobs`, and documents in
  `MANUAL_DOWNLOAD_INSTRUCTIONS` where its files come from.

  Attributes:
    rejects: records that could not be used; written beside the data set.
  """

  def __init__(
    self, *, max_rejected: float = 0.01, num_workers: int = 1, **kwargs: Any
  ):
    """Creates the builder.

    Args:
      max_rejected: largest share of records that may be rejected, 0..1.
      num_workers: processes that read records, at most; fewer read a split
        that is not worth them.
      **kwargs: arguments of `tfds.core.GeneratorBasedBuilder`.
    """
    super().__init__(**kwargs)
    self.rejects = rejects.Rejects(max_rejected)
    self._num_workers = num_workers

  @abc.abstractmethod
  def _signal_spec(self) -> codec.SignalSpec:
    """Rate and length of the records."""

  def _reader(self) -> Reader:
    """The function that reads a record; WFDB unless a subclass says else."""
    return wfdb_io.read

  @abc.abstractmethod
  def _list_jobs(self, manual_dir: pathlib.Path) -> dict[str, list[RecordJob]]:
    """Lists the records by split; adds unusable rows to `self.rejects`.

    Raises:
      UserError: `manual_dir` is not the data set.
    """

  def _split_generators(self, dl_manager):
    jobs = self._list_jobs(pathlib.Path(dl_manager.manual_dir))
    self.rejects.seen = self.rejects.counts.total()
    self.rejects.total = self.rejects.seen + sum(map(len, jobs.values()))
    self.rejects.check()
    check_jobs(jobs)
    return {k: self._generate_examples(v) for k, v in jobs.items()}

  def _generate_examples(self, jobs: Sequence[RecordJob]):
    spec = self._signal_spec()
    num_workers = min(self._num_workers, len(jobs) // _JOBS_PER_WORKER)
    paths = [job.path for job in jobs]
    results = decode_all(paths, spec, num_workers, self._reader())
    written = 0
    for job, result in zip(jobs, results, strict=True):
      self.rejects.seen += 1
      if isinstance(result, Rejection):
        self.rejects.add(job.id, result.reason, result.detail)
        self.rejects.check()
        continue
      written += 1
      yield (
        job.id,
        {
          "id": job.id,
          "subject_id": job.subject_id,
          "ecg": result.ecg,
          "lead_valid": result.lead_valid,
          "report": job.report,
          "labels": dict(job.labels),
        },
      )
    if not written:
      raise rejects.TooManyRejected(
        f"all {len(jobs)} records of a split cannot be used"
        f" ({self.rejects.summary()})"
      )

  def _example_writer(self):
    return example_writer.DeterministicWriter(self.info.file_format)

  def _post_download_and_prepare_hook(self) -> None:
    self.rejects.write(pathlib.Path(self.data_dir) / rejects.FILE_NAME)
