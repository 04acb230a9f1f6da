"""A model in one directory, without its checkpoints, that runs anywhere.

weights.safetensors   parameters and the arrays of the readout; its metadata
                      have the configuration, too
config.json           configuration of the pretraining
tokenizer/            of reports
readout.json          labels with their prompts and calibration, sentences of
                      reports; absent without a report encoder
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
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

SHIPPED = pathlib.Path(__file__).parents[1] / "weights"  # by name
WEIGHTS = "weights.safetensors"
READOUT = "readout.json"
TOKENIZER = "tokenizer"
_FORMAT = 1
_PARAMS, _READOUT_ARRAYS = "params/", "readout/"


def is_bundle(directory: pathlib.Path) -> bool:
  """Whether a directory holds a model that `write` wrote."""
  return (directory / WEIGHTS).is_file()


def shipped() -> tuple[str, ...]:
  """Names of the models that come with the package."""
  return tuple(sorted(x.name for x in SHIPPED.glob("*") if is_bundle(x)))


def identify(directory: pathlib.Path) -> tuple[int | None, str]:
  """Step and hash of the weights, wherever they lie.

  Raises:
    UserError: they are damaged.
  """
  metadata, _ = _read_weights(directory / WEIGHTS)
  content = (directory / WEIGHTS).read_bytes()
  return metadata["step"], hashlib.sha256(content).hexdigest()


def write(
  folder: pathlib.Path, trained: TrainedModel, readout: Readout | None
) -> None:
  """Writes a model into an empty folder; arrays are rounded to float16."""
  flat = traverse_util.flatten_dict(jax.device_get(trained.params), sep="/")
  arrays = {_PARAMS + name: x for name, x in flat.items()}
  if readout:
    arrays |= {_READOUT_ARRAYS + k: x for k, x in readout.arrays().items()}
  text = saved.to_json(trained.config)
  metadata = {
    "format": _FORMAT,
    "name": trained.name,
    "step": trained.step,
    "vocabulary": dataclasses.asdict(trained.model.vocabulary),
    "config": json.loads(text),
  }
  weights = safetensors.numpy.save(
    {name: np.asarray(x, np.float16) for name, x in arrays.items()},
    {"cgdmer_jax": json.dumps(metadata)},
  )
  files.write(folder / WEIGHTS, weights)
  files.write(folder / saved.FILE_NAME, text)
  longest = trained.config.report.max_length
  reports.save_tokenizer(trained.tokenizer, folder / TOKENIZER, longest)
  if readout:
    files.write(folder / READOUT, readout.to_json())


def load(
  directory: pathlib.Path, mesh: jax.sharding.Mesh
) -> tuple[TrainedModel, Readout | None]:
  """Reads what `write` wrote; the parameters are whole on every device.

  Raises:
    UserError: a file is missing or damaged, or a newer version wrote it.
  """
  metadata, arrays = _read_weights(directory / WEIGHTS)
  config = saved.read(directory)
  if "config" in metadata:
    inside = {k: x for k, x in metadata["config"].items() if k != "format"}
    if saved.complete(inside) != config:
      raise UserError(
        f"{directory / saved.FILE_NAME} is not the configuration in {WEIGHTS};"
        " restore it, or export the run again"
      )
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
      f"{path} is no model of cgdmer_jax, or damaged ({one_line(e)});"
      " export the run again"
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
