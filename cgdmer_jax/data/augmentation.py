"""What differs between recorders and bodies, drawn anew in every step.

A simulated population has one recorder, and hearts that lie as its author
thought. Here each record of a batch gets another gain, another position of the
heart, other noise and other filters, on the device. None of it changes a
finding, if the ranges are small.
"""

from __future__ import annotations

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key
from ml_collections import ConfigDict

from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data import leads


@flax.struct.dataclass
class Augmentation:
  """What is done to each record of a batch.

  Attributes:
    mixing: float32 (B, L, L), from the leads of a record to its new ones.
    noise: float32 (B, L, T) in mV, added to them.
    lowpass: float32 (B,), corner of a low-pass filter in Hz.
  """

  mixing: Leaf
  noise: Leaf
  lowpass: Leaf


def draw(
  key: Key[Array, ""], shape: tuple[int, int, int], config: ConfigDict
) -> Augmentation:
  """Draws an augmentation for each record.

  Args:
    key: PRNG key.
    shape: B, L, T of the batch.
    config: `config.augment`.
  """
  b, l, _ = shape
  gain_key, lead_key, turn_key, level_key, noise_key, filter_key = (
    jax.random.split(key, 6)
  )
  gain = jnp.exp(config.gain * jax.random.normal(gain_key, (b, 1)))
  gain *= jnp.exp(config.lead_gain * jax.random.normal(lead_key, (b, l)))
  angles = config.rotation * jax.random.normal(turn_key, (b, 3))
  mixing = gain[:, :, None] * _turned(jnp.deg2rad(angles))
  level = config.noise * jax.random.exponential(level_key, (b, 1, 1))
  noise = level * jax.random.normal(noise_key, shape)
  low, high = config.lowpass
  lowpass = jnp.exp(
    jax.random.uniform(
      filter_key, (b,), minval=np.log(low), maxval=np.log(high)
    )
  )
  return Augmentation(mixing, noise, lowpass)


def _turned(
  angles: Float[Array, "batch three"],
) -> Float[Array, "batch lead lead"]:
  """Leads after the heart has turned, from leads before.

  The part of a recording that a single dipole explains turns with the dipole
  (x left, y down, z front); the rest stays.

  Args:
    angles: radians, in the frontal, the horizontal and the sagittal plane.
  """
  (ca, cb, cc), (sa, sb, sc) = jnp.cos(angles).T, jnp.sin(angles).T
  zero, one = jnp.zeros_like(ca), jnp.ones_like(ca)

  def matrix(*rows):
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2)

  frontal = matrix((ca, -sa, zero), (sa, ca, zero), (zero, zero, one))
  horizontal = matrix((cb, zero, -sb), (zero, one, zero), (sb, zero, cb))
  sagittal = matrix((one, zero, zero), (zero, cc, -sc), (zero, sc, cc))
  turn = sagittal @ horizontal @ frontal - jnp.eye(3)[None]
  vectors = np.asarray(leads.VECTORS, np.float32)
  inverse = np.linalg.pinv(vectors).astype(np.float32)
  change = jnp.einsum("lx,bxy,ym->blm", vectors, turn, inverse)
  return jnp.eye(len(vectors))[None] + change


def apply(
  x: Float[Array, "batch lead time"], augmentation: Augmentation
) -> Float[Array, "batch lead time"]:
  """Turns, scales and disturbs signals in mV; the filter is not applied."""
  return jnp.einsum("blm,bmt->blt", augmentation.mixing, x) + augmentation.noise
