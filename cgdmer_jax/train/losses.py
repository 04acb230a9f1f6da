"""The terms of the CG-DMER objective, over the global batch, in float32.

Every function takes global arrays. If the batch is sharded over devices, the
partitioner inserts the collectives under `jax.jit`, and value and gradient are
the same as on one device.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Bool, Float, Int

from cgdmer_jax.arrays import Array
from cgdmer_jax.train import positives
from cgdmer_jax.train.positives import Texts

NEVER = 1e9  # minus this is a logit of probability 0


def _num_records(texts: Texts) -> Float[Array, ""]:
  """Number of records with a text; 1 if there are none."""
  return jnp.maximum(jnp.sum(texts.has_text, dtype=jnp.float32), 1.0)


def normalise(z: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
  """L2-normalises rows in float32; zero rows stay zero, with zero gradient."""
  z = z.astype(jnp.float32)
  return z * jax.lax.rsqrt(jnp.sum(z * z, axis=-1, keepdims=True) + 1e-12)


def inverse_temperature(log_scale: Float[Array, ""]) -> Float[Array, ""]:
  """exp(log_scale), clamped at 100 as in CLIP (Radford et al. 2021, 2.5)."""
  return jnp.minimum(jnp.exp(log_scale), 100.0)


def sigmoid_alignment(
  z_ecg: Float[Array, "batch width"],
  z_report: Float[Array, "batch width"],
  texts: Texts,
  log_scale: Float[Array, ""],
  bias: Float[Array, ""],
) -> Float[Array, ""]:
  """Pairwise sigmoid loss (SigLIP, Zhai et al. 2023, eq. 1).

  -1/B sum_ij log sigmoid(y_ij (exp(log_scale) z_i . z_j + bias)), y_ij = 1 for
  pairs that belong together and -1 for all others, over the B records that have
  a text. Pairs that partly belong together have a share of both. Inputs are
  L2-normalised here.
  """
  cosine = jnp.einsum(
    "id,jd->ij",
    normalise(z_ecg),
    normalise(z_report),
    preferred_element_type=jnp.float32,
  )
  logits = jnp.exp(log_scale) * cosine + bias
  share, known = positives.match(texts, texts)
  error = optax.sigmoid_binary_cross_entropy(logits, share)
  return jnp.sum(jnp.where(known, error, 0.0)) / _num_records(texts)


def infonce_alignment(
  z_ecg: Float[Array, "batch width"],
  z_report: Float[Array, "batch width"],
  texts: Texts,
  log_scale: Float[Array, ""],
) -> Float[Array, ""]:
  """Symmetric InfoNCE (CLIP) whose target mass is shared among the positives.

  Each gets as much of it as the pair belongs together (`positives.match`).
  The mean of both directions' cross-entropies, over the records that have a
  text, at `inverse_temperature`.
  """
  cosine = jnp.einsum(
    "id,jd->ij",
    normalise(z_ecg),
    normalise(z_report),
    preferred_element_type=jnp.float32,
  )
  logits = inverse_temperature(log_scale) * cosine
  share, known = positives.match(texts, texts)
  logits = jnp.where(known, logits, -NEVER)

  def direction(logits, share):
    total = jnp.maximum(jnp.sum(share, axis=1, keepdims=True), 1.0)
    return -jnp.sum(share / total * jax.nn.log_softmax(logits, 1))

  both = direction(logits, share) + direction(logits.T, share.T)
  return both / 2 / _num_records(texts)


def hidden_error(
  predicted: Float[Array, "batch lead patch sample"],
  target: Float[Array, "batch lead patch sample"],
  hidden: Bool[Array, "batch lead patch"],
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
  """Sums the mean squared errors of the hidden patches of each record.

  Returns:
    The sums, and the numbers of hidden patches; see `mean`.
  """
  error = jnp.mean((predicted.astype(jnp.float32) - target) ** 2, axis=-1)
  weight = hidden.astype(jnp.float32)
  return jnp.sum(error * weight, (1, 2)), jnp.sum(weight, (1, 2))


def word_error(
  logits: Float[Array, "batch slot vocab"],
  target: Int[Array, "batch slot"],
  weight: Float[Array, "batch slot"],
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
  """Sums the cross-entropies (nats) of the masked words of each report.

  Returns:
    The sums, and the numbers of masked words; see `mean`.
  """
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  nll = -jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
  return jnp.sum(nll * weight, axis=1), jnp.sum(weight, axis=1)


def mean(
  total: Float[Array, " batch"], count: Float[Array, " batch"]
) -> Float[Array, ""]:
  """Mean over everything that is counted in the global batch, or 0."""
  return jnp.sum(total) / jnp.maximum(jnp.sum(count), 1.0)
