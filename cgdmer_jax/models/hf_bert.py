"""Hugging Face BERT checkpoints to and from `ReportEncoder`.

Reads any checkpoint with `model_type` "bert" (MedCPT, PubMedBERT, MiniLM,
Bio_ClinicalBERT, BERT itself), and writes what `transformers` reads.
Nothing is guessed: what `ReportEncoder` does not compute, and every tensor that
is missing or left over, is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import pathlib
import re
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import traverse_util

from cgdmer_jax import files
from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_files, layers
from cgdmer_jax.models.report_encoder import ReportEncoder

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerFast

PyTree = Any

resolve = hf_files.resolve

# Our module, then theirs: query, key and value are one module of ours. {i} is
# the number of the block.
_MODULES = (
  ("word", "embeddings.word_embeddings"),
  ("position", "embeddings.position_embeddings"),
  ("token_type", "embeddings.token_type_embeddings"),
  ("norm", "embeddings.LayerNorm"),
  (
    "blocks_{i}/attention/qkv",
    "encoder.layer.{i}.attention.self.query",
    "encoder.layer.{i}.attention.self.key",
    "encoder.layer.{i}.attention.self.value",
  ),
  ("blocks_{i}/attention/out", "encoder.layer.{i}.attention.output.dense"),
  ("blocks_{i}/norm_attention", "encoder.layer.{i}.attention.output.LayerNorm"),
  ("blocks_{i}/up", "encoder.layer.{i}.intermediate.dense"),
  ("blocks_{i}/down", "encoder.layer.{i}.output.dense"),
  ("blocks_{i}/norm_mlp", "encoder.layer.{i}.output.LayerNorm"),
)
_LEAVES = {
  "embedding": "weight",
  "scale": "weight",
  "kernel": "weight",
  "bias": "bias",
}
_OLD_LEAVES = {"gamma": "weight", "beta": "bias"}  # of LayerNorm, before 2020
# Tensors of checkpoints that the encoder does not use: the pooler, the heads of
# BERT's pretraining, and a constant that old versions saved.
_UNUSED = re.compile(r"pooler\..*|cls\..*|embeddings\.position_ids")
_FLOATS = ("float16", "bfloat16", "float32")

# Field of config.json and ours, for the numbers that every checkpoint gives.
_SIZES = {
  "vocab_size": "vocab_size",
  "hidden_size": "width",
  "num_hidden_layers": "depth",
  "num_attention_heads": "num_heads",
  "intermediate_size": "mlp_dim",
  "max_position_embeddings": "num_positions",
}
# Fields that change what is computed, and the only value that `ReportEncoder`
# implements. A missing field means the same value.
_IMPLEMENTED = {
  "hidden_act": "gelu",
  "position_embedding_type": "absolute",
  "is_decoder": False,
  "is_encoder_decoder": False,
  "add_cross_attention": False,
  "pruned_heads": {},
  "quantization_config": None,
}


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """Architecture of a checkpoint; the fields are those of `ReportEncoder`."""

  vocab_size: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  num_positions: int
  # Hugging Face's defaults: early checkpoints leave these two out.
  type_vocab_size: int = 2
  epsilon: float = 1e-12  # of LayerNorm

  def build(self, compute: layers.Compute | None = None) -> ReportEncoder:
    """Makes the module of these sizes; for `compute` see `layers.Compute`."""
    compute = compute or layers.Compute()
    return ReportEncoder(**dataclasses.asdict(self), compute=compute)


def load_config(
  directory: str | os.PathLike[str], *, max_length: int | None = None
) -> BertConfig:
  """Reads the architecture from `config.json`.

  Dropout is not read: `ReportEncoder` has none.

  Args:
    directory: folder of the checkpoint; see `resolve` for ids of the hub.
    max_length: most tokens of a report that will be read, if known.

  Raises:
    UserError: there is no readable `config.json`, `ReportEncoder` does not
      implement the architecture or the variant of BERT, or `max_length` exceeds
      the positions of the checkpoint.
  """
  directory = pathlib.Path(directory)
  fields = hf_files.read_config(directory)
  path = directory / hf_files.CONFIG
  if "model_type" not in fields:
    raise UserError(f"{path}: model_type is missing; expected 'bert'")
  for name, value in ({"model_type": "bert"} | _IMPLEMENTED).items():
    if fields.get(name, value) != value:
      raise UserError(
        f"{path}: {name} is {fields[name]!r}; only {value!r} is implemented,"
        " choose another checkpoint"
      )
  sizes = {ours: _size(fields, name, path) for name, ours in _SIZES.items()}
  if "type_vocab_size" in fields:
    sizes["type_vocab_size"] = _size(fields, "type_vocab_size", path)
  epsilon = fields.get("layer_norm_eps", BertConfig.epsilon)
  if not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
    raise UserError(
      f"{path}: layer_norm_eps is {epsilon!r}; expected a number from 0 to 1"
    )
  config = BertConfig(**sizes, epsilon=epsilon)
  if config.width % config.num_heads:
    raise UserError(
      f"{path}: hidden_size {config.width} is not a multiple of"
      f" num_attention_heads {config.num_heads}; choose another checkpoint"
    )
  if max_length is not None and max_length > config.num_positions:
    raise UserError(
      f"reports of {max_length} tokens, but {path} has max_position_embeddings"
      f" {config.num_positions}; set report.max_length to at most that"
    )
  return config


def _size(fields, name, path) -> int:
  value = fields.get(name)
  if type(value) is not int or value < 1:
    raise UserError(f"{path}: {name} is {value!r}; expected a positive integer")
  return value


def check_tokenizer(
  tokenizer: PreTrainedTokenizerFast, config: BertConfig
) -> None:
  """Refuses a tokenizer with ids outside the word table.

  JAX raises nothing for them: their embedding is NaN.

  Raises:
    UserError: there are such ids.
  """
  largest = max(tokenizer.get_vocab().values())
  if largest >= config.vocab_size:
    raise UserError(
      f"the tokenizer has ids up to {largest}, but the checkpoint's vocab_size"
      f" is {config.vocab_size}; use the tokenizer that belongs to it"
    )


def load_params(
  directory: str | os.PathLike[str], config: BertConfig
) -> PyTree:
  """Reads the weights.

  Args:
    directory: folder of the checkpoint.
    config: from `load_config(directory)`.

  Returns:
    Parameters of `config.build()`: nested dict of float32 numpy arrays.

  Raises:
    UserError: there are no readable weights; or a tensor is missing, left over,
      there twice, of another shape, not of float type, or not finite.
  """
  directory = pathlib.Path(directory)
  tensors = _standard_names(hf_files.read_tensors(directory), directory)
  leaves = _leaf_shapes(config)
  wanted = [n for path in leaves for n in _tensor_names(path)]
  for name in wanted:
    if name not in tensors:
      raise UserError(
        f"the weights in {directory} have no {name}, which {hf_files.CONFIG}"
        " requires; download the checkpoint again"
      )
  for name in sorted(tensors.keys() - set(wanted)):
    raise UserError(
      f"the weights in {directory} have {name}, which does not belong to the"
      f" architecture of {hf_files.CONFIG}; choose another checkpoint"
    )
  params = {}
  for path, shape in leaves.items():
    names = _tensor_names(path)
    their_shape = _their_shape(path, leaves)
    parts = []
    for name in names:
      x = _as_float32(tensors.pop(name), name, their_shape, directory)
      parts.append(x.T if path.endswith("/kernel") else x)
    # Query, key and value are stacked along an axis before the outputs.
    params[path] = np.concatenate(
      [x.reshape(*x.shape[:-1], 1, -1) for x in parts], axis=-2
    ).reshape(shape)
  return traverse_util.unflatten_dict(params, sep="/")


def save(
  directory: str | os.PathLike[str],
  params: PyTree,
  config: BertConfig,
  tokenizer: PreTrainedTokenizerFast,
) -> None:
  """Writes a checkpoint that `transformers.AutoModel.from_pretrained` reads.

  It has no pooler: ours is trained without one, and the imported one would not
  fit the trained encoder. So `AutoModel` reports `pooler.dense` as newly
  initialised, and its `pooler_output` is noise; with `add_pooling_layer=False`
  there is no pooler. `last_hidden_state` is exact.

  The directory gets its name when it is complete.

  Args:
    directory: folder to make, on a local disk.
    params: parameters of `config.build()`; written as float32.
    config: their architecture.
    tokenizer: the tokenizer that the parameters were trained with.

  Raises:
    UserError: `directory` exists, or the parameters or the tokenizer do not
      belong to `config`.
  """
  directory = pathlib.Path(directory).expanduser()
  if directory.exists():
    raise UserError(f"{directory} exists; choose another name or remove it")
  check_tokenizer(tokenizer, config)
  tensors = _to_tensors(params, config)
  with files.replacing(directory) as part:
    part.mkdir()
    reports.save_tokenizer(tokenizer, part, config.num_positions)
    (part / hf_files.CONFIG).write_text(
      json.dumps(_config_fields(config, tokenizer), indent=2) + "\n"
    )
    # Without this note, `transformers` before 5 refuses the file.
    safetensors.numpy.save_file(
      tensors, part / hf_files.WEIGHTS, metadata={"format": "pt"}
    )
    # safetensors lets only the owner read its file; the others are as usual.
    mode = (part / hf_files.CONFIG).stat().st_mode
    (part / hf_files.WEIGHTS).chmod(mode)


def _config_fields(config, tokenizer) -> dict[str, Any]:
  return {
    "architectures": ["BertModel"],
    "model_type": "bert",
    **{name: getattr(config, ours) for name, ours in _SIZES.items()},
    "type_vocab_size": config.type_vocab_size,
    "layer_norm_eps": config.epsilon,
    "hidden_act": _IMPLEMENTED["hidden_act"],
    "position_embedding_type": _IMPLEMENTED["position_embedding_type"],
    "pad_token_id": tokenizer.pad_token_id,
    "torch_dtype": "float32",
  }


def _to_tensors(params, config) -> dict[str, np.ndarray]:
  """Makes their tensors from our parameters; reverses `load_params`."""
  leaves = _leaf_shapes(config)
  arrays = traverse_util.flatten_dict(params, sep="/")
  for path in sorted(leaves | arrays):
    here, there = arrays.get(path), leaves.get(path)
    here = None if here is None else tuple(np.shape(here))
    if here != there:
      raise UserError(
        f"parameter {path} is {here or 'missing'}, {there or 'unknown'} in"
        " this architecture; give the configuration that it was trained with"
      )
  tensors = {}
  for path, x in arrays.items():
    x = np.asarray(x, np.float32)
    names = _tensor_names(path)
    their_shape = _their_shape(path, leaves)
    kernel = path.endswith("/kernel")
    rows = their_shape[1:] if kernel else their_shape[:-1]
    x = x.reshape(*rows, len(names), -1)
    for i, name in enumerate(names):
      part = x[..., i, :]
      tensors[name] = np.ascontiguousarray(part.T if kernel else part)
  return tensors


def _standard_names(tensors, directory) -> dict[str, np.ndarray]:
  """Tensors of the encoder by the name that `BertModel` gives them today."""
  result = {}
  for name, x in tensors.items():
    standard = name.removeprefix("bert.")
    if _UNUSED.fullmatch(standard):
      continue
    module, _, leaf = standard.rpartition(".")
    if module.endswith("LayerNorm"):
      standard = f"{module}.{_OLD_LEAVES.get(leaf, leaf)}"
    if standard in result:
      raise UserError(
        f"the weights in {directory} have {standard} twice; choose another"
        " checkpoint"
      )
    result[standard] = x
  return result


def _tensor_names(path: str) -> list[str]:
  """Their names of our parameter: query, key and value, or else one."""
  module, _, leaf = path.rpartition("/")
  block = re.search(r"\d+", module)
  pattern = re.sub(r"\d+", "{i}", module)
  theirs = {ours: names for ours, *names in _MODULES}[pattern]
  i = block and block[0]
  return [f"{name.format(i=i)}.{_LEAVES[leaf]}" for name in theirs]


def _their_shape(path: str, leaves: dict[str, tuple]) -> tuple[int, ...]:
  """Shape of each of their tensors that make up our parameter.

  A kernel of theirs is (out, in); ours is (in, out), with one axis split into
  attention heads.
  """
  parts = len(_tensor_names(path))
  module, _, leaf = path.rpartition("/")
  if leaf == "embedding":
    return leaves[path]
  if leaf != "kernel":
    return (math.prod(leaves[path]) // parts,)
  outputs = math.prod(leaves[f"{module}/bias"])
  return (outputs // parts, math.prod(leaves[path]) // outputs)


def _as_float32(x, name, shape, directory) -> np.ndarray:
  where = f"{name} in {directory}"
  if x.shape != shape:
    raise UserError(
      f"{where} has shape {x.shape}; {hf_files.CONFIG} requires {shape}"
    )
  if x.dtype.name not in _FLOATS:
    raise UserError(
      f"{where} is {x.dtype.name}; expected one of {', '.join(_FLOATS)}"
    )
  x = x.astype(np.float32)
  if not np.isfinite(x).all():
    raise UserError(f"{where} holds NaN or infinity; the file is damaged")
  return x


@functools.cache
def _leaf_shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
  """Path of each of our parameters, such as `blocks_0/up/kernel` -> shape."""
  tokens = jnp.zeros((1, 1), jnp.int32)
  variables = jax.eval_shape(
    config.build().init, jax.random.key(0), tokens, tokens == 0
  )
  flat = traverse_util.flatten_dict(variables["params"], sep="/")
  return {path: x.shape for path, x in flat.items()}
