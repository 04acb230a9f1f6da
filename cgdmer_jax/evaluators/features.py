"""Frozen features: computed once, nothing hidden, nothing updated."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from absl import logging
from jax.sharding import NamedSharding, PartitionSpec

from cgdmer_jax import experiment as experiment_lib
from cgdmer_jax import masking, sharding
from cgdmer_jax.data import pipeline, preprocessing, reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer

REPRESENTATIONS = ("shared", "specific", "both")


class Extractor:
  """Computes embeddings for experiments of one architecture.

  Holds the compiled functions, so that a trained encoder and its random twin
  share them.
  """

  def __init__(
    self, experiment: experiment_lib.Experiment, mesh: jax.sharding.Mesh
  ):
    """Prepares the functions; nothing is compiled yet."""
    model, config = experiment.model, experiment.config
    everywhere = NamedSharding(mesh, PartitionSpec())

    def encode_ecg(params, batch):
      lead_valid = batch["lead_valid"]
      x = preprocessing.preprocess(batch["ecg"], lead_valid, config.preprocess)
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
    rows = []
    for batch in pipeline.eval_batches(
      source,
      batch_size=batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    ):
      batch.pop("index")
      batch.pop("valid")
      batch = sharding.put_batch(batch, self._mesh)
      rows.append(jax.device_get(self._encode_ecg(experiment.params, batch)))
    joined = jax.tree.map(lambda *x: np.concatenate(x), *rows)
    return jax.tree.map(lambda x: x[: len(source)], joined)

  def report(
    self, experiment: experiment_lib.Experiment, texts: Sequence[str]
  ) -> np.ndarray:
    """Shared embeddings of texts, float32 (n, width).

    Raises:
      UserError: the recipe has no report tower.
    """
    if not experiment.model.use_report:
      raise UserError(
        f"recipe {experiment.config.recipe!r} has no report encoder; zero-shot "
        "classification needs one"
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
    embedding = self._encode_report(experiment.params, tokens)
    return np.asarray(jax.device_get(embedding.shared))


def represent(embedding: cgdmer.Embedding, representation: str) -> np.ndarray:
  """The features of a probe: `shared`, `specific`, or both side by side.

  Raises:
    UserError: unknown representation, or one that the recipe does not have.
  """
  if representation not in REPRESENTATIONS:
    raise UserError(
      f"representation={representation!r}; expected one of "
      + ", ".join(REPRESENTATIONS)
    )
  if representation == "shared":
    return embedding.shared
  if embedding.specific is None:
    raise UserError(
      f"representation={representation!r}: this recipe has no "
      "modality-specific encoder; use 'shared'"
    )
  if representation == "specific":
    return embedding.specific
  return np.concatenate([embedding.shared, embedding.specific], axis=1)
