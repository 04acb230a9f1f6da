"""Frozen features: computed once, nothing hidden, nothing updated."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from absl import logging

from cgdmer_jax import keyed, sharding, trained_model
from cgdmer_jax.data import pipeline, views
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer
from cgdmer_jax.trained_model import TrainedModel

REPRESENTATIONS = ("shared", "specific", "both", "per_lead")
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
    self._known: dict[str, dict[str, np.ndarray]] = {}

  def ecg(
    self, source: EcgSource, leads: Sequence[str] = LEADS
  ) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, of which only `leads` are given.

    Raises:
      UserError: they are not finite.
    """
    return cgdmer.Embedding(
      **{"specific": None} | self._kept(source, leads, self.encoder.ecg)
    )

  def per_lead(
    self, source: EcgSource, leads: Sequence[str] = LEADS
  ) -> np.ndarray:
    """Means over the times of each lead, side by side, float32 (N, 12 width).

    Raises:
      UserError: they are not finite, or only features of the encoder are known.
    """

    def pool(tokens: jax.Array) -> jax.Array:
      return tokens.mean(2).reshape(len(tokens), -1)

    def compute(source: pipeline.SignalSource) -> cgdmer.Embedding:
      return cgdmer.Embedding(self._tokens(source, pool, np.float32), None)

    return self._kept(source, leads, compute, "per_lead")["shared"]

  def tokens(self, source: EcgSource) -> np.ndarray:
    """Tokens of all records, float16 (N, 12, patches, width); not kept.

    Raises:
      UserError: only features of the encoder are known.
    """
    return self._tokens(source, lambda tokens: tokens, np.float16)

  def _tokens(
    self,
    source: pipeline.SignalSource,
    pool: Callable[[jax.Array], jax.Array],
    dtype: type[np.floating],
  ) -> np.ndarray:
    """What `pool` makes of the tokens (B, 12, patches, width) of batches."""
    trained = self.encoder.trained_model()
    trained_model.check_sampling_rate(
      source.name, source.sampling_rate, trained.config.preprocess
    )

    def embed(ecg: jax.Array, lead_valid: jax.Array) -> cgdmer.Embedding:
      return cgdmer.Embedding(pool(trained.embed_tokens(ecg, lead_valid)), None)

    batch_size = self.encoder.batch_size
    return extract(embed, source, batch_size, trained.mesh, dtype).shared

  def represent(
    self, source: EcgSource, representation: str, leads: Sequence[str] = LEADS
  ) -> np.ndarray:
    """The features of a probe, float32 (N, D); see `represent`."""
    if representation == "per_lead":
      return self.per_lead(source, leads)
    return represent(self.ecg(source, leads), representation)

  def _kept(
    self,
    source: EcgSource,
    leads: Sequence[str],
    encode: Callable[[pipeline.SignalSource], cgdmer.Embedding],
    *kind: str,
  ) -> dict[str, np.ndarray]:
    """Parts of embeddings, from memory or the disk if they were computed."""
    key = keyed.make_key(
      *(_FORMAT, self.encoder.identity.fingerprint, source.fingerprint),
      *(leads, *kind),
    )[:16]
    if key not in self._known:
      path = self._directory / f"{key}.npz"
      arrays = keyed.read(path, key)
      if arrays is None:
        arrays = self._compute(source, leads, encode)
        if jax.process_index() == 0:
          keyed.write(path, key, compressed=False, **arrays)
      self._known[key] = arrays
    return self._known[key]

  def _compute(
    self,
    source: EcgSource,
    leads: Sequence[str],
    encode: Callable[[pipeline.SignalSource], cgdmer.Embedding],
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
    embedding = encode(source if all_leads else views.FewLeads(source, leads))
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
  dtype: type[np.floating] = np.float32,
) -> cgdmer.Embedding:
  """Applies `embed` to all records of `source`, in order.

  Args:
    embed: from `ecg` and `lead_valid` of a batch on the devices to embeddings
      that every device has.
    source: N records.
    batch_size: records over all processes.
    mesh: the devices.
    dtype: of what is returned.

  Returns:
    (N, width).
  """
  rows = []
  for batch in pipeline.eval_batches(
    source,
    batch_size=batch_size,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  ):
    arrays = sharding.put_batch((batch["ecg"], batch["lead_valid"]), mesh)
    found = jax.device_get(embed(*arrays))
    rows.append(jax.tree.map(lambda x: x.astype(dtype), found))
  joined = jax.tree.map(lambda *x: np.concatenate(x), *rows)
  return jax.tree.map(lambda x: x[: len(source)], joined)


def choose(names: str) -> tuple[str, ...]:
  """The representations of `evaluation.representation`, the first the main one.

  Args:
    names: some of `REPRESENTATIONS`, separated by commas.

  Raises:
    UserError: there is no such representation, or one is named twice.
  """
  chosen = tuple(name.strip() for name in names.split(","))
  unknown = set(chosen) - set(REPRESENTATIONS)
  if unknown or len(set(chosen)) < len(chosen):
    raise UserError(
      f"representation={names!r}; expected some of "
      + ", ".join(REPRESENTATIONS)
    )
  return chosen


def represent(embedding: cgdmer.Embedding, representation: str) -> np.ndarray:
  """The features of a probe, pooled over all leads.

  Args:
    embedding: of an encoder.
    representation: `shared`, `specific`, or `both`: side by side, and what
      there is of an encoder without a modality-specific part.

  Raises:
    UserError: the encoder does not have it.
  """
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
