"""Optimizer: Muon or AdamW, warm-up and cosine decay, clipping, decay mask."""

from __future__ import annotations

import re

import jax
import optax
from ml_collections import ConfigDict
from optax.contrib import MuonDimensionNumbers

from cgdmer_jax.sharding import path_name

# Weight decay shrinks matrices that multiply activations; embeddings, biases,
# norms, mask tokens and the similarity's scale and bias are left alone.
_DECAYED = re.compile(r"/kernel$")
_EMBEDDING = re.compile(r"lead_embedding")


def _is_matrix(name: str) -> bool:
  return bool(_DECAYED.search(name)) and not _EMBEDDING.search(name)


def decay_mask(params):
  """True for every parameter that weight decay applies to."""

  def decayed(path, _):
    return _is_matrix("/" + path_name(path))

  return jax.tree_util.tree_map_with_path(decayed, params)


def matrices(params):
  """Which axes of a parameter make the matrix that Muon orthogonalises.

  Query, key and value are three matrices; a convolution is the matrix that
  multiplies its unfolded input; None for what is no matrix (AdamW's).
  """

  def axes(path, x):
    name = "/" + path_name(path)
    if not _is_matrix(name):
      return None
    if "/qkv/" in name:  # (width, 3, heads, features)
      return MuonDimensionNumbers((0,), (2, 3))
    return MuonDimensionNumbers(tuple(range(x.ndim - 1)), (x.ndim - 1,))

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


def make_optimizer(
  config: ConfigDict, total_steps: int
) -> optax.GradientTransformation:
  """The optimizer of `config.optim`.

  With `muon_lr` above 0 the matrices are trained by Muon at that learning rate:
  their momentum is replaced by the nearest orthogonal matrix (Jordan et al.
  2024), scaled to the size of an AdamW update (Liu et al. 2025, arXiv
  2502.16982), and AdamW with Nesterov momentum at `lr` trains the rest. With
  `muon_lr` 0 AdamW at `lr` trains everything.
  """
  schedule = warmup_cosine(config.lr, config, total_steps)
  if config.muon_lr:
    optimizer = optax.contrib.muon(
      warmup_cosine(config.muon_lr, config, total_steps),
      adam_learning_rate=schedule,
      adam_b1=config.b1,
      adam_b2=config.b2,
      weight_decay=config.weight_decay,
      muon_weight_dimension_numbers=matrices,
      consistent_rms=0.2,
    )
  else:
    optimizer = optax.adamw(
      schedule,
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=decay_mask,
    )
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), optimizer)
