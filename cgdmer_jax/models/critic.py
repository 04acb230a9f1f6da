"""A network that predicts one part of an embedding from another."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from cgdmer_jax.arrays import Array


class GaussianCritic(nn.Module):
  """Normal distribution of features, given others; one hidden layer.

  Attributes:
    width: number of features that are predicted, and of hidden ones.
  """

  width: int

  @nn.compact
  def __call__(
    self, x: Float[Array, "batch given"]
  ) -> tuple[Float[Array, "batch width"], Float[Array, "batch width"]]:
    """Predicts mean and logarithm of the variance of each feature.

    For standardised features; the variance stays between exp(-3) and exp(3),
    since no bound holds for a critic that is certain of everything.
    """
    x = jax.nn.gelu(nn.Dense(self.width, name="hidden")(x))
    mean = nn.Dense(self.width, name="mean")(x)
    return mean, 3 * jnp.tanh(nn.Dense(self.width, name="spread")(x))
