"""Frozen features: computed once, nothing hidden, nothing updated."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from absl import logging

from cgdmer_jax import keyed, sharding
from cgdmer_jax.data import pipeline, views
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer
from cgdmer_jax.trained_model import TrainedModel

REPRESENTATIONS = ("shared", "specific", "both")
_FORMAT = "1"  # raise it when features of the same name would be others


@runtime_checkable
class Encoder(Protocol):
  """What is evaluated: it turns recordings, and perhaps texts, into vectors.

  Attributes:
    identity: name, and all that its features depend on. The name is replaced
      where several encoders would share it.
    batch_size: records on the devices at once.
  """

  identity: results.Identity
  batch_size: int

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, in order, float32 (N, width)."""

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Embeddings of texts; UserError where there is no report encoder."""

  def trained_model(self) -> TrainedModel:
    """The model behind it; UserError where only its features are known."""


class Store:
  """Features of one encoder, kept in a folder from one run to the next.

  A file's name is a hash of the encoder, the records and the leads given.
  """

  def __init__(self, encoder: Encoder, directory: pathlib.Path):
    """Features of `encoder` below `directory`."""
    self.encoder = encoder
    self._directory = directory
    self._known: dict[str, cgdmer.Embedding] = {}

  def ecg(
    self, source: EcgSource, leads: Sequence[str] = LEADS
  ) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, of which only `leads` are given.

    Raises:
      UserError: they are not finite.
    """
    identity = self.encoder.identity
    key = keyed.make_key(
      _FORMAT, identity.fingerprint, source.fingerprint, leads
    )[:16]
    if key not in self._known:
      path = self._directory / f"{key}.npz"
      arrays = keyed.read(path, key)
      if arrays is None:
        arrays = self._compute(source, leads)
        if jax.process_index() == 0:
          keyed.write(path, key, compressed=False, **arrays)
      self._known[key] = cgdmer.Embedding(
        arrays["shared"], arrays.get("specific")
      )
    return self._known[key]

  def _compute(
    self, source: EcgSource, leads: Sequence[str]
  ) -> dict[str, np.ndarray]:
    all_leads = tuple(leads) == LEADS
    logging.info(
      "features of %s: %d records of %s, %s%s",
      self.encoder.identity.name,
      len(source),
      source.name,
      source.split,
      "" if all_leads else f", leads {', '.join(leads)}",
    )
    embedding = self.encoder.ecg(
      source if all_leads else views.FewLeads(source, leads)
    )
    _check_finite(self.encoder.identity.name, source, embedding)
    parts = {"shared": embedding.shared, "specific": embedding.specific}
    return {name: x for name, x in parts.items() if x is not None}


def _check_finite(name, source, embedding) -> None:
  for x in jax.tree.leaves(embedding):
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
      raise UserError(
        f"features that {name} gives for {bad.sum()} of {len(bad)} records of"
        f" {source.name} ({source.split}) are not finite; the checkpoint or"
        " those recordings are damaged"
      )


def extract(
  embed: Callable[[jax.Array, jax.Array], cgdmer.Embedding],
  source: pipeline.SignalSource,
  batch_size: int,
  mesh: jax.sharding.Mesh,
) -> cgdmer.Embedding:
  """Applies `embed` to all records of `source`, in order.

  Args:
    embed: from `ecg` and `lead_valid` of a batch on the devices to embeddings
      that every device has.
    source: N records.
    batch_size: records over all processes.
    mesh: the devices.

  Returns:
    float32 (N, width).
  """
  rows = []
  for batch in pipeline.eval_batches(
    source,
    batch_size=batch_size,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  ):
    arrays = sharding.put_batch((batch["ecg"], batch["lead_valid"]), mesh)
    rows.append(jax.device_get(embed(*arrays)))
  joined = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float32), *rows)
  return jax.tree.map(lambda x: x[: len(source)], joined)


def represent(embedding: cgdmer.Embedding, representation: str) -> np.ndarray:
  """The features of a probe.

  Args:
    embedding: of an encoder.
    representation: `shared`, `specific`, or `both`: side by side, and what
      there is of an encoder without a modality-specific part.

  Raises:
    UserError: unknown representation, or one that the encoder does not have.
  """
  if representation not in REPRESENTATIONS:
    raise UserError(
      f"representation={representation!r}; expected one of "
      + ", ".join(REPRESENTATIONS)
    )
  parts = [x for x in (embedding.shared, embedding.specific) if x is not None]
  if representation == "both":
    return np.concatenate(parts, axis=1)
  if representation == "shared":
    return embedding.shared
  if embedding.specific is None:
    raise UserError(
      f"representation={representation!r}: this encoder has no "
      "modality-specific part; use 'shared'"
    )
  return embedding.specific
