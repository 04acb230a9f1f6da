"""Batches of records on the host.

The order of the records is a pure function of (seed, step): a run resumes at
any step at once, on any number of processes, without saved iterator state.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import grain
import numpy as np

from cgdmer_jax.errors import UserError

_SHARED_MEMORY = pathlib.Path("/dev/shm")  # of Linux; others set no limit
_BUS_ERROR = "exit code -7"  # of a process that wrote where no memory was left

# Fields of `batch.Batch` of this process, or some of them, by their names.
HostBatch = dict[str, np.ndarray]


@runtime_checkable
class SignalSource(Protocol):
  """Where batches are read from; `EcgSource` is one.

  Attributes:
    name: name of the data set, for messages.
    sampling_rate: Hz.
  """

  name: str
  sampling_rate: int

  def __len__(self) -> int:
    """Number of records."""

  def signal(self, index: int) -> dict[str, Any]:
    """`ecg` int16 (12, T) and `lead_valid` bool (12,) of a record."""


def train_batches(
  source: SignalSource,
  report_ids: np.ndarray,
  report_rows: Callable[[np.ndarray, np.ndarray], HostBatch],
  *,
  batch_size: int,
  seed: int,
  start_step: int = 0,
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int = 2,
  num_workers: int = 0,
) -> Iterator[HostBatch]:
  """Endless training batches, beginning with the one of `start_step`.

  Every epoch visits each record once, in a new order. Where `batch_size` does
  not divide the data set, one batch holds the end of an epoch and the beginning
  of the next.

  Process p yields rows [p * b, (p + 1) * b) of each global batch, b =
  batch_size / process_count: the global batch does not depend on the number of
  processes, neither its records nor their order.

  Args:
    source: the records.
    report_ids: int32 (records,), the report of each record.
    report_rows: returns what is added to a batch, such as the tokens of its
      reports; its arguments are the reports of this process's records, and
      those of the whole global batch.
    batch_size: records of the global batch, over all processes.
    seed: decides the order of the records.
    start_step: number of updates already made.
    process_index: this process.
    process_count: processes that share each global batch.
    num_threads: how many batches are read at the same time.
    num_workers: reading processes; 0 reads in threads of this one, which is
      enough until a host needs more than about 10,000 records/s.

  Returns:
    Iterator of {ecg int16 (b, 12, T), lead_valid bool (b, 12)} and what
    `report_rows` returns. Close it (`close()`) to stop its workers.

  Raises:
    UserError: the batch is larger than the data set or cannot be divided by
      the number of processes, or there is too little shared memory.
  """
  rows = _process_rows(batch_size, process_index, process_count)
  if batch_size > len(source):
    raise UserError(
      f"batch_size={batch_size} is larger than {source.name}, which has"
      f" {len(source)} records; reduce it"
    )
  if len(report_ids) != len(source):
    raise ValueError(f"{len(report_ids)} report ids, {len(source)} records")
  order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
  batches = order.batch(batch_size)[start_step:].map(_Read(source, rows))
  if num_workers:
    size = (rows.stop - rows.start) * source.signal(0)["ecg"].nbytes
    _check_shared_memory(num_workers, size)
  return _iterate(batches, report_ids, report_rows, num_threads, num_workers)


def prefetch(
  batches: Iterator[HostBatch], put: Callable[[HostBatch], Any], ahead: int = 2
) -> Iterator[Any]:
  """Puts batches on the devices while earlier ones are still in use.

  Args:
    batches: batches on the host; closed with the iterator that is returned.
    put: starts the transfer of one batch to the devices.
    ahead: how many batches are put there before they are asked for.
  """
  with contextlib.closing(batches):
    waiting = collections.deque()
    for batch in batches:
      waiting.append(put(batch))
      if len(waiting) > ahead:
        yield waiting.popleft()
    yield from waiting


def eval_batches(
  source: SignalSource,
  *,
  batch_size: int,
  process_index: int = 0,
  process_count: int = 1,
  num_threads: int = 2,
) -> Iterator[HostBatch]:
  """Yields all records once, in order, in batches of equal size.

  The last batch is filled up by repeating the last record, with `valid` False:
  such rows are ordinary input to a model and must not be counted. Process p
  yields rows [p * b, (p + 1) * b) of each global batch, as in training.

  Args:
    source: the records.
    batch_size: rows of the global batch, over all processes.
    process_index: this process.
    process_count: processes that share each global batch.
    num_threads: how many batches are read at the same time.

  Returns:
    Iterator of {ecg int16 (b, 12, T), lead_valid bool (b, 12), index int32
    (b,): record of each row, valid bool (b,): False in padding}.

  Raises:
    UserError: the batch cannot be divided by the number of processes.
  """
  rows = _process_rows(batch_size, process_index, process_count)
  starts = grain.MapDataset.range(0, len(source), batch_size)
  batches = starts.map(_ReadInOrder(source, batch_size, rows))
  return iter(batches.to_iter_dataset(_read_options(num_threads)))


def _process_rows(batch_size: int, index: int, count: int) -> slice:
  """The rows of the global batch that belong to process `index`."""
  if batch_size < 1 or batch_size % count:
    raise UserError(
      f"batch_size={batch_size} cannot be divided among {count} processes; make"
      f" it a positive multiple of {count}"
    )
  b = batch_size // count
  return slice(index * b, (index + 1) * b)


def _read(source: SignalSource, indices: np.ndarray) -> HostBatch:
  records = [source.signal(int(i)) for i in indices]
  return {
    "ecg": np.stack([r["ecg"] for r in records]),
    "lead_valid": np.stack([r["lead_valid"] for r in records]),
    "index": indices.astype(np.int32),
  }


class _Read:
  """Reads this process's rows of a global batch, from its record numbers."""

  def __init__(self, source: SignalSource, rows: slice):
    self._source = source
    self._rows = rows

  def __call__(self, indices: Sequence[int] | np.ndarray) -> HostBatch:
    indices = np.asarray(indices)
    batch = _read(self._source, indices[self._rows])
    return {**batch, "whole_batch": indices}


