"""What differs between recorders and bodies, drawn anew in every training step.

A simulated population has one recorder, and hearts that lie as its author
thought. Here each record of a batch gets another gain, another position of the
heart, other noise and another filter, on the device. None of it changes a
finding, if the ranges are small.
"""

from __future__ import annotations

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Key
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data import leads


@flax.struct.dataclass
class Augmentation:
  """What is done to each record of a batch; None for what is not done.

  Attributes:
    mixing: float32 (B, L, L), from the leads of a record to its new ones.
    noise: float32 (B, L, T) in mV, added to them.
    lowpass: float32 (B,), corner of a low-pass filter in Hz, applied last.
  """

  mixing: Leaf | None = None
  noise: Leaf | None = None
  lowpass: Leaf | None = None


NONE = Augmentation()


def draw(
  key: Key[Array, ""],
  lead_valid: Bool[Array, "batch lead"],
  num_samples: int,
  config: ConfigDict,
) -> Augmentation:
  """Draws an augmentation for each record.

  Args:
    key: PRNG key.
    lead_valid: False where a lead is missing in the record.
    num_samples: T.
    config: `config.augment`; what is 0 there is not done.
  """
  b, l = lead_valid.shape
  gain_key, lead_key, turn_key, level_key, noise_key, filter_key = (
    jax.random.split(key, 6)
  )
  mixing = noise = lowpass = None
  if config.gain or config.lead_gain or config.rotation:
    log_gain = config.gain * jax.random.normal(gain_key, (b, 1))
    log_gain += config.lead_gain * jax.random.normal(lead_key, (b, l))
    angles = config.rotation * jax.random.normal(turn_key, (b, 3))
    mixing = turned(jnp.deg2rad(angles), lead_valid)
    mixing *= jnp.exp(log_gain)[:, :, None]
  if config.noise:
    level = config.noise * jax.random.exponential(level_key, (b, 1, 1))
    noise = level * jax.random.normal(noise_key, (b, l, num_samples))
  low, high = config.lowpass
  if high:
    low, high = np.log(low), np.log(high)
    lowpass = jnp.exp(
      jax.random.uniform(filter_key, (b,), minval=low, maxval=high)
    )
  return Augmentation(mixing, noise, lowpass)


def turned(
  angles: Float[Array, "batch three"],
  lead_valid: Bool[Array, "batch lead"],
) -> Float[Array, "batch lead lead"]:
  """Leads after the heart has turned, from leads before.

  The part of a recording that a single dipole explains turns with the dipole
  (x left, y down, z front), which is estimated from the valid leads; the rest
  stays. A component of the dipole that these leads hardly see counts as 0.

  Args:
    angles: radians; the dipole turns in the frontal plane, then in the
      horizontal, then in the sagittal one.
    lead_valid: False where a lead is missing.
  """
  (ca, cb, cc), (sa, sb, sc) = jnp.cos(angles).T, jnp.sin(angles).T
  zero, one = jnp.zeros_like(ca), jnp.ones_like(ca)

  def matrix(*rows):
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)

  frontal = matrix((ca, -sa, zero), (sa, ca, zero), (zero, zero, one))
  horizontal = matrix((cb, zero, -sb), (zero, one, zero), (sb, zero, cb))
  sagittal = matrix((one, zero, zero), (zero, cc, -sc), (zero, sc, cc))
  turn = sagittal @ horizontal @ frontal - jnp.eye(3)[None]
  vectors = jnp.asarray(leads.VECTORS, jnp.float32)
  # Decompositions are not partitioned.
  dipole = sharding.by_record(_dipole_from_leads)(lead_valid)
  change = jnp.einsum("lx,bxy,bym->blm", vectors, turn, dipole)
  return jnp.eye(len(vectors))[None] + change


def _dipole_from_leads(
  lead_valid: Bool[Array, "batch lead"],
) -> Float[Array, "batch three lead"]:
  """Least squares of a dipole, given its valid leads."""
  vectors = jnp.asarray(leads.VECTORS, jnp.float32)[None]
  seen = jnp.where(lead_valid[..., None], vectors, 0.0)
  square = jnp.einsum("blx,bly->bxy", seen, seen)
  # With fewer than three directions the noise of a lead would be magnified: by
  # 10 at most with this limit.
  inverse = jnp.linalg.pinv(square, rtol=0.01, hermitian=True)
  return jnp.einsum("bxy,bly->bxl", inverse, seen)


def apply(
  x: Float[Array, "batch lead time"], augmentation: Augmentation
) -> Float[Array, "batch lead time"]:
  """Turns, scales and disturbs signals in mV; the filter is not applied."""
  if augmentation.mixing is not None:
    # In full precision, since leads are sums of others to the last digit.
    x = jnp.einsum("blm,bmt->blt", augmentation.mixing, x, precision="highest")
  if augmentation.noise is not None:
    x += augmentation.noise
  return x
