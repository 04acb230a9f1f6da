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

# Weight decay applies to matrices that multiply activations, not to embeddings,
# biases, norms, mask tokens and the scale and bias of the similarity.
_DECAYED = re.compile(r"/kernel$")
_EMBEDDING = re.compile(r"lead_embedding")


def _is_matrix(name: str) -> bool:
  return bool(_DECAYED.search(name)) and not _EMBEDDING.search(name)


def decay_mask(params: Any) -> Any:
  """Marks with True every parameter that weight decay applies to."""

  def decayed(path, _):
    return _is_matrix("/" + path_name(path))

  return jax.tree_util.tree_map_with_path(decayed, params)


def matrices(params: Any) -> Any:
  """Axes of each parameter that form the matrix that Muon orthogonalises.

  Query, key and value are three matrices; a convolution is the matrix that
  multiplies its unfolded input. None for other parameters: AdamW trains them.
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
  """Linear warm-up from 0, then cosine decay to `peak * final_ratio`.

  With a warm-up, the first update has the learning rate 0 and changes nothing.

  Args:
    peak: learning rate at the end of the warm-up.
    config: `config.optim`.
    total_steps: updates of the training; the decay ends there.
  """
  warmup = min(round(config.warmup_ratio * total_steps), total_steps)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=peak,
    warmup_steps=warmup,
    decay_steps=max(total_steps, 1),
    end_value=peak * config.final_ratio,
  )


def report_depth(name: str) -> float:
  """Depth of a parameter of the model in the report encoder.

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
    num_frozen: how many of the lowest blocks of the report encoder do not
      train; its embeddings do not either. None: everything trains.

  Returns:
    Both parts, nested dicts without empty ones; `merge` joins them.
  """
  parts = {}, {}
  for name, x in traverse_util.flatten_dict(params, sep="/").items():
    frozen = num_frozen is not None and report_depth(name) <= num_frozen
    parts[frozen][name] = x
  return tuple(traverse_util.unflatten_dict(part, sep="/") for part in parts)


def merge(trained: dict, frozen: dict) -> dict:
  """Joins the parameters that `split` divided."""
  return traverse_util.unflatten_dict(
    traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
  )


def _scale_by_layer(decay: float, depth: int) -> optax.GradientTransformation:
  """Multiplies updates by `decay` once for each block that lies above.

  The last block of the report encoder keeps its updates (Clark et al. 2020,
  ELECTRA, section 3.1).

  Args:
    decay: `config.report.layer_decay`.
    depth: blocks of the report encoder.
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
  """Makes the optimizer of a configuration.

  With `report.lr` above 0 the report encoder is trained by AdamW at that
  learning rate, multiplied by `report.layer_decay` for each block that lies
  above; the rest, or with `report.lr` 0 everything, as `config` says.

  Args:
    config: `config.optim`.
    report: `config.report`.
    report_blocks: depth of the report encoder.
    total_steps: updates of the training; schedules end there.
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
  """Makes Muon with AdamW, or AdamW alone.

  With `muon_lr` above 0 the matrices are trained by Muon at that learning rate:
  five Newton-Schulz iterations bring their momentum near the closest orthogonal
  matrix (Jordan et al. 2024), which is scaled to the size of an AdamW update
  (Liu et al. 2025, arXiv 2502.16982). AdamW with Nesterov momentum at `lr`
  trains the rest. With `muon_lr` 0 AdamW at `lr` trains everything.
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
