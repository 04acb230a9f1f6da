"""Runs and exports as encoders: with their weights, or with random ones."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from cgdmer_jax import paths, trained_model
from cgdmer_jax.config import saved
from cgdmer_jax.data import pipeline, views
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.inference import bundle
from cgdmer_jax.models import cgdmer
from cgdmer_jax.train import checkpoint
from cgdmer_jax.trained_model import TrainedModel


class Pretrained:
  """The encoders of a run, or of its architecture with random weights.

  See `features.Encoder`. Weights are loaded when they are needed.
  """

  def __init__(
    self,
    path: str,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    random: str = "",
    decimate: int = 1,
    trained: TrainedModel | None = None,
    **preprocess: Any,
  ):
    """Finds the run.

    Args:
      path: workdir of the run or one of its checkpoints, or an export.
      mesh: devices.
      batch_size: records on the devices at once.
      random: name of the encoder if its weights are to be random.
      decimate: factor by which the sampling rate of records is reduced.
      trained: the model at `path`, if it is in memory already.
      **preprocess: fields of `config.preprocess` that differ from the run's.

    Raises:
      UserError: no run there.
    """
    config = trained_model.read_config(path)
    if config.recipe == "random":
      random = random or "random"  # nothing was trained, nothing saved
    config.preprocess.update(preprocess)
    config.preprocess.sampling_rate //= decimate
    config.model.patch_length //= decimate
    self._path, self.batch_size = path, batch_size
    self._config, self._mesh, self._random = config, mesh, bool(random)
    self._decimate, self._trained = decimate, trained
    fields = {"name": random or config.recipe, "seed": config.seed}
    weights = "random"
    if not random:
      fields["checkpoint"], step, weights = _find_weights(path)
      fields["step"] = step
      if step is not None and step < config.train.steps:
        fields["name"] += f", step {step}"
    decisive = saved.decisive(config)
    fingerprint = results.make_key(decisive, decimate, weights)
    decisive.pop("seed", None)
    self.identity = results.Identity(
      fingerprint=fingerprint,
      path=paths.address(path) or str(pathlib.Path(path).absolute()),
      group=results.make_key(decisive, decimate, fields.get("step")),
      **fields,
    )

  @property
  def training_data(self) -> ConfigDict | None:
    """`config.data` of its pretraining; None with random weights."""
    return None if self._random else self._config.data

  def _load(self) -> TrainedModel:
    if self._trained is None:
      directory = pathlib.Path(self._path)
      if self._random or not bundle.is_bundle(directory):
        self._trained = trained_model.load(
          self._path, self._mesh, self._config if self._random else None
        )
      else:
        self._trained, _ = bundle.load(directory, self._mesh)
    return self._trained

  def trained_model(self) -> TrainedModel:
    """The model with its weights.

    Raises:
      UserError: it does not read records as they are.
    """
    if self._decimate > 1:
      raise UserError(
        f"{self.identity.name} reads records at a reduced sampling rate; it is"
        " compared by its features only"
      )
    return self._load()

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, in order.

    Raises:
      UserError: the records are sampled at another rate.
    """
    records = source
    if self._decimate > 1:
      records = views.Decimated(source, self._decimate)
    trained_model.check_sampling_rate(
      records.name, records.sampling_rate, self._config.preprocess
    )
    model = self._load()
    return features.extract(model.embed, records, self.batch_size, self._mesh)

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Embeddings of texts; UserError if the recipe has no report encoder."""
    return self._load().encode_report(texts)


def _find_weights(path: str) -> tuple[str, int | None, str]:
  """Folder, step and hash of the weights of a run or an export.

  The hash has neither names nor places: what is moved or copied stays what it
  is.

  Raises:
    UserError: there are none, or they are damaged.
  """
  if bundle.is_bundle(pathlib.Path(path)):
    return path, *bundle.identify(pathlib.Path(path))
  directory = checkpoint.find_checkpoint(path)
  return str(directory), int(directory.name), checkpoint.content(directory)


def beside_random(
  trained: TrainedModel, workdir: pathlib.Path, batch_size: int
) -> list[features.Encoder]:
  """The model that a run has just trained, and its random twin.

  Args:
    trained: the model, in memory.
    workdir: folder of its run.
    batch_size: records on the devices at once.
  """
  path, mesh = str(workdir), trained.mesh
  encoders = [Pretrained(path, mesh, batch_size, trained=trained)]
  if trained.config.recipe != "random":
    encoders.append(Pretrained(path, mesh, batch_size, random="random"))
  return encoders
