"""Frozen features: computed once, nothing hidden, nothing updated."""

from __future__ import annotations

import hashlib
import os
import pathlib
import zipfile
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import numpy as np
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec

from cgdmer_jax import sharding
from cgdmer_jax import trained_model as experiment_lib
from cgdmer_jax.data import pipeline, preprocessing, reports
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer, masking

REPRESENTATIONS = ("shared", "specific", "both")
_FORMAT = "1"  # raise it when features of the same name would be others


class FewLeads:
  """Records of which only some leads are given.

  Attributes:
    source: the whole records.
    leads: names of those that are given.
    sampling_rate: Hz.
  """

  def __init__(self, source: EcgSource, leads: Sequence[str]):
    """Hides all leads of `source` but `leads`."""
    self.source = source
    self.leads = tuple(leads)
    self.sampling_rate = source.sampling_rate
    self._given = np.isin(LEADS, leads)

  def __len__(self) -> int:
    return len(self.source)

  def signal(self, index: int) -> dict[str, np.ndarray]:
    """See `EcgSource.signal`; what is not given is missing."""
    record = self.source.signal(index)
    return {
      "ecg": np.where(self._given[:, None], record["ecg"], np.int16(0)),
      "lead_valid": record["lead_valid"] & self._given,
    }


class Encoder(Protocol):
  """What is evaluated: it turns recordings, and perhaps texts, into vectors."""

  identity: results.Identity

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, in order, float32 (N, width)."""

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Embeddings of texts; UserError where there is no report encoder."""


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
    words = [_FORMAT, identity.fingerprint, source.fingerprint, *leads]
    key = hashlib.sha256("|".join(words).encode()).hexdigest()[:16]
    if key not in self._known:
      path = self._directory / f"{key}.npz"
      found = _read(path)
      if found is None:
        logging.info(
          "features of %s: %d records of %s, %s%s",
          identity.name,
          len(source),
          source.name,
          source.split,
          "" if tuple(leads) == LEADS else f", leads {', '.join(leads)}",
        )
        all_leads = tuple(leads) == LEADS
        records = source if all_leads else FewLeads(source, leads)
        found = self.encoder.ecg(records)
        _check_finite(identity.name, source, found)
        if jax.process_index() == 0:
          _write(path, found)
      self._known[key] = found
    return self._known[key]


def _read(path: pathlib.Path) -> cgdmer.Embedding | None:
  try:
    with np.load(path, allow_pickle=False) as data:
      return cgdmer.Embedding(data["shared"], data.get("specific"))
  except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
    # None, or damaged: computed again.
    return None


def _write(path: pathlib.Path, embedding: cgdmer.Embedding) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  arrays = {"shared": embedding.shared, "specific": embedding.specific}
  temporary = path.with_suffix(f".{os.getpid()}.tmp")
  try:
    with temporary.open("wb") as file:
      np.savez(file, **{k: v for k, v in arrays.items() if v is not None})
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


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
  compute: Callable[[pipeline.Batch], cgdmer.Embedding],
  source: pipeline.SignalSource,
  batch_size: int,
  mesh: jax.sharding.Mesh,
) -> cgdmer.Embedding:
  """Applies `compute` to all records of `source`, in order.

  Args:
    compute: from a batch on the devices to embeddings that are replicated.
    source: N records.
    batch_size: over all processes.
    mesh: devices.

  Returns:
    float32 (N, width); no row for padding.
  """
  rows = []
  for batch in pipeline.eval_batches(
    source,
    batch_size=batch_size,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  ):
    batch.pop("index")
    batch.pop("valid")
    rows.append(jax.device_get(compute(sharding.put_batch(batch, mesh))))
  joined = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float32), *rows)
  return jax.tree.map(lambda x: x[: len(source)], joined)


class Extractor:
  """Computes embeddings for experiments of one architecture.

  Holds the compiled functions, so that checkpoints of the same architecture,
  and their random twins, share them.
  """

  def __init__(
    self, experiment: experiment_lib.Experiment, mesh: jax.sharding.Mesh
  ):
    """Prepares the functions; nothing is compiled yet."""
    model, config = experiment.model, experiment.config
    everywhere = NamedSharding(mesh, PartitionSpec())

    def encode_ecg(params, batch):
      lead_valid = batch["lead_valid"]
      with sharding.use(mesh):
        x = preprocessing.preprocess(
          batch["ecg"], lead_valid, config.preprocess
        )
      patches = preprocessing.patchify(x, config.model.patch_length)
      mask = masking.full_view(lead_valid, model.num_patches)
      variables = {"params": params}
      return model.apply(variables, patches, mask, method="encode_ecg")[1]

    def encode_report(params, tokens):
      variables = {"params": params}
      return model.apply(variables, tokens, method="encode_report")[1]

    self._mesh = mesh
    self._max_length = config.report.max_length
    self._encode_ecg = jax.jit(encode_ecg, out_shardings=everywhere)
    self._encode_report = jax.jit(encode_report, out_shardings=everywhere)

  def ecg(
    self,
    experiment: experiment_lib.Experiment,
    source: pipeline.SignalSource,
    batch_size: int,
  ) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, in order.

    Returns:
      `shared` and `specific`, float32 (N, width); no row for padding.
    """

    def compute(batch):
      return self._encode_ecg(experiment.params, batch)

    return extract(compute, source, batch_size, self._mesh)

  def report(
    self,
    experiment: experiment_lib.Experiment,
    texts: Sequence[str],
    batch_size: int = 256,
  ) -> cgdmer.Embedding:
    """Embeddings of texts, float32 (n, width).

    Raises:
      UserError: the recipe has no report tower.
    """
    if not experiment.model.use_report:
      raise UserError(
        f"recipe {experiment.config.recipe!r} has no report encoder"
      )
    tokens, cut = reports.tokenize(
      experiment.tokenizer, texts, self._max_length
    )
    if cut:
      logging.warning(
        "%.1f %% of %d texts are longer than the report.max_length=%d "
        "tokens that the report encoder reads, and are cut",
        100 * cut,
        len(texts),
        self._max_length,
      )
    batch_size = min(batch_size, len(tokens))
    rows = []
    for start in range(0, len(tokens), batch_size):
      batch = tokens[start : start + batch_size]
      short = batch_size - len(batch)  # one shape for all
      batch = np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)])
      embedding = self._encode_report(experiment.params, batch)
      rows.append(jax.device_get(embedding))
    joined = jax.tree.map(
      lambda *x: np.concatenate(x).astype(np.float32), *rows
    )
    return jax.tree.map(lambda x: x[: len(tokens)], joined)


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
