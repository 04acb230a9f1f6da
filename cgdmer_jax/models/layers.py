"""Pre-LN transformer blocks, shared by every encoder and decoder but BERT."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array
from cgdmer_jax.models import products

# What is stored for the backward pass; it computes the rest again.
_REMAT = {
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}
REMAT = ("none", *_REMAT)

# Of what is cheap to compute only the input is stored; the backward pass
# computes it again. In a scanned stack XLA would store all that lies between:
# six arrays as wide as the MLP for a GELU, three in float32 for a LayerNorm.
_cheap = functools.partial(jax.checkpoint, prevent_cse=False)
gelu = _cheap(jax.nn.gelu)
exact_gelu = _cheap(functools.partial(jax.nn.gelu, approximate=False))
LayerNorm = nn.remat(nn.LayerNorm, prevent_cse=False)
ATTENTION = ("xla", "packed", "cudnn")
_TILE = 128  # tokens; products of a TPU are padded to it


@dataclasses.dataclass(frozen=True)
class Compute:
  """How transformers compute, not what they compute; `config.compute`.

  Attributes:
    dtype: type of activations; parameters, softmax, norms and losses are
      float32.
    attention: "xla"; "packed": the leads, or the times, of a record, which
      attend each for itself, share a tile of a TPU under a mask; or "cudnn":
      flash attention of NVIDIA GPUs, in 16 bits; an odd number of tokens still
      takes "xla".
    scan: whether a stack is one compiled block that runs once for each layer;
      parameters are stacked, and compilation does not take longer with depth.
    remat: what the backward pass recomputes of a block: "none", "dots" (all but
      products with weights) or "full" (everything).
  """

  dtype: str = "float32"
  attention: str = "xla"
  scan: bool = False
  remat: str = "none"

  def recomputed(self, block: type[nn.Module]) -> type[nn.Module]:
    """Wraps `block` so that the backward pass recomputes what `remat` says."""
    if self.remat == "none":
      return block
    return nn.remat(block, prevent_cse=not self.scan, policy=_REMAT[self.remat])


def sincos_embedding(length: int, width: int) -> np.ndarray:
  """Fixed sin-cos position table (Vaswani et al. 2017, section 3.5).

  Returns:
    float32 (length, width): sines in the first half, cosines in the second.
  """
  if width % 2:
    raise ValueError(f"sin-cos embedding needs an even width, got {width}")
  frequency = 10_000.0 ** (-np.arange(width // 2) / (width // 2))
  angle = np.arange(length)[:, None] * frequency
  return np.concatenate([np.sin(angle), np.cos(angle)], 1).astype(np.float32)


class Attention(nn.Module):
  """Multi-head self-attention; softmax in float32.

  At these lengths (tens to hundreds of tokens) the score matrix is small
  (240 tokens: 0.2 MB a head), so XLA's attention needs no hand-made kernel.
  """

  num_heads: int
  compute: Compute = Compute()
  sequences: int = 1  # of one record, next to each other in the batch

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch token width"],
    valid: Bool[Array, "batch token"] | None = None,
  ) -> Float[Array, "batch token width"]:
    """Attends from every token to the valid ones (all when None)."""
    width = x.shape[-1]
    heads = (self.num_heads, width // self.num_heads)
    dtype = self.compute.dtype
    qkv = products.Dense((3, *heads), dtype=dtype, name="qkv")(x)
    query, key, value = (qkv[..., i, :, :] for i in range(3))
    mask = None if valid is None else valid[:, None, None, :]
    kind, length = self.compute.attention, x.shape[-2]
    if kind == "packed":
      x = _attend_packed(query, key, value, mask, self.sequences)
    else:
      if length % 2:
        kind = "xla"  # cuDNN has no gradient there
      elif kind == "cudnn" and mask is not None:  # it wants a row a query
        mask = jnp.broadcast_to(mask, (len(mask), 1, length, length))
      x = jax.nn.dot_product_attention(
        query, key, value, mask=mask, implementation=kind
      )
    return products.Dense(width, 2, dtype=dtype, name="out")(x)


def _attend_packed(query, key, value, mask, sequences):
  """Attends in as many sequences of a record at once as fill a tile."""
  batch, length = query.shape[:2]
  fitting = range(1, max(1, _TILE // length) + 1)
  count = max(n for n in fitting if sequences % n == 0)
  rows, tokens = batch // count, count * length
  own = jnp.arange(tokens) // length
  together = (own[:, None] == own[None])[None, None]
  if mask is not None:
    together = together & mask.reshape(rows, 1, 1, tokens)
  parts = (x.reshape(rows, tokens, *x.shape[2:]) for x in (query, key, value))
  return jax.nn.dot_product_attention(*parts, mask=together).reshape(
    query.shape
  )


class Mlp(nn.Module):
  """Two-layer perceptron with GELU."""

  hidden: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps the last axis to `hidden` and back."""
    width = x.shape[-1]
    x = products.Dense(self.hidden, dtype=self.dtype, name="up")(x)
    x = gelu(x)
    return products.Dense(width, dtype=self.dtype, name="down")(x)


