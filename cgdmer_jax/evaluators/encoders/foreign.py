"""Features of an encoder that is not ours, from a file."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np

from cgdmer_jax import keyed
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import pipeline
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer
from cgdmer_jax.trained_model import TrainedModel


class Foreign:
  """An encoder in the sense of `features.Encoder`, known by its features only.

  The file is an `.npz` with `ids`, the data set's record ids (N,), and
  `features`, float (N, D), for the records of all splits that are read.

  """

  batch_size = 0  # nothing is computed

  def __init__(self, path: str):
    """Reads the file.

    Raises:
      UserError: it cannot be read, or does not hold what it should.
    """
    self._path = path
    path = pathlib.Path(path)
    try:
      content = path.read_bytes()
      with np.load(path, allow_pickle=False) as arrays:
        lacking = {"ids", "features"} - set(arrays)
        if lacking:
          raise UserError(
            f"{path} lacks the array {min(lacking)!r}; it needs `ids` (N,) and"
            " `features` (N, D)"
          )
        ids, values = arrays["ids"], arrays["features"].astype(np.float32)
    except keyed.UNREADABLE as e:
      raise UserError(f"cannot read the features {path}: {e}") from e
    if ids.ndim != 1 or values.ndim != 2 or len(ids) != len(values):
      raise UserError(
        f"{path}: ids have shape {ids.shape} and features {values.shape};"
        " expected (N,) and (N, D)"
      )
    if ids.dtype.kind == "S":
      ids = np.char.decode(ids, "utf-8")
    self._row = {str(name): i for i, name in enumerate(ids)}
    if len(self._row) < len(ids):
      raise UserError(
        f"{path}: {len(ids) - len(self._row)} record ids occur more than once"
      )
    self._values = values
    self.identity = results.Identity(
      path.stem,
      hashlib.sha256(content).hexdigest(),
      checkpoint=str(path),
      path=str(path.absolute()),
    )

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """The features of all records of `source`, in order.

    Raises:
      UserError: the file lacks some, or only some leads are given.
    """
    if not isinstance(source, EcgSource):
      raise UserError(f"{self._path} has features of whole records only")
    ids = index_lib.load_index(source).ids
    rows = [self._row.get(name) for name in ids]
    missing = [name for name, r in zip(ids, rows, strict=True) if r is None]
    if missing:
      raise UserError(
        f"{self._path} lacks {len(missing)} of the {len(ids)} records of"
        f" {source.name}, {source.split}, such as {str(missing[0])!r}; how to"
        " get their ids is in docs/extending.md"
      )
    return cgdmer.Embedding(self._values[rows], None)

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Raises UserError: there is no report encoder."""
    raise UserError(f"{self._path} holds features of recordings only")

  def trained_model(self) -> TrainedModel:
    """Raises UserError: there is none."""
    raise UserError(
      f"{self.identity.name} is known by its features only: there is no model"
      " to train on, or to ask for hidden patches"
    )
