"""What can be told of hidden patches before anything is learned deeply."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from cgdmer_jax.arrays import Array
from cgdmer_jax.models import beat_arithmetic, lead_arithmetic

_TINY = 1e-4


class Arithmetic(nn.Module):
  """Predicts patches from other leads and from other beats.

  Both predictions say how much of the variance they do not know. Their mean is
  weighted with the inverse of it, as if their errors were independent; how much
  to trust other beats is learned.
  """

  @nn.compact
  def __call__(
    self,
    patches: Float[Array, "batch lead patch sample"],
    shown: Bool[Array, "batch lead patch"],
    lead_valid: Bool[Array, "batch lead"],
  ) -> Float[Array, "batch lead patch sample"]:
    """Predicts all patches from those that are `shown`; float32."""
    leads = lead_arithmetic.LeadArithmetic(name="leads")
    beats = beat_arithmetic.BeatArithmetic(name="beats")
    of_leads, doubt = leads(patches, shown)
    known = jnp.where(shown[..., None], patches, 0.0).astype(jnp.float32)
    filled = jnp.where(shown[..., None], known, of_leads)
    count = jnp.maximum(lead_valid.sum(-1, keepdims=True), 1)
    of_beats, beat_doubt = beats(filled, doubt, shown.sum(1) / count)
    factor = self.param("log_factor", nn.initializers.zeros, ())
    beat_doubt = jnp.exp(factor) * beat_doubt + _TINY
    share = (doubt / (doubt + beat_doubt))[..., None]
    return (1 - share) * of_leads + share * of_beats