class _ReadInOrder:
  """Reads the padded rows of a batch, from its first record."""

  def __init__(self, source: SignalSource, batch_size: int, rows: slice):
    self._source = source
    self._last = len(source) - 1
    self._batch_size = batch_size
    self._rows = rows

  def __call__(self, start: int) -> HostBatch:
    indices = np.arange(start, start + self._batch_size)
    batch = _read(self._source, np.minimum(indices, self._last)[self._rows])
    return {**batch, "valid": indices[self._rows] <= self._last}


def _iterate(batches, report_ids, report_rows, num_threads, num_workers):
  dataset = batches.to_iter_dataset(_read_options(num_threads))
  if num_workers:
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers))
  iterator = iter(dataset)
  try:
    # Reports are added here, not in the map: workers need no copy of them.
    for batch in iterator:
      if num_workers:
        # Out of shared memory, which whoever holds a batch at the end of the
        # program would leave behind, and which may be scarce.
        batch = {key: np.array(value) for key, value in batch.items()}
      rows = report_ids[batch.pop("index")]
      yield batch | report_rows(rows, report_ids[batch.pop("whole_batch")])
  except RuntimeError as error:
    if _BUS_ERROR not in str(error):
      raise
    raise UserError(
      f"data.num_workers={num_workers}: no shared memory is left in"
      f" {_SHARED_MEMORY}; make it larger or set data.num_workers=0"
    ) from None
  finally:
    iterator.close()
    if num_workers:
      _wait_for_release()


def _check_shared_memory(num_workers: int, batch_bytes: int) -> None:
  """Raises `UserError` if the batches of workers do not fit.

  Too little is no error anywhere else: a worker dies with the first write.
  Measured: 5.1 batches of one worker, 11.0 of two, 19.9 of four at most.
  """
  if not _SHARED_MEMORY.is_dir():
    return
  needed = 5 * num_workers * batch_bytes / 1e6
  free = shutil.disk_usage(_SHARED_MEMORY).free / 1e6
  if needed > free:
    raise UserError(
      f"data.num_workers={num_workers} needs {needed:.0f} MB of shared memory,"
      f" {_SHARED_MEMORY} has {free:.0f} MB free; make it larger (docker run"
      " --shm-size) or set data.num_workers=0"
    )


def _wait_for_release() -> None:
  """Waits until Grain has released the shared memory of what was not used.

  It does so in a thread; a program that ends before is said to leak objects.
  """
  gc.collect()
  try:
    from grain._src.python.ipc import shared_memory_array as grain_memory

    pool = grain_memory.SharedMemoryArray._del_thread_pool
    if pool is not None:
      pool.apply(int)  # behind all that wait for its one thread
  except (ImportError, AttributeError):  # of another version: a warning stays
    pass


def _read_options(num_threads: int) -> grain.ReadOptions:
  return grain.ReadOptions(
    num_threads=num_threads, prefetch_buffer_size=2 * num_threads
  )
