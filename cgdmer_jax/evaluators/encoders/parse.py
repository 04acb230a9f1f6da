"""The encoders that an evaluation compares, from their names.

| name | encoder |
|---|---|
| `runs/a`, `runs/a/checkpoints/540` | a pretrained one; `*` stands for many |
| `simulated`, `my_model` | weights that come with the package, an export |
| `random` | the first pretrained one's architecture with random weights |
| `random_grid` | the same at two sampling rates, with each normalisation, with and without high-pass filter: what preprocessing alone is worth |
| `random_convolutions` | see `random_convolutions.py` |
| `supervised_cnn` | in `linear_probe`, a network trained on the same labels |
| `ridge` | in `reconstruction`, what arithmetic restores of the patches of the first run |
| `features.npz` | anybody's features, see `foreign.py` |
"""  # noqa: E501

from __future__ import annotations

import dataclasses
import functools
import glob
import itertools
import pathlib

import jax
from absl import logging

from cgdmer_jax import paths, trained_model
from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import (
  baseline,
  features,
  foreign,
  random_convolutions,
)
from cgdmer_jax.evaluators.encoders.pretrained import Pretrained
from cgdmer_jax.evaluators.scores import gathering
from cgdmer_jax.inference import bundle
from cgdmer_jax.train import checkpoint


def parse(
  names: str, mesh: jax.sharding.Mesh, batch_size: int
) -> list[features.Encoder]:
  """The encoders of a list of names.

  Args:
    names: separated by commas, see the head of this file. A path with a comma
      or `*` in its name is taken as it is, if it exists.
    mesh: devices for features.
    batch_size: records on the devices at once.

  Returns:
    Encoders, each once. Those of one name that differ in more than their seed
    have their folders in their names. Of many runs (`*`) those that have saved
    nothing yet are left out, with a warning.

  Raises:
    UserError: nothing is found under a name.
  """
  words = [path for word in _split(names) for path in _expand(word)]
  if not words:
    raise UserError("no encoder: set --config.encoders, such as runs/pretrain")
  baselines = ("random", "random_grid", "random_convolutions")
  baselines += ("ridge", "supervised_cnn")
  runs = [w for w in words if w not in baselines and not w.endswith(".npz")]
  if {"random", "random_grid", "ridge"} & set(words) and not runs:
    raise UserError(
      "random and ridge take their architecture from a run; add one"
    )
  make = functools.partial(Pretrained, mesh=mesh, batch_size=batch_size)
  encoders: list[features.Encoder] = []
  for word in words:
    if word == "random":
      encoders.append(make(runs[0], random="random"))
    elif word == "random_grid":
      encoders += _grid(runs[0], make)
    elif word == "random_convolutions":
      encoders.append(random_convolutions.RandomConvolutions(mesh, batch_size))
    elif word == "supervised_cnn":
      encoders.append(baseline.Baseline(word, batch_size))
    elif word == "ridge":
      config = trained_model.read_config(runs[0])
      encoders.append(baseline.Baseline(word, batch_size, config))
    elif word.endswith(".npz"):
      encoders.append(foreign.Foreign(word))
    else:
      encoders.append(make(word))
  encoders = list({e.identity.fingerprint: e for e in encoders}.values())
  _name_apart(encoders)
  return encoders


def _split(names: str) -> list[str]:
  """Names between commas; a path that has commas itself stays whole.

  Blanks around a name are left out, unless they belong to a path.
  """
  words = names.split(",")
  found = []
  while words:
    joined = ((n, ",".join(words[:n])) for n in range(len(words), 0, -1))
    count, name = next(
      (
        (n, path)
        for n, text in joined
        for path in (text, text.strip())
        if path and _exists(path)
      ),
      (1, words[0].strip()),
    )
    words = words[count:]
    found.append(name)
  return [name for name in found if name]


def _exists(name: str) -> bool:
  """Whether there is something of this name."""
  try:
    path = paths.anywhere(name, "--config.encoders")
    return bool(paths.address(path)) or path.exists()
  except (OSError, UserError):  # such as several names in one: too long
    return False


def _expand(name: str) -> list[str]:
  """The paths that a name stands for."""
  if name in bundle.shipped():
    return [str(bundle.SHIPPED / name)]
  name = str(paths.anywhere(name, "--config.encoders"))
  if "*" not in name or _exists(name):
    return [name]
  found = [path for path in sorted(glob.glob(name)) if _is_encoder(path)]
  if not found:
    raise UserError(f"no run matches {name!r}")
  return found


def _is_encoder(path: str) -> bool:
  """Whether a path that `*` stands for is a run or features, not another file.

  A sweep that is not done yet has runs that have saved nothing.
  """
  if path.endswith(".npz"):
    return True
  try:
    config = trained_model.read_config(path)
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
    rate = trained_model.read_config(path).preprocess.sampling_rate
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
  names = gathering.names_apart([e.identity for e in encoders])
  for encoder in encoders:
    name = names[encoder.identity.fingerprint]
    encoder.identity = dataclasses.replace(encoder.identity, name=name)
