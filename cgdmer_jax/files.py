"""Writes files so that a name never stands for incomplete content."""

from __future__ import annotations

import contextlib
import os
import pathlib
import uuid
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Gives a temporary name; what is written there gets the name `path`.

  The content is on the disk before the name is, so a power cut leaves the old
  content or the new one. Several processes may write the same name at once; the
  last one wins.

  Args:
    path: a file, or a folder that does not exist yet. Folders above it are
      made.

  Yields:
    Where to write: beside `path`, with the same suffix.

  Raises:
    OSError: the content cannot be written; the temporary file is removed.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Short, since file systems limit a name to 255 bytes.
  temporary = path.with_name(f".{uuid.uuid4().hex[:12]}.tmp{path.suffix}")
  try:
    yield temporary
    for file in temporary.rglob("*") if temporary.is_dir() else ():
      _synchronise(file)
    _synchronise(temporary)
    temporary.replace(path)
    _synchronise(path.parent)
  finally:
    _remove(temporary)


def write(path: str | os.PathLike[str], content: bytes | str) -> None:
  """Writes a file completely or not at all; text as UTF-8. See `replacing`."""
  if isinstance(content, str):  # a file name in it may be no text
    content = content.encode(errors="backslashreplace")
  with replacing(path) as temporary:
    temporary.write_bytes(content)


def _synchronise(path: pathlib.Path) -> None:
  """Waits until a file, or the list of names in a folder, is on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _remove(path: pathlib.Path) -> None:
  """Removes a file or a folder that may not be there."""
  if not path.is_dir():
    path.unlink(missing_ok=True)
    return
  for inner in path.iterdir():
    _remove(inner)
  path.rmdir()
