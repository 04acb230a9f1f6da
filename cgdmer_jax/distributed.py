"""Several processes as one: they connect before JAX starts."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.process_flags import (
  COORDINATOR,
  HEARTBEAT,
  MULTIHOST,
  NUM_PROCESSES,
  PROCESS_ID,
  TIMEOUT,
)

# Words of errors that mean that another process, or the network, has failed.
_PEER_FAILURE = re.compile(
  r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|heartbeat|peer"
)


class NotTogether(RuntimeError):
  """Processes did not find each other; another try may succeed."""


def initialize() -> None:
  """Joins the processes that the flags name; does nothing without flags.

  Call it before JAX is used. CPU processes communicate through gloo. If process
  0 waits for the others in vain, JAX aborts it with a message of its own.

  Raises:
    UserError: the flags contradict each other.
    NotTogether: not all processes joined in time.
  """
  flagged = (
    COORDINATOR.value,
    NUM_PROCESSES.value,
    PROCESS_ID.value,
  )
  explicit = any(value is not None for value in flagged)
  if not explicit and not MULTIHOST.value:
    return
  if explicit and (MULTIHOST.value or None in flagged):
    raise UserError(
      "give --coordinator, --num_processes and --process_id together, or "
      "--multihost alone"
    )
  if explicit and PROCESS_ID.value >= NUM_PROCESSES.value:
    raise UserError(
      f"--process_id={PROCESS_ID.value} of --num_processes="
      f"{NUM_PROCESSES.value}; expected 0 to {NUM_PROCESSES.value - 1}"
    )
  if explicit and PROCESS_ID.value:
    _wait_for(COORDINATOR.value, TIMEOUT.value)
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(
      *flagged,
      initialization_timeout=TIMEOUT.value,
      heartbeat_timeout_seconds=HEARTBEAT.value,
    )
  except (RuntimeError, ValueError) as e:
    reason = one_line(e)
    raise NotTogether(
      f"the processes did not find each other in {TIMEOUT.value} s ({reason});"
      " check that all of them run, with the same --coordinator, and that its "
      "port is open"
    ) from e


@contextlib.contextmanager
def leaving_together() -> Iterator[None]:
  """Lets an error in one of several processes soon end all of them.

  A process that has lost another one reports it in one line. It does not wait
  for the others, as JAX does at the end of a program: they may wait for it.
  """
  try:
    yield
  except (Exception, KeyboardInterrupt) as error:
    if jax.process_count() == 1:
      raise
    this_process = f"process {jax.process_index()} of {jax.process_count()}"
    reason = one_line(error, 10_000)
    if isinstance(error, UserError):
      print(f"error: {reason}", file=sys.stderr)
    elif _PEER_FAILURE.search(reason):
      print(
        f"error: {this_process} has lost another process ({reason[:200]}); run "
        "the same command in all of them to resume at the last checkpoint",
        file=sys.stderr,
      )
    else:
      traceback.print_exc()
      name = type(error).__name__
      print(f"error: {this_process} ends with {name}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, UserError) else 1)


def _wait_for(address: str, seconds: int) -> None:
  """Waits until a process listens at `address`.

  JAX would abort the program if none did.

  Raises:
    UserError: `address` is not HOST:PORT.
    NotTogether: no process listens in time.
  """
  host, _, port = address.rpartition(":")
  if not host or not port.isdecimal():
    raise UserError(f"--coordinator={address}; expected HOST:PORT")
  deadline = time.monotonic() + seconds
  while True:
    try:
      socket.create_connection((host, int(port)), timeout=5).close()
      return
    except OSError as e:
      if time.monotonic() > deadline:
        raise NotTogether(
          f"no process answers at --coordinator={address} ({e.strerror or e}); "
          "check that process 0 runs, that this is its address, and that the "
          "port is open"
        ) from e
    time.sleep(0.2)


def meet(what: str) -> None:
  """Waits until every process has come here; `what` is unique as a name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
  """Lets process 0 run the body before all others do.

  For files that processes may share: the others read what process 0 has
  written.

  Args:
    what: name of the body, unique in the program.
  """
  first = jax.process_index() == 0
  if not first:
    multihost_utils.sync_global_devices(what)
  yield
  if first and jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)
