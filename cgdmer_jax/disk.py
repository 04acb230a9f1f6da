"""Room on a disk, asked for before hours of work and not after."""

from __future__ import annotations

import pathlib
import shutil

from cgdmer_jax.errors import UserError


def check_free(path: pathlib.Path, needed: int, what: str) -> None:
  """Checks that a disk has room.

  Args:
    path: file or folder to be written; need not exist.
    needed: bytes.
    what: what is to be written, for the message.

  Raises:
    UserError: there is less.
  """
  existing = path.absolute()
  while not existing.exists():
    existing = existing.parent
  free = shutil.disk_usage(existing).free
  if free < needed:
    raise UserError(
      f"{what} need {_gigabytes(needed)} and {existing} has {_gigabytes(free)}"
      " left; make room, or choose another disk"
    )


def _gigabytes(size: int) -> str:
  return f"{size / 1e9:.1f} GB"
