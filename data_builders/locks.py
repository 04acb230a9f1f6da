"""Lock files: one process at a time, also on a shared file system."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import pathlib
import sys
import tempfile
from collections.abc import Iterator

import filelock

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
_POLL_SECONDS = 0.5


@contextlib.contextmanager
def hold(path: pathlib.Path, waiting: str | None = None) -> Iterator[None]:
  """Holds a lock; its file is removed at the end.

  A killed process leaves the file but not the lock. On a file system without
  locks, as some clusters have, the file itself is the lock: after a kill the
  next process removes it if it runs on the same machine, else a person must.

  Args:
    path: the lock file, in a folder that exists.
    waiting: what to say before waiting for another process to release the lock;
      None: not to wait.

  Raises:
    BlockingIOError: another process holds it, and we are not to wait.
    OSError: the file cannot be written.
  """
  native = _has_locks(path.parent)
  if not native:
    print(
      f"warning: no file locks in {path.parent}; should a build be killed on"
      f" another machine, remove {path} by hand",
      file=sys.stderr,
      flush=True,
    )
  make = filelock.FileLock if native else filelock.SoftFileLock
  lock = make(path, thread_local=False, poll_interval=_POLL_SECONDS)
  try:
    # One look finds what a killed process left, the next one takes it.
    lock.acquire(timeout=0 if native else 2 * _POLL_SECONDS)
  except filelock.Timeout:
    if waiting is None:
      raise BlockingIOError(f"{path} is held") from None
    print(waiting, file=sys.stderr, flush=True)
    lock.acquire()
  try:
    yield
  finally:
    if native:  # while it is held: whoever waits for it sees that it is gone
      path.unlink(missing_ok=True)
    lock.release()


def _has_locks(folder: pathlib.Path) -> bool:
  with tempfile.TemporaryFile(dir=folder) as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
      if e.errno in _NO_LOCKS:
        return False
      raise
  return True
