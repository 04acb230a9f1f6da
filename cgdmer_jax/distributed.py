"""Several processes as one: finding each other before JAX starts."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator

import jax
from absl import flags
from jax.experimental import multihost_utils

from cgdmer_jax.errors import UserError

_MULTIHOST = flags.DEFINE_bool(
  "multihost",
  False,
  "This is one of several processes of a TPU pod, of a Slurm job or of another "
  "cluster that JAX knows.",
)
_COORDINATOR = flags.DEFINE_string(
  "coordinator",
  None,
  "HOST:PORT of process 0, for several processes that no cluster has started.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "How many there are; with --coordinator.", 1
)
_PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Which one this is, from 0; with --coordinator.", 0
)
_TIMEOUT = flags.DEFINE_integer(
  "start_timeout", 300, "Seconds that processes wait for each other.", 1
)


def initialize() -> None:
  """Joins the processes that the flags name; does nothing without flags.

  To be called before JAX is used. CPU processes talk through gloo. A process 0
  that waits for the others in vain is aborted by JAX, with a message of its
  own.

  Raises:
    UserError: flags that do not go together, or not all processes came in time.
  """
  flagged = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  explicit = any(value is not None for value in flagged)
  if not explicit and not _MULTIHOST.value:
    return
  if explicit and (_MULTIHOST.value or None in flagged):
    raise UserError(
      "give --coordinator, --num_processes and --process_id together, or "
      "--multihost alone"
    )
  if explicit and _PROCESS_ID.value >= _NUM_PROCESSES.value:
    raise UserError(
      f"--process_id={_PROCESS_ID.value} of --num_processes="
      f"{_NUM_PROCESSES.value}; they are counted from 0"
    )
  if explicit and _PROCESS_ID.value:
    _wait_for(_COORDINATOR.value, _TIMEOUT.value)
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(*flagged, initialization_timeout=_TIMEOUT.value)
  except (RuntimeError, ValueError) as e:
    reason = " ".join(str(e).split())[:200]
    raise UserError(
      f"the processes did not find each other in {_TIMEOUT.value} s ({reason});"
      " are all of them running, with the same --coordinator, and is its port "
      "open?"
    ) from e


def _wait_for(address: str, seconds: int) -> None:
  """Returns when somebody listens at `address`.

  JAX would abort the program if nobody did.

  Raises:
    UserError: no address, or nobody listens in time.
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
        raise UserError(
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
