"""Optimizer: Muon or AdamW, schedules, and which parameters train how."""

from __future__ import annotations

import math
import re
from typing import Any

import jax
import optax
from flax import traverse_util
from ml_collections import ConfigDict
from optax.contrib import MuonDimensionNumbers

from cgdmer_jax.sharding import STACKED, path_name

# Weight decay shrinks matrices that multiply activations; embeddings, biases,
# norms, mask tokens and the similarity's scale and bias are left alone.
_DECAYED = re.compile(r"/kernel$")
_EMBEDDING = re.compile(r"lead_embedding")


def _is_matrix(name: str) -> bool:
  return bool(_DECAYED.search(name)) and not _EMBEDDING.search(name)


def decay_mask(params: Any) -> Any:
  """True for every parameter that weight decay applies to."""

  def decayed(path, _):
    return _is_matrix("/" + path_name(path))

  return jax.tree_util.tree_map_with_path(decayed, params)


def matrices(params: Any) -> Any:
  """Which axes of a parameter make the matrix that Muon orthogonalises.

  Query, key and value are three matrices; a convolution is the matrix that
  multiplies its unfolded input; None for what is no matrix (AdamW's).
  """

  def axes(path, x):
    name = "/" + path_name(path)
    if not _is_matrix(name):
      return None
    first = 1 if STACKED.search(name) else 0  # one matrix for each block
    if "/qkv/" in name:  # (width, 3, heads, features)
      return MuonDimensionNumbers((first,), (first + 2, first + 3))
    rows = tuple(range(first, x.ndim - 1))
    return MuonDimensionNumbers(rows, (x.ndim - 1,))

  return jax.tree_util.tree_map_with_path(axes, params)


def warmup_cosine(
  peak: float, config: ConfigDict, total_steps: int
) -> optax.Schedule:
  """Linear warm-up from 0, then cosine decay to `peak * final_ratio`."""
  warmup = min(round(config.warmup_ratio * total_steps), total_steps)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=peak,
    warmup_steps=warmup,
    decay_steps=max(total_steps, 1),
    end_value=peak * config.final_ratio,
  )


def report_depth(name: str) -> float:
  """Where a parameter of the model stands in the report encoder.

  Returns:
    0 for the embeddings, 1 for the lowest block, and so on; infinity for
    parameters of other modules.
  """
  if not name.startswith("report_encoder/"):
    return math.inf
  block = re.match(r"report_encoder/blocks_(\d+)/", name)
  return 1 + int(block[1]) if block else 0


def split(params: dict, num_frozen: int | None) -> tuple[dict, dict]:
  """Divides the parameters into those that train and those that do not.

  Args:
    params: nested dicts.
    num_frozen: blocks of the report encoder that do not train, from below, and
      neither do its embeddings; None: everything trains.

  Returns:
    Both parts, nested dicts without empty ones; `merge` joins them.
  """
  parts = {}, {}
  for name, x in traverse_util.flatten_dict(params, sep="/").items():
    frozen = num_frozen is not None and report_depth(name) <= num_frozen
    parts[frozen][name] = x
  return tuple(traverse_util.unflatten_dict(part, sep="/") for part in parts)


def merge(trained: dict, frozen: dict) -> dict:
  """The parameters that `split` divided."""
  return traverse_util.unflatten_dict(
    traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
  )


def _scale_by_layer(decay: float, depth: int) -> optax.GradientTransformation:
  """Multiplies updates by `decay` for each block of the report encoder above.

  Its last block keeps them (Clark et al. 2020, ELECTRA, section 3.1).
  """

  def scale(path, x):
    name = path_name(path)
    return x * decay ** (depth - report_depth(name))

  return optax.stateless(
    lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates)
  )


def make_optimizer(
  config: ConfigDict, report: ConfigDict, report_blocks: int, total_steps: int
) -> optax.GradientTransformation:
  """The optimizer of a configuration.

  With `report.lr` above 0 the report encoder is trained by AdamW at that
  learning rate, multiplied by `report.layer_decay` for each block that lies
  above; the rest, or with `report.lr` 0 everything, as `config` says.

  Args:
    config: `config.optim`.
    report: `config.report`.
    report_blocks: depth of the report encoder.
    total_steps: of the training; schedules end there.
  """
  rest = _optimizer(config, total_steps)
  if report.lr:
    tower = optax.chain(
      _adamw(config, report.lr, total_steps),
      _scale_by_layer(report.layer_decay, report_blocks),
    )

    def labels(params):
      return jax.tree_util.tree_map_with_path(
        lambda path, _: (
          "rest" if report_depth(path_name(path)) == math.inf else "report"
        ),
        params,
      )

    rest = optax.partition({"report": tower, "rest": rest}, labels)
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), rest)


def _adamw(
  config: ConfigDict, lr: float, total_steps: int
) -> optax.GradientTransformation:
  return optax.adamw(
    warmup_cosine(lr, config, total_steps),
    b1=config.b1,
    b2=config.b2,
    weight_decay=config.weight_decay,
    mask=decay_mask,
  )


def _optimizer(
  config: ConfigDict, total_steps: int
) -> optax.GradientTransformation:
  """Muon and AdamW, or AdamW alone.

  With `muon_lr` above 0 the matrices are trained by Muon at that learning rate:
  their momentum is replaced by the nearest orthogonal matrix (Jordan et al.
  2024), scaled to the size of an AdamW update (Liu et al. 2025, arXiv
  2502.16982), and AdamW with Nesterov momentum at `lr` trains the rest. With
  `muon_lr` 0 AdamW at `lr` trains everything.
  """
  if not config.muon_lr:
    return _adamw(config, config.lr, total_steps)
  return optax.contrib.muon(
    warmup_cosine(config.muon_lr, config, total_steps),
    adam_learning_rate=warmup_cosine(config.lr, config, total_steps),
    adam_b1=config.b1,
    adam_b2=config.b2,
    weight_decay=config.weight_decay,
    muon_weight_dimension_numbers=matrices,
    consistent_rms=0.2,
  )
