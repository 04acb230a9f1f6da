"""Files of arrays with a key, the hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from cgdmer_jax import files

# What NumPy raises for damaged files, and for files of another kind.
UNREADABLE = (
  *(OSError, EOFError, ValueError, KeyError, TypeError),
  *(zipfile.BadZipFile, zlib.error),
)


def make_key(*parts: Any) -> str:
  """Hashes anything that JSON can hold; dicts in any order."""
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def read(
  path: str | os.PathLike[str], key: str
) -> dict[str, np.ndarray] | None:
  """Reads what `write` wrote; None if there is nothing under this key."""
  try:
    content = pathlib.Path(path).read_bytes()
    with np.load(io.BytesIO(content), allow_pickle=False) as data:
      arrays = dict(data)
  except UNREADABLE:
    return None
  return arrays if str(arrays.pop("key", "")) == key else None


def write(
  path: str | os.PathLike[str],
  key: str,
  *,
  compressed: bool = True,
  **arrays: np.ndarray,
) -> None:
  """Writes arrays; a reader sees all of them or none.

  Args:
    path: the file.
    key: see `make_key`.
    compressed: whether to compress, which takes time and gains nothing for
      floating-point numbers.
    **arrays: arrays by name; no Python objects.

  Raises:
    OSError: the file cannot be written.
  """
  buffer = io.BytesIO()
  save = np.savez_compressed if compressed else np.savez
  save(buffer, key=np.array(key), **arrays)
  files.write(path, buffer.getvalue())
