"""A model in one directory, without its checkpoints, that runs anywhere.

weights.safetensors   parameters and the arrays of the readout
config.json           configuration of the pretraining
tokenizer/            of reports
readout.json          labels, sentences and calibration; absent without one
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from cgdmer_jax import files
from cgdmer_jax.config import saved
from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.inference import readout as readout_lib
from cgdmer_jax.inference.readout import Readout
from cgdmer_jax.models.forward import Forward
from cgdmer_jax.train import setup
from cgdmer_jax.trained_model import TrainedModel

WEIGHTS = "weights.safetensors"
READOUT = "readout.json"
TOKENIZER = "tokenizer"
_FORMAT = 1
_PARAMS, _READOUT_ARRAYS = "params/", "readout/"


def is_bundle(directory: pathlib.Path) -> bool:
  """Whether a directory holds a model that `save` wrote."""
  return (directory / WEIGHTS).is_file()


def save(
  directory: pathlib.Path, trained: TrainedModel, readout: Readout | None
) -> None:
  """Writes a model; arrays are rounded to float16.

  Args:
    directory: must not exist.
    trained: the model.
    readout: its labels and calibration.

  Raises:
    UserError: `directory` exists.
  """
  if directory.exists():
    raise UserError(f"{directory} exists; choose another name")
  flat = traverse_util.flatten_dict(jax.device_get(trained.params), sep="/")
  arrays = {_PARAMS + name: x for name, x in flat.items()}
  if readout:
    arrays |= {_READOUT_ARRAYS + k: x for k, x in readout.arrays().items()}
  metadata = {
    "format": _FORMAT,
    "name": trained.name,
    "step": trained.step,
    "vocabulary": dataclasses.asdict(trained.model.vocabulary),
  }
  with files.replacing(directory) as temporary:
    temporary.mkdir()
    weights = safetensors.numpy.save(
      {name: np.asarray(x, np.float16) for name, x in arrays.items()},
      {"cgdmer_jax": json.dumps(metadata)},
    )
    files.write(temporary / WEIGHTS, weights)
    files.write(temporary / saved.FILE_NAME, saved.to_json(trained.config))
    longest = trained.config.report.max_length
    reports.save_tokenizer(trained.tokenizer, temporary / TOKENIZER, longest)
    if readout:
      files.write(temporary / READOUT, readout.to_json())


def load(
  directory: pathlib.Path, mesh: jax.sharding.Mesh
) -> tuple[TrainedModel, Readout | None]:
  """Reads what `save` wrote; the parameters are whole on every device.

  Raises:
    UserError: a file is missing or damaged, or a newer version wrote it.
  """
  metadata, arrays = _read_weights(directory / WEIGHTS)
  config = saved.read(directory)
  fields = metadata["vocabulary"]
  for name in ("special_ids", "separator_ids"):
    fields[name] = tuple(fields.get(name, ()))
  model = setup.build_model(config, reports.Vocabulary(**fields))
  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  params = _part(arrays, _PARAMS)
  trained = TrainedModel(
    metadata["name"],
    config,
    Forward(model, config.preprocess, mesh),
    jax.device_put(traverse_util.unflatten_dict(params, sep="/"), whole),
    functools.partial(reports.load_tokenizer, directory / TOKENIZER),
    str(directory),
    metadata["step"],
  )
  path = directory / READOUT
  if not path.exists():
    return trained, None
  text = path.read_text(encoding="utf-8")
  return trained, readout_lib.from_parts(text, _part(arrays, _READOUT_ARRAYS))


def _read_weights(
  path: pathlib.Path,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  try:
    with safetensors.safe_open(path, "numpy") as file:
      metadata = json.loads((file.metadata() or {})["cgdmer_jax"])
      arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except (OSError, KeyError, ValueError, safetensors.SafetensorError) as e:
    raise UserError(
      f"{path} is no model of cgdmer_jax, or damaged ({one_line(e)}); pack the"
      " run again"
    ) from e
  if metadata["format"] > _FORMAT:
    raise UserError(
      f"{path} has format {metadata['format']}, this version reads up to"
      f" {_FORMAT}; use a newer version of cgdmer_jax"
    )
  return metadata, arrays


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
  """The arrays below a prefix, as float32."""
  return {
    name.removeprefix(prefix): x.astype(np.float32)
    for name, x in arrays.items()
    if name.startswith(prefix)
  }
