"""Several processes as one: finding each other before JAX starts."""

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

# What errors say where another process, or the way to it, is gone.
_LOST = re.compile(r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|heartbeat|peer")


class NotTogether(RuntimeError):
  """Processes that do not find each other; another try may succeed."""


def initialize() -> None:
  """Joins the processes that the flags name; does nothing without flags.

  To be called before JAX is used. CPU processes talk through gloo. A process 0
  that waits for the others in vain is aborted by JAX, with a message of its
  own.

  Raises:
    UserError: flags that do not go together.
    NotTogether: not all processes came in time.
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
      f"{NUM_PROCESSES.value}; they are counted from 0"
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
      " are all of them running, with the same --coordinator, and is its port "
      "open?"
    ) from e


@contextlib.contextmanager
def leaving_together() -> Iterator[None]:
  """An error in one of several processes soon ends all of them.

  A process that is left alone tells so in one line. It does not wait for the
  others, as JAX does at the end of a program: they may wait for it.
  """
  try:
    yield
  except (Exception, KeyboardInterrupt) as error:
    if jax.process_count() == 1:
      raise
    me = f"process {jax.process_index()} of {jax.process_count()}"
    reason = one_line(error, 10_000)
    if isinstance(error, UserError):
      print(f"error: {reason}", file=sys.stderr)
    elif _LOST.search(reason):
      print(
        f"error: {me} has lost another one ({reason[:200]}); the same command, "
        "given to all of them, resumes at the last checkpoint",
        file=sys.stderr,
      )
    else:
      traceback.print_exc()
      print(f"error: {me} ends with {type(error).__name__}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2 if isinstance(error, UserError) else 1)


def _wait_for(address: str, seconds: int) -> None:
  """Returns when somebody listens at `address`.

  JAX would abort the program if nobody did.

  Raises:
    UserError: no address.
    NotTogether: nobody listens in time.
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
          f"nobody answers at --coordinator={address} ({e.strerror or e}); is "
          "process 0 running, is the address right, and the port open?"
        ) from e
    time.sleep(0.2)


@contextlib.contextmanager
def first_process_first(what: str) -> Iterator[None]:
  """Process 0 does what follows before all others do it.

  For files that they may share: the others find what it has written.

  Args:
    what: a name for it, unique in the program.
  """
  first = jax.process_index() == 0
  if not first:
    multihost_utils.sync_global_devices(what)
  yield
  if first and jax.process_count() > 1:
    multihost_utils.sync_global_devices(what)
