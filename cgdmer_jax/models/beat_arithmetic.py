"""What other beats of the same recording tell about hidden times."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array
from cgdmer_jax.data import leads

_NUM_ANALOGUES = 16  # places that are looked at for each hidden patch
_FAR = 1e3  # distance of places that cannot be compared
_TINY = 1e-6


class BeatArithmetic(nn.Module):
  """Predicts patches from places of the recording with alike surroundings.

  A heart repeats itself. Around each patch, what is seen in it and in the
  patches beside it is laid over every other place of the recording; where it
  fits, the recording tells what the patch may look like. The prediction is the
  mean of the places that fit best, with weights exp(-d / temperature), d being
  their mean squared distance against the mean square of the recording: kernel
  regression on the surroundings (Nadaraya 1964), or non-local means (Buades,
  Coll, Morel 2005). Distances are those of the dipole of the heart, so that
  leads which are hidden at one of the places do not matter.
  """

  @nn.compact
  def __call__(
    self,
    patches: Float[Array, "batch lead patch sample"],
    doubt: Float[Array, "batch lead patch"],
    seen: Float[Array, "batch patch"],
  ) -> tuple[
    Float[Array, "batch lead patch sample"], Float[Array, "batch lead patch"]
  ]:
    """Predicts each patch from the others; float32.

    Args:
      patches: a guess from other leads where a patch is hidden.
      doubt: share of the variance that this guess does not know.
      seen: how far a time can be trusted: 1 if all of its leads are visible, 0
        if all are hidden.

    Returns:
      The prediction, and the share of the variance that it does not know, as
      far as surroundings and `doubt` tell.
    """
    temperature = jnp.exp(
      self.param("log_temperature", nn.initializers.constant(np.log(0.1)), ())
    )
    find = sharding.by_record(_analogues)
    found = find(*jax.lax.stop_gradient((patches, doubt, seen)))
    distance, places, doubts = jax.lax.stop_gradient(found)
    weight = jax.nn.softmax(-distance / temperature, axis=-1)
    doubts += jnp.minimum(distance, 2.0)[..., None]
    return (
      jnp.einsum("bnk,bnklp->blnp", weight, places),
      jnp.einsum("bnk,bnkl->bln", weight, doubts),
    )


def _analogues(
  patches: Float[Array, "batch lead patch sample"],
  doubt: Float[Array, "batch lead patch"],
  seen: Float[Array, "batch patch"],
) -> tuple[
  Float[Array, "batch patch analogue"],
  Float[Array, "batch patch analogue lead sample"],
  Float[Array, "batch patch analogue lead"],
]:
  """Distances of the places that fit best, what is there, and its doubt."""
  b, l, n, p = patches.shape
  signal = patches.reshape(b, l, n * p)
  dipole = jnp.einsum("xl,blt->bxt", np.linalg.pinv(leads.VECTORS), signal)
  trust = jnp.repeat(seen, p, axis=-1)
  power = jnp.sum(trust[:, None] * dipole**2, axis=(1, 2))
  power /= jnp.sum(trust, axis=-1) + _TINY
  distance = _distances(dipole, trust, p) / (power + _TINY)[:, None, None]
  count = min(_NUM_ANALOGUES, distance.shape[-1])
  best, start = jax.lax.top_k(-distance, count)
  cut = jax.vmap(
    jax.vmap(lambda x, i: jax.lax.dynamic_slice(x, (0, i), (l, p)), (None, 0))
  )
  start = start.reshape(b, -1)
  places = cut(signal, start)
  doubts = jax.vmap(lambda x, i: x[:, (i + p // 2) // p].T)(doubt, start)
  shape = b, n, count, l
  return -best, places.reshape(*shape, p), doubts.reshape(shape)


def _distances(
  dipole: Float[Array, "batch three time"],
  trust: Float[Array, "batch time"],
  length: int,
) -> Float[Array, "batch patch place"]:
  """Mean squared distance of the surroundings of patches and of all places.

  Places are first samples of blocks that are as long as a patch. A place that
  overlaps much with the patch, that is hidden itself, or where less than half
  of the surroundings can be compared is far.
  """
  b, _, t = dipole.shape
  n, size = t // length, t + 2 * length
  pad = ((0, 0), (0, 0), (length, length))
  square = jnp.sum(dipole**2, axis=1, keepdims=True)
  one = jnp.ones_like(square)
  # sum of trust * trust' * |x - x'|^2, and of trust * trust': correlations.
  x = jnp.concatenate([square, dipole, one, one], 1) * trust[:, None]
  y = jnp.concatenate([one, -2 * dipole, square, one], 1) * trust[:, None]
  x, y = jnp.pad(x, pad), jnp.pad(y, pad)
  window = np.arange(n)[:, None] * length + np.arange(3 * length)[None]
  x = x[:, :, window].swapaxes(1, 2)  # (B, N, 6, 3 p)
  x = jnp.fft.rfft(x, size).conj()
  y = jnp.fft.rfft(y, size)[:, None]
  product = x * y
  total = jnp.stack([product[:, :, :5].sum(2), product[:, :, 5]], 2)
  total = jnp.fft.irfft(total, size)[..., : t - length + 1]
  weight = total[:, :, 1]
  most = trust.reshape(b, n, length).sum(-1)
  most = sum(jnp.pad(most, ((0, 0), (1, 1)))[:, i : i + n] for i in range(3))
  block = jnp.cumsum(jnp.pad(trust, ((0, 0), (1, 0))), axis=-1)
  block = (block[:, length:] - block[:, :-length]) / length
  start, place = np.arange(n)[:, None] * length, np.arange(t - length + 1)
  good = (weight > 0.5 * most[..., None]) & (block > 0.5)[:, None]
  good &= (np.abs(start - place) > length // 2)[None]
  distance = jnp.maximum(total[:, :, 0] / (weight + _TINY), 0.0)
  return jnp.where(good, distance, _FAR)
