"""The encoders that an evaluation compares, from their names.

| name | encoder |
|---|---|
| `runs/a`, `runs/a/checkpoints/540` | a pretrained one; `*` stands for many |
| `random` | the first pretrained one's architecture with random weights |
| `random_grid` | the same at two sampling rates, with each normalisation, with and without high-pass filter: what preprocessing alone is worth |
| `random_convolutions` | see `random_convolutions.py` |
| `features.npz` | anybody's features, see `foreign.py` |
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import functools
import glob
import itertools
import json
import os
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
import scipy.signal
from absl import logging

from cgdmer_jax import trained_model as experiment_lib
from cgdmer_jax.data import pipeline, preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import (
  features,
  foreign,
  random_convolutions,
)
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer
from cgdmer_jax.train import checkpoint


class Pretrained:
  """The encoders of a run, or of its architecture with random weights.

  Attributes:
    identity: see `results.Identity`.
    config: of the pretraining.
    path: of the run or checkpoint.
    decimate: factor by which it reduces the sampling rate of records.
  """

  decimate = 1

  def __init__(
    self,
    path: str,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    num_samples: int,
    random: str = "",
    decimate: int = 1,
    **preprocess,
  ):
    """Finds the run; weights are loaded when they are needed.

    Args:
      path: of the run or one of its checkpoints.
      mesh: devices.
      batch_size: of feature extraction.
      num_samples: T of the records to be read.
      random: name of the encoder if its weights are to be random.
      decimate: factor by which the sampling rate is reduced.
      **preprocess: fields of `config.preprocess` that differ from the run's.

    Raises:
      UserError: no run there.
    """
    self.config = experiment_lib.read_config(path)
    self.path, self._mesh, self._batch_size = path, mesh, batch_size
    self._num_samples = num_samples
    if self.config.recipe == "random":
      random = random or "random"  # nothing was trained, nothing saved
    self._random, self.decimate = random, decimate
    self.config.preprocess.update(preprocess)
    self.config.preprocess.sampling_rate //= decimate
    self.config.model.patch_length //= decimate
    fields = {"name": random or self.config.recipe, "seed": self.config.seed}
    if not random:
      directory = checkpoint.find_checkpoint(path)
      fields["checkpoint"] = str(directory)
      step = fields["step"] = int(directory.name)
      if step < self.config.train.steps:
        fields["name"] += f", step {step}"
      # Says when it was written: another run of the same name is another.
      fields["saved"] = (directory / "_CHECKPOINT_METADATA").read_text()
    fingerprint = results.make_key(self.config.to_dict(), decimate, fields)
    fields.pop("saved", None)
    self.identity = results.Identity(fingerprint=fingerprint, **fields)

  @functools.cached_property
  def experiment(self) -> experiment_lib.Experiment:
    """The model with its weights, loaded when it is first asked for."""
    return experiment_lib.load(
      self.path,
      self._num_samples // self.decimate,
      self._mesh,
      self.config if self._random else None,
    )

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """Embeddings of all records of `source`, in order.

    Raises:
      UserError: the records are sampled at another rate.
    """
    records = source
    if self.decimate > 1:
      records = _Decimated(source, self.decimate)
    experiment_lib.check_source(records, self.config)
    extractor = _extractor(self.experiment, self._mesh)
    return extractor.ecg(self.experiment, records, self._batch_size)

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Embeddings of texts; UserError if the recipe has no report encoder."""
    extractor = _extractor(self.experiment, self._mesh)
    return extractor.report(self.experiment, texts)


class _Decimated:
  """Records at a fraction of their sampling rate."""

  def __init__(self, source: pipeline.SignalSource, factor: int):
    self._source, self._factor = source, factor
    self.sampling_rate = source.sampling_rate // factor
    self.name = getattr(source, "name", "")

  def __len__(self) -> int:
    return len(self._source)

  def signal(self, index: int) -> dict[str, np.ndarray]:
    record = dict(self._source.signal(index))
    ecg = record["ecg"].astype(np.float32)
    ecg = scipy.signal.resample_poly(ecg, 1, self._factor, axis=-1)
    record["ecg"] = np.clip(np.rint(ecg), -32768, 32767).astype(np.int16)
    return record


_EXTRACTORS: dict[str, features.Extractor] = {}


def _extractor(experiment, mesh) -> features.Extractor:
  """The compiled functions of an architecture, the same for its checkpoints."""
  config, model = experiment.config, experiment.model
  key = json.dumps(
    [
      config.model.to_dict(),
      config.preprocess.to_dict(),
      config.report.max_length,
      config.compute.to_dict(),
      dataclasses.asdict(model.vocabulary),
      [model.num_patches, model.use_report, model.use_specific],
      [model.reconstruct, model.use_mlm, model.num_frozen],
      repr(mesh),
    ],
    sort_keys=True,
    default=str,
  )
  if key not in _EXTRACTORS:
    _EXTRACTORS[key] = features.Extractor(experiment, mesh)
  return _EXTRACTORS[key]


