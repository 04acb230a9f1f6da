"""Runs a function over many arguments in several processes of this machine."""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from cgdmer_jax.errors import UserError

_In = TypeVar("_In")
_Out = TypeVar("_Out")


_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_OWN_CGROUPS = pathlib.Path("/proc/self/cgroup")


def num_cpus() -> int:
  """Number of CPUs that this process may use, not those of the machine.

  Slurm, `taskset` and containers give a process some of the CPUs (its
  affinity), or a share of their time (the quota of its control group or of one
  above it; a part of a CPU counts as one).
  """
  try:
    number = len(os.sched_getaffinity(0))
  except AttributeError:  # macOS
    number = os.cpu_count() or 1
  return max(1, min([number, *map(math.ceil, _cpu_quotas())]))


def _cpu_quotas() -> Iterator[float]:
  """CPUs by the quotas of control groups, of version 2 or 1."""
  for line in _read(_OWN_CGROUPS).splitlines():
    _, controllers, name = line.split(":", 2)
    if controllers and "cpu" not in controllers.split(","):
      continue
    root = _CGROUPS / controllers if controllers else _CGROUPS
    group = root / name.strip("/")
    # Within a container the name may be the host's; then only the root exists.
    for folder in (group, *group.parents):
      parts = _read(folder / "cpu.max").split() or [
        _read(folder / f"cpu.cfs_{part}_us").strip()
        for part in ("quota", "period")
      ]
      if all(part.isdecimal() for part in parts):  # not "max", and not -1
        yield int(parts[0]) / int(parts[1])
      if folder == root:
        break


def _read(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except OSError:
    return ""


def run(
  function: Callable[[_In], _Out], arguments: Sequence[_In], num_workers: int
) -> Iterator[_Out]:
  """Yields `function(a)` for each argument, in their order.

  One worker is this process. Otherwise processes are spawned, not forked, since
  this one may have threads; so `function` must be picklable. They end with this
  process, however it ends, and at once when it is interrupted.

  Args:
    function: what to call; an exception that it raises is raised here.
    arguments: one for each call.
    num_workers: largest number of processes.

  Raises:
    UserError: a process died.
  """
  num_workers = min(num_workers, len(arguments))
  if num_workers <= 1:
    yield from map(function, arguments)
    return
  context = multiprocessing.get_context("spawn")
  watched, held = context.Pipe(duplex=False)
  executor = concurrent.futures.ProcessPoolExecutor(
    num_workers,
    mp_context=context,
    initializer=_start,
    initargs=(watched,),
  )
  try:
    yield from executor.map(function, arguments)
  except concurrent.futures.process.BrokenProcessPool:
    raise UserError(
      f"one of {num_workers} worker processes died, perhaps because memory ran"
      " out; try a smaller --num_workers"
    ) from None
  except (KeyboardInterrupt, GeneratorExit):  # in here, or in the caller
    executor.shutdown(wait=False, cancel_futures=True)
    held.close()  # ends the workers in the middle of what they do
    raise
  finally:
    executor.shutdown(cancel_futures=True)
    held.close()
    watched.close()


def _start(watched: multiprocessing.connection.Connection) -> None:
  """Lets the parent alone decide when this process ends.

  Args:
    watched: a pipe whose other end the parent, and nobody else, holds open.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes

  def end_with_parent() -> None:  # else it would wait for tasks forever
    watched.poll(None)  # until the other end is closed
    os._exit(1)

  threading.Thread(target=end_with_parent, daemon=True).start()
