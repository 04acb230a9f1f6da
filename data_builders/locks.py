"""Lock files: one process at a time, also on a shared file system."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hold(path: pathlib.Path, waiting: str | None = None) -> Iterator[None]:
  """Holds a lock; its file is removed at the end.

  A killed process leaves the file but not the lock.

  Args:
    path: of the file.
    waiting: what to say before waiting for another process to give it up;
      None: not to wait.

  Raises:
    BlockingIOError: another process holds it, and we are not to wait.
    OSError: the file cannot be written.
  """
  while True:
    with path.open("w") as file:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        if waiting is None:
          raise
        print(waiting, file=sys.stderr, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
      if not _is_at(file.fileno(), path):
        continue  # its holder has removed it since it was opened
      try:
        yield
      finally:
        path.unlink(missing_ok=True)
      return


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), path.stat())
  except FileNotFoundError:
    return False
