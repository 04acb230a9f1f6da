"""Files that are derived from a split, kept so that they are made once.

They lie in `cgdmer_index/` beside the records, or below
`$XDG_CACHE_HOME/cgdmer_jax` (default `~/.cache`) where that is not writable.
Several processes may read and write them at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import uuid
import zipfile
from collections.abc import Iterator
from urllib.parse import quote

import numpy as np
from absl import logging
from etils import epath

from cgdmer_jax.data.source import EcgSource


def paths(source: EcgSource, suffix: str) -> tuple[epath.Path, epath.Path]:
  """Where a file of `source` may be: beside the data, or in the user's cache.

  Args:
    source: the split.
    suffix: tells the split's files apart; ends the file's name.
  """
  name = quote(source.split, safe="") + suffix
  where = hashlib.sha256(os.fspath(source.path).encode()).hexdigest()[:16]
  root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  cache = epath.Path(root).expanduser() / "cgdmer_jax" / where
  return source.path / "cgdmer_index" / name, cache / name


@contextlib.contextmanager
def replacing(path: epath.Path) -> Iterator[epath.Path]:
  """A temporary name; what is there at the end gets the name `path`."""
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}.tmp"
  try:
    yield temporary
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def read_arrays(
  source: EcgSource, suffix: str, version: str
) -> dict[str, np.ndarray] | None:
  """What `write_arrays` wrote; None if nothing, or another version."""
  for path in paths(source, suffix):
    try:
      with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
        arrays = dict(data)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
      continue
    if str(arrays.pop("version", "")) == version:
      return arrays
  return None


def write_arrays(
  source: EcgSource, suffix: str, version: str, **arrays: np.ndarray
) -> None:
  """Keeps arrays, where that is possible.

  Args:
    source: the split that they are derived from.
    suffix: see `paths`.
    version: says what they depend on besides the name.
    **arrays: without Python objects.
  """
  buffer = io.BytesIO()
  np.savez_compressed(buffer, version=np.array(version), **arrays)
  for path in paths(source, suffix):
    try:
      with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
      return
    except OSError as e:
      logging.info("cannot write %s: %s", path, e)
