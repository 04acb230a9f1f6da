"""ECG backbone: a ViT over the visible patches of all leads together."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from cgdmer_jax.arrays import Array
from cgdmer_jax.models import layers, products


class PatchStem(nn.Module):
  """Convolutions inside each patch, flattened into one token.

  A beat may be anywhere in a patch. Convolutions find it at any position; a
  linear map would have to learn each position separately. No convolution
  crosses the border of a patch, so hidden patches stay hidden.

  Attributes:
    width: features of a token.
    convolutions: (features, kernel, stride) of each layer; none: linear.
    pool: whether largest and mean value of each feature join the token: they
      do not depend on where in the patch a wave lies.
  """

  width: int
  convolutions: Sequence[tuple[int, int, int]]
  pool: bool = False
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, patches: Float[Array, "batch token sample"]
  ) -> Float[Array, "batch token width"]:
    """Makes one token from each patch."""
    b, v, p = patches.shape
    x = patches.reshape(b * v, p, 1).astype(self.dtype)
    for i, (features, kernel, stride) in enumerate(self.convolutions):
      x = layers.gelu(
        products.Convolution(
          features, kernel, stride, self.dtype, name=f"convolution_{i}"
        )(x)
      )
    pooled = [x.max(axis=1), x.mean(axis=1)] if self.pool else []
    x = jnp.concatenate([x.reshape(b * v, -1), *pooled], axis=-1)
    x = x.reshape(b, v, -1)
    return products.Dense(self.width, dtype=self.dtype, name="flatten")(x)


class EcgEncoder(nn.Module):
  """Patch stem, lead and time embedding, joint space-time attention."""

  num_leads: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  stem: Sequence[tuple[int, int, int]]
  stem_pool: bool = False
  compute: layers.Compute = layers.Compute()

  @nn.compact
  def __call__(
    self,
    patches: Float[Array, "batch token sample"],
    index: Int[Array, "batch token"],
    seen: Bool[Array, "batch token"],
    num_patches: int,
  ) -> Float[Array, "batch token width"]:
    """Encodes the given patches, and nothing else.

    Args:
      patches: samples of the visible patches.
      index: flat patch index lead * num_patches + time.
      seen: False for slots that are to be ignored (patches of missing leads).
      num_patches: N, patches a lead.

    Returns:
      Tokens; those of ignored slots are meaningless.
    """
    dtype = self.compute.dtype
    x = PatchStem(self.width, self.stem, self.stem_pool, dtype, name="stem")(
      patches
    )
    # A product with one-hot rows: the gradient of a gather is a slow scatter.
    lead = jax.nn.one_hot(index // num_patches, self.num_leads)
    x += products.Dense(
      self.width,
      use_bias=False,
      dtype=dtype,
      kernel_init=nn.initializers.normal(0.02),
      name="lead_embedding",
    )(lead)
    time = layers.sincos_embedding(num_patches, self.width)
    x += jnp.asarray(time, x.dtype)[index % num_patches]
    return layers.Transformer(
      self.depth, self.num_heads, self.mlp_dim, self.compute, name="blocks"
    )(x, seen)
