"""Decoders of the generative half: hidden patches and masked words."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from cgdmer_jax.arrays import Array
from cgdmer_jax.models import layers, masking, products


class EcgDecoder(nn.Module):
  """Axial transformer that restores the samples of all patches."""

  patch_length: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  compute: layers.Compute = layers.Compute()

  @nn.compact
  def __call__(
    self,
    tokens: Float[Array, "batch visible fused"],
    mask: masking.PatchMask,
    lead_valid: Bool[Array, "batch lead"],
  ) -> Float[Array, "batch lead patch sample"]:
    """Predicts each patch, normalised to zero mean and unit variance.

    Args:
      tokens: encoder outputs of the visible patches, modality-shared and
        modality-specific side by side.
      mask: which patches these are.
      lead_valid: False where a lead is missing.

    Returns:
      Predicted samples of every patch, hidden or not.
    """
    b, l, n = mask.hidden.shape
    d = self.width
    dtype = self.compute.dtype
    x = products.Dense(d, dtype=dtype, name="fuse")(tokens)
    embed = nn.initializers.normal(0.02)
    hidden = self.param("mask_token", embed, (1, 1, d))
    lead = self.param("lead_embedding", embed, (l, 1, d))
    # Tokens of missing leads are meaningless: the mask token replaces them too.
    every = jnp.zeros((b, l * n, d), x.dtype)
    hidden = products.spread(hidden, every)
    seen = x.shape[1]
    x = jnp.where(mask.seen[..., None], x, hidden[:, :seen])
    x = jnp.concatenate([x, hidden[:, seen:]], axis=1)
    x = masking.permute(x, mask.inverse, mask.order).reshape(b, l, n, d)
    time = jnp.asarray(layers.sincos_embedding(n, d), x.dtype)
    x += products.spread(lead, x) + time[None, None]
    sizes = {"num_heads": self.num_heads, "mlp_dim": self.mlp_dim}
    blocks = layers.stack(layers.AxialBlock, self.depth, self.compute, **sizes)
    x = blocks(x, lead_valid)
    x = layers.LayerNorm(dtype=dtype, name="norm")(x)
    return products.Dense(self.patch_length, dtype=dtype, name="samples")(x)


class ReportDecoder(nn.Module):
  """Head of BERT's masked language model, before the product with the words."""

  width: int
  dtype: str = "float32"

  @nn.compact
  def __call__(
    self, tokens: Float[Array, "batch slot fused"]
  ) -> Float[Array, "batch slot width"]:
    """Dense, GELU, LayerNorm; the caller multiplies by the word table."""
    x = products.Dense(self.width, dtype=self.dtype, name="dense")(tokens)
    x = layers.exact_gelu(x)
    return layers.LayerNorm(dtype=self.dtype, name="norm")(x)
