"""Files that are derived from a split, kept so that they are made once.

They lie in `cgdmer_index/` beside the records, or below
`$XDG_CACHE_HOME/cgdmer_jax` (default `~/.cache`) where that is not writable.
Several processes may read and write them at once.
"""

from __future__ import annotations

import hashlib
import os
from typing import Protocol, runtime_checkable
from urllib.parse import quote

import numpy as np
from absl import logging
from etils import epath

from cgdmer_jax import keyed
from cgdmer_jax.errors import one_line


@runtime_checkable
class Split(Protocol):
  """The split that a file is derived from; `EcgSource` is one.

  Attributes:
    path: folder of the data set's files.
    split: name of the split.
    fingerprint: changes whenever the records may have changed.
  """

  path: epath.Path
  split: str
  fingerprint: str


def paths(source: Split, suffix: str) -> tuple[epath.Path, epath.Path]:
  """Where a file of `source` may be: beside the data, or in the user's cache.

  Args:
    source: the split.
    suffix: end of the file's name; differs between the files of a split.
  """
  name = quote(source.split, safe="") + suffix
  digest = hashlib.sha256(os.fsencode(source.path)).hexdigest()[:16]
  root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  cache = epath.Path(root).expanduser() / "cgdmer_jax" / digest
  return source.path / "cgdmer_index" / name, cache / name


def read_arrays(
  source: Split, suffix: str, key: str
) -> dict[str, np.ndarray] | None:
  """Reads what `write_arrays` wrote; None if there is nothing under `key`."""
  found = (keyed.read(path, key) for path in paths(source, suffix))
  return next((arrays for arrays in found if arrays is not None), None)


def write_arrays(
  source: Split, suffix: str, key: str, **arrays: np.ndarray
) -> None:
  """Writes arrays where that is possible, else logs why it is not.

  Args:
    source: the split that they are derived from.
    suffix: see `paths`.
    key: hash of everything that they depend on.
    **arrays: arrays by name; no Python objects.
  """
  for path in paths(source, suffix):
    try:
      keyed.write(path, key, **arrays)
      return
    except OSError as e:
      logging.info("cannot write the cache file %s: %s", path, one_line(e))