class Block(nn.Module):
  """Pre-LN transformer block."""

  num_heads: int
  mlp_dim: int
  compute: Compute = Compute()

  @nn.compact
  def __call__(self, x: Array, valid: Array | None = None) -> Array:
    """Maps `x` (batch, token, width); for `valid` see `Attention`."""
    dtype = self.compute.dtype
    x = sharding.constrain_batch(x)
    y = LayerNorm(dtype=dtype, name="norm_attention")(x)
    x += Attention(self.num_heads, self.compute, name="attention")(y, valid)
    y = LayerNorm(dtype=dtype, name="norm_mlp")(x)
    return x + Mlp(self.mlp_dim, dtype, name="mlp")(y)


def stack(
  block: type[nn.Module], depth: int, compute: Compute, **sizes: int
) -> Callable[..., Array]:
  """Makes `depth` blocks that run in sequence, inside a compact module.

  Args:
    block: class of the blocks; the output of one is the first argument of the
      next, the other arguments are the same for all.
    depth: number of blocks; parameters are `block_0`, `block_1`, ..., or with
      `compute.scan` all in `layers`, stacked along a first axis.
    compute: how the blocks compute.
    **sizes: further fields of `block`.
  """
  block = compute.recomputed(block)
  make = functools.partial(block, compute=compute, **sizes)
  if not compute.scan:
    blocks = [make(name=f"block_{i}") for i in range(depth)]
    return lambda x, *rest: functools.reduce(
      lambda x, block: block(x, *rest), blocks, x
    )
  scan = nn.scan(
    lambda block, x, rest: (block(x, *rest), None),
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=nn.broadcast,
    length=depth,
  )
  return lambda x, *rest: scan(make(name="layers"), x, rest)[0]


class Transformer(nn.Module):
  """`depth` pre-LN blocks and a final LayerNorm."""

  depth: int
  num_heads: int
  mlp_dim: int
  compute: Compute = Compute()

  @nn.compact
  def __call__(self, x: Array, valid: Array | None = None) -> Array:
    """Maps `x` (batch, token, width); for `valid` see `Attention`."""
    sizes = {"num_heads": self.num_heads, "mlp_dim": self.mlp_dim}
    x = stack(Block, self.depth, self.compute, **sizes)(x, valid)
    return LayerNorm(dtype=self.compute.dtype, name="norm")(x)


class AxialBlock(nn.Module):
  """Attention along time within a lead, then across leads at one time.

  Costs L*N*(L + N) scores instead of (L*N)^2. The two steps connect every patch
  with every other, and a lead that is hidden whole is restored from the others.
  """

  num_heads: int
  mlp_dim: int
  compute: Compute = Compute()

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "batch lead patch width"],
    lead_valid: Bool[Array, "batch lead"],
  ) -> Float[Array, "batch lead patch width"]:
    """Maps all patches; only a missing lead itself attends to its patches."""
    b, l, n, d = x.shape
    dtype = self.compute.dtype
    x = sharding.constrain_batch(x)
    y = LayerNorm(dtype=dtype, name="norm_time")(x)
    y = Attention(self.num_heads, self.compute, l, name="time")(
      y.reshape(b * l, n, d)
    )
    x += y.reshape(b, l, n, d)
    y = LayerNorm(dtype=dtype, name="norm_lead")(x)
    y = Attention(self.num_heads, self.compute, n, name="lead")(
      y.swapaxes(1, 2).reshape(b * n, l, d),
      jnp.repeat(lead_valid, n, axis=0),
    )
    x += y.reshape(b, n, l, d).swapaxes(1, 2)
    y = LayerNorm(dtype=dtype, name="norm_mlp")(x)
    return x + Mlp(self.mlp_dim, dtype, name="mlp")(y)


def masked_mean(
  x: Float[Array, "batch token width"], valid: Bool[Array, "batch token"]
) -> Float[Array, "batch width"]:
  """Mean over the valid tokens, in float32."""
  weight = valid[..., None].astype(jnp.float32)
  total = jnp.sum(x.astype(jnp.float32) * weight, axis=1)
  return total / jnp.maximum(jnp.sum(weight, axis=1), 1.0)
