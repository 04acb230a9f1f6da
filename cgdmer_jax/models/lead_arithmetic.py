"""The best linear prediction of hidden leads from visible ones."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from cgdmer_jax.arrays import Array
from cgdmer_jax.data import leads

# From leads I, II, V1 to V6 to all twelve (Einthoven, Goldberger).
_TWELVE = np.zeros((leads.NUM_LEADS, 8), np.float32)
_TWELVE[[0, 1], [0, 1]] = 1
_TWELVE[2, :2] = -1, 1
_TWELVE[3, :2] = -0.5, -0.5
_TWELVE[4, :2] = 1, -0.5
_TWELVE[5, :2] = -0.5, 1
_TWELVE[6:, 2:] = np.eye(6)
_INDEPENDENT = (0, 1, *range(6, leads.NUM_LEADS))
_NOISE = 1e-3  # variance of a lead that no other explains, against its own


def _initial_factor(*unused) -> Array:
  """A factor of the covariance of a dipole, with a rest in every lead."""
  vectors = np.asarray(leads.VECTORS, np.float32)[list(_INDEPENDENT)]
  covariance = vectors @ vectors.T + 0.1 * np.eye(8, dtype=np.float32)
  return jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)


class LeadArithmetic(nn.Module):
  """Predicts every lead at every time from the leads that are visible then.

  The mean of a Gaussian, given what is visible, with a learned covariance of
  the eight independent leads. Two visible limb leads give the other four, as
  they do by Einthoven and Goldberger. So the rest of the decoder, and the
  encoder, need not learn arithmetic.
  """

  @nn.compact
  def __call__(
    self,
    patches: Float[Array, "batch lead patch sample"],
    shown: Bool[Array, "batch lead patch"],
  ) -> tuple[
    Float[Array, "batch lead patch sample"], Float[Array, "batch lead patch"]
  ]:
    """Predicts all patches from those that are `shown`; float32.

    Returns:
      The prediction, and the share of the variance of a lead that stays
      unknown: 0 where it is visible, 1 where nothing is.
    """
    factor = self.param("factor", _initial_factor)
    root = jnp.asarray(_TWELVE) @ factor
    covariance = root @ root.T
    mixing, rest = _condition(covariance, shown.swapaxes(1, 2))
    # Zeros where nothing is seen; NaN times 0 would not do.
    visible = jnp.where(shown[..., None], patches.astype(jnp.float32), 0.0)
    doubt = jnp.diagonal(rest, axis1=-2, axis2=-1)
    doubt /= jnp.diagonal(covariance)[None, None]
    linear = jnp.einsum("bnlm,bmnp->blnp", mixing, visible)
    return linear, jnp.maximum(doubt, 0.0).swapaxes(1, 2)


def _condition(
  covariance: Float[Array, "lead lead"], seen: Bool[Array, "batch patch lead"]
) -> tuple[
  Float[Array, "batch patch lead lead"], Float[Array, "batch patch lead lead"]
]:
  """From the leads that are seen to mean and covariance of all, as matrices.

  One lead after the other is taken into account, as in a Kalman filter: there
  is no factorisation, which would run in a library outside of the compiled
  program, and hardly any arithmetic.
  """
  num_leads = covariance.shape[0]
  rest = jnp.broadcast_to(covariance, (*seen.shape, num_leads))
  mixing = jnp.zeros_like(rest)
  unit = jnp.eye(num_leads, dtype=rest.dtype)
  for lead in range(num_leads):
    noise = _NOISE * covariance[lead, lead] + 1e-6
    gain = rest[..., lead] / (rest[..., lead, lead] + noise)[..., None]
    gain = jnp.where(seen[..., lead, None], gain, 0.0)[..., None]
    mixing += (
      gain * (unit[lead][None, None] - mixing[..., lead, :])[..., None, :]
    )
    rest -= gain * rest[..., lead, :][..., None, :]
  return mixing, rest
