"""Simulates many records with several processes, in order.

Workers are plain Python processes that import the simulator and nothing else:
unlike those of `multiprocessing` they do not import the caller's main module
again, do not inherit threads of JAX or gRPC, and need no guard in scripts.

Worker w of n simulates chunks w, w + n, ... and writes them to its pipe, where
it waits until they are read. So memory stays small and a worker ends when its
reader does.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator

from data_builders.synthetic_ecg import simulator

_CHUNK = 100  # records


def _chunks(first: int, number: int) -> list[range]:
  stop = first + number
  return [
    range(start, min(start + _CHUNK, stop))
    for start in range(first, stop, _CHUNK)
  ]


def records(
  seed: int, first: int, number: int, sampling_rate: int, num_workers: int
) -> Iterator[dict]:
  """Records `first` to `first + number - 1`, in order.

  Args:
    seed: of the population.
    first: index of the first record.
    number: of records.
    sampling_rate: Hz.
    num_workers: processes; 1 simulates in this one. The records do not depend
      on it.

  Yields:
    Records of `simulator.record`.
  """
  chunks = _chunks(first, number)
  num_workers = min(num_workers, len(chunks))
  if num_workers <= 1:
    for chunk in chunks:
      for index in chunk:
        yield simulator.record(seed, index, sampling_rate)
    return
  processes = [
    _start(seed, first, number, sampling_rate, w, num_workers)
    for w in range(num_workers)
  ]
  try:
    for k in range(len(chunks)):
      process = processes[k % num_workers]
      try:
        chunk = pickle.load(process.stdout)
      except EOFError:
        raise RuntimeError(
          f"a simulating process ended with status {process.wait()}"
        ) from None
      yield from chunk
  finally:
    for process in processes:
      process.kill()
      process.wait()
      process.stdout.close()


def _start(*arguments: int) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", __name__, *map(str, arguments)],
    stdout=subprocess.PIPE,
    # Find the packages where this process found them; one thread each.
    env=os.environ
    | {
      "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
      "OMP_NUM_THREADS": "1",
      "OPENBLAS_NUM_THREADS": "1",
    },
  )


def _work(
  seed: int,
  first: int,
  number: int,
  sampling_rate: int,
  worker: int,
  num_workers: int,
) -> None:
  """Writes the worker's share of the records to standard output."""
  with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
    for chunk in _chunks(first, number)[worker::num_workers]:
      simulated = [simulator.record(seed, i, sampling_rate) for i in chunk]
      pickle.dump(simulated, out, pickle.HIGHEST_PROTOCOL)
      out.flush()


if __name__ == "__main__":
  try:
    _work(*map(int, sys.argv[1:]))
  except BrokenPipeError:
    sys.exit(1)