def parse(
  names: str, mesh: jax.sharding.Mesh, batch_size: int, num_samples: int
) -> list[features.Encoder]:
  """The encoders of a list of names.

  Args:
    names: separated by commas, see the head of this file.
    mesh: devices for features.
    batch_size: of feature extraction.
    num_samples: T of the records to be read.

  Returns:
    Encoders, each once. Those of one name that differ in more than their seed
    have their folders in their names. Of many runs (`*`) those that have saved
    nothing yet are left out, with a warning.

  Raises:
    UserError: nothing is found under a name.
  """
  words: list[str] = []
  for word in filter(None, map(str.strip, names.split(","))):
    found = [word]
    if "*" in word:
      found = [path for path in sorted(glob.glob(word)) if _is_encoder(path)]
    if not found:
      raise UserError(f"no run matches {word!r}")
    words += found
  if not words:
    raise UserError("no encoder: set --config.encoders, such as runs/pretrain")
  baselines = ("random", "random_grid", "random_convolutions")
  paths = [w for w in words if w not in baselines and not w.endswith(".npz")]
  if {"random", "random_grid"} & set(words) and not paths:
    raise UserError("random takes its architecture from a run; add one")
  make = functools.partial(
    Pretrained, mesh=mesh, batch_size=batch_size, num_samples=num_samples
  )
  encoders: list[features.Encoder] = []
  for word in words:
    if word == "random":
      encoders.append(make(paths[0], random="random"))
    elif word == "random_grid":
      encoders += _grid(paths[0], make)
    elif word == "random_convolutions":
      encoders.append(random_convolutions.RandomConvolutions(mesh, batch_size))
    elif word.endswith(".npz"):
      encoders.append(foreign.Foreign(word))
    else:
      encoders.append(make(word))
  encoders = list({e.identity.fingerprint: e for e in encoders}.values())
  _name_apart(encoders)
  return encoders


def _is_encoder(path: str) -> bool:
  """Whether a path that `*` stands for is a run or features, not another file.

  A sweep that is not done yet has runs that have saved nothing.
  """
  if path.endswith(".npz"):
    return True
  try:
    config = experiment_lib.read_config(path)
    if config.recipe != "random":
      checkpoint.find_checkpoint(path)
  except UserError as error:
    if pathlib.Path(path).is_dir():
      logging.warning("left out: %s", error)
    return False
  return True


def _grid(path, make) -> list[Pretrained]:
  """Random encoders: sampling rate x normalisation x high-pass filter."""
  grid = []
  for decimate, normalise, low in itertools.product(
    (1, 2), preprocessing.NORMALISATIONS, (0.0, 0.5)
  ):
    rate = experiment_lib.read_config(path).preprocess.sampling_rate
    grid.append(
      make(
        path,
        random=f"random, {rate // decimate} Hz, {normalise}"
        + (f", above {low} Hz" if low else ", unfiltered"),
        decimate=decimate,
        normalise=normalise,
        bandpass=(low, 0.0),
      )
    )
  return grid


def _name_apart(encoders: list[features.Encoder]) -> None:
  """Gives encoders that differ in more than their seed different names."""
  groups: dict[str, dict[str, list[features.Encoder]]] = {}
  for encoder in encoders:
    of_name = groups.setdefault(encoder.identity.name, {})
    of_name.setdefault(_apart_from_seed(encoder), []).append(encoder)
  for name, of_name in groups.items():
    if len(of_name) == 1:
      continue
    folders = [_folder(of_group) for of_group in of_name.values()]
    if len(set(folders)) < len(folders):
      folders = [_folder(of_group[:1]) for of_group in of_name.values()]
    depth = 1
    while len({f[-depth:] for f in folders}) < len(folders):
      depth += 1
    for folder, of_group in zip(folders, of_name.values(), strict=True):
      for encoder in of_group:
        encoder.identity = dataclasses.replace(
          encoder.identity, name=f"{name} ({'/'.join(folder[-depth:])})"
        )


def _folder(encoders: Sequence[features.Encoder]) -> tuple[str, ...]:
  """What the paths of runs that differ in their seed have in common."""
  paths = [str(pathlib.Path(e.path).absolute()) for e in encoders]
  common = os.path.commonprefix(paths)
  if len(paths) > 1:
    common = common.rstrip("-_./ ")
  return pathlib.Path(common).parts


def _apart_from_seed(encoder: features.Encoder) -> str:
  """What makes two encoders the same but for chance."""
  if not isinstance(encoder, Pretrained):
    return encoder.identity.fingerprint
  fields = {
    k: v
    for k, v in encoder.config.to_dict().items()
    if k not in ("seed", "evaluation")
  }
  same = [fields, encoder.decimate, encoder.identity.step]
  return json.dumps(same, sort_keys=True)
