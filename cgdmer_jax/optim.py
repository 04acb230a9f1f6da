"""Optimizer: AdamW, warm-up and cosine decay, clipping, decay of matrices."""

from __future__ import annotations

import re

import jax
import optax
from ml_collections import ConfigDict

from cgdmer_jax.sharding import path_name

# Weight decay shrinks matrices that multiply activations; embeddings, biases,
# norms, mask tokens and the similarity's scale and bias are left alone.
_DECAYED = re.compile(r"/kernel$")
_EMBEDDING = re.compile(r"lead_embedding")


def decay_mask(params):
  """True for every parameter that weight decay applies to."""

  def decayed(path, _):
    name = "/" + path_name(path)
    return bool(_DECAYED.search(name)) and not _EMBEDDING.search(name)

  return jax.tree_util.tree_map_with_path(decayed, params)


def learning_rate(config: ConfigDict, total_steps: int) -> optax.Schedule:
  """Linear warm-up from 0 to `lr`, then cosine decay to `lr * final_ratio`."""
  warmup = min(round(config.warmup_ratio * total_steps), total_steps)
  return optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=config.lr,
    warmup_steps=warmup,
    decay_steps=max(total_steps, 1),
    end_value=config.lr * config.final_ratio,
  )


def make_optimizer(
  config: ConfigDict, total_steps: int
) -> optax.GradientTransformation:
  """The optimizer of `config.optim`."""
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.adamw(
      learning_rate(config, total_steps),
      b1=config.b1,
      b2=config.b2,
      weight_decay=config.weight_decay,
      mask=decay_mask,
    ),
  )
