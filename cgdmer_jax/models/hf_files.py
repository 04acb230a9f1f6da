"""Files of a Hugging Face checkpoint: finding them, reading their arrays."""

from __future__ import annotations

import json
import os
import pathlib
import pickle
import re
from typing import Any

import numpy as np
import safetensors

from cgdmer_jax.errors import UserError, one_line

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"  # of weights in several files
_PICKLE = "pytorch_model.bin"
_TOKENIZER = (
  "tokenizer.json",
  "vocab.txt",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
)
_NEEDED = f"{CONFIG}, {WEIGHTS} and tokenizer.json (or vocab.txt)"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_PROBE_SECONDS = 10.0


def resolve(name: str | os.PathLike[str]) -> pathlib.Path:
  """Local directory of a checkpoint.

  Args:
    name: a directory, or the id OWNER/NAME of a repository on the Hugging Face
      hub. A copy in the hub's local cache is used as it is, without asking for
      a newer one; else the files are downloaded into that cache.

  Raises:
    UserError: there is no such directory, and the hub cannot be reached (known
      within seconds) or has no such repository.
  """
  directory = pathlib.Path(name).expanduser()
  if directory.is_dir():
    return directory
  if not _HUB_ID.fullmatch(str(name)):
    raise UserError(
      f"no directory {name}; give a local directory with {_NEEDED}, or the id"
      " OWNER/NAME of a repository on the Hugging Face hub"
    )
  return _find_cached(str(name)) or _download(str(name))


def read_config(directory: pathlib.Path) -> dict[str, Any]:
  """Reads `config.json`.

  Raises:
    UserError: it is missing, or not a JSON object.
  """
  return _read_json(directory / CONFIG, f"give a directory with {_NEEDED}")


def read_tensors(directory: pathlib.Path) -> dict[str, np.ndarray]:
  """Reads every array of a checkpoint, by name, in its own dtype.

  Args:
    directory: folder with `model.safetensors`, or else with parts and
      `model.safetensors.index.json`, or else with `pytorch_model.bin`, which
      needs PyTorch.

  Raises:
    UserError: the weights are missing or damaged, their parts are not those of
      the index, or PyTorch is needed and missing.
  """
  if (directory / WEIGHTS).is_file():
    return _read_safetensors(directory / WEIGHTS)
  if (directory / _INDEX).is_file():
    return _read_parts(directory)
  if (directory / _PICKLE).is_file():
    return _read_pickle(directory / _PICKLE)
  raise UserError(f"no weights in {directory}; expected {WEIGHTS}")


def _read_parts(directory):
  files = _parts(directory)
  tensors = {}
  for part in sorted(set(files.values())):
    if not (directory / part).is_file():
      raise UserError(
        f"{directory / _INDEX} lists {part}, which is missing; download it"
      )
    in_part = _read_safetensors(directory / part)
    listed = {name for name, file in files.items() if file == part}
    for name in sorted(listed ^ set(in_part)):
      has, lists = "has", "does not list"
      if name in listed:
        has, lists = "lacks", "lists"
      raise UserError(
        f"{directory / part} {has} {name}, which {_INDEX} {lists} there; the"
        " files belong to different checkpoints, download them again"
      )
    tensors |= in_part
  return tensors


def _parts(directory) -> dict[str, str]:
  """Name of each tensor -> file, from the index."""
  path = directory / _INDEX
  files = _read_json(path, "download it again").get("weight_map")

  def is_name(file):  # not a path: the index must not lead to other folders
    return isinstance(file, str) and file == os.path.basename(file)

  if not isinstance(files, dict) or not all(map(is_name, files.values())):
    raise UserError(
      f"{path}: weight_map is not a table of tensors and files; download it"
      " again"
    )
  return files


def _read_safetensors(path):
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  except (safetensors.SafetensorError, OSError, TypeError, ValueError) as e:
    raise UserError(
      f"cannot read {path} ({one_line(e)}); if it was cut off, or is the"
      " pointer file of git-lfs, download it again"
    ) from e


def _read_pickle(path):
  try:
    import torch
  except ImportError as e:
    raise UserError(
      f"{path} needs PyTorch: pip install 'cgdmer-jax[convert]', or give a"
      f" directory with {WEIGHTS}"
    ) from e
  try:
    # `weights_only`: a pickle may otherwise run any code.
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    # numpy has no bfloat16; float32 holds every value of the shorter ones.
    return {
      name: (x.float() if x.is_floating_point() else x).numpy()
      for name, x in tensors.items()
    }
  except (
    *(AttributeError, EOFError, OSError, RuntimeError, ValueError),
    pickle.UnpicklingError,
  ) as e:
    raise UserError(
      f"cannot read {path} ({one_line(e)}); download it again"
    ) from e


def _read_json(path, advice) -> dict[str, Any]:
  try:
    value = json.loads(path.read_text("utf-8"))
  except FileNotFoundError as e:
    raise UserError(f"no {path.name} in {path.parent}; {advice}") from e
  except (OSError, ValueError) as e:
    raise UserError(f"cannot read {path} ({one_line(e)}); {advice}") from e
  if not isinstance(value, dict):
    raise UserError(f"{path} is not a JSON object; {advice}")
  return value


def _find_cached(hub_id: str) -> pathlib.Path | None:
  """Finds the copy in the hub's local cache, if it is complete."""
  import huggingface_hub

  config = huggingface_hub.try_to_load_from_cache(hub_id, CONFIG)
  if not isinstance(config, str):
    return None
  directory = pathlib.Path(config).parent
  names = {path.name for path in directory.iterdir()}
  weights = _weights(names)
  if weights == [_INDEX]:
    weights += _parts(directory).values()
  has_weights = weights and names.issuperset(weights)
  has_tokenizer = names & set(_TOKENIZER[:2])
  return directory if has_weights and has_tokenizer else None


def _download(hub_id: str) -> pathlib.Path:
  """Downloads a checkpoint into the hub's local cache."""
  import huggingface_hub

  def fetch(names, revision=None):
    return pathlib.Path(
      huggingface_hub.snapshot_download(
        hub_id,
        revision=revision,
        allow_patterns=sorted(names),
        etag_timeout=_PROBE_SECONDS,
      )
    )

  try:
    # This request has a time limit and no retries. Without it a snapshot may
    # wait forever for a server that does not answer.
    info = huggingface_hub.HfApi().model_info(hub_id, timeout=_PROBE_SECONDS)
    names = {file.rfilename for file in info.siblings}
    weights = _weights(names)
    if CONFIG not in names or not weights:
      raise UserError(
        f"{hub_id} on the Hugging Face hub has no {CONFIG} or no {WEIGHTS};"
        " choose another checkpoint"
      )
    directory = fetch({CONFIG, *weights, *_TOKENIZER})
    if weights == [_INDEX]:  # also its parts, of the same revision
      fetch(set(_parts(directory).values()), directory.name)
  except UserError:
    raise
  # The client also raises errors of its HTTP library, which differs between
  # versions. All of them mean that there are no files.
  except Exception as e:
    raise UserError(
      f"{hub_id} is not a local directory, and cannot be downloaded from the"
      f" Hugging Face hub ({type(e).__name__}: {one_line(e)}); download it on"
      f" another machine and give a local directory with {_NEEDED}"
    ) from e
  return directory


def _weights(names: set[str]) -> list[str]:
  """The file to read among `names`, in the order of `read_tensors`."""
  return [n for n in (WEIGHTS, _INDEX, _PICKLE) if n in names][:1]
