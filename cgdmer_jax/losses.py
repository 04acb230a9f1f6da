"""The terms of the CG-DMER objective, over the global batch, in float32.

Every function takes global arrays: under `jax.jit` with a batch that is sharded
over devices the partitioner inserts the collectives, and value and gradient are
those of one device.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def positive_pairs(
  tokens: Int[Array, "batch token"],
) -> Bool[Array, "batch batch"]:
  """Which ECG/report pairs of the batch are positives.

  Records whose reports read the same, token by token, are positives of each
  other: about 800,000 MIMIC-IV-ECG records share some 180,000 texts, so that
  treating them as negatives would push matching pairs apart.
  """
  return jnp.all(tokens[:, None] == tokens[None, :], axis=-1)


def normalise(z: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
  """L2-normalised rows in float32 (zero rows stay zero, with zero gradient)."""
  z = z.astype(jnp.float32)
  return z * jax.lax.rsqrt(jnp.sum(z * z, axis=-1, keepdims=True) + 1e-12)


def sigmoid_alignment(
  z_ecg: Float[Array, "batch width"],
  z_report: Float[Array, "batch width"],
  positive: Bool[Array, "batch batch"],
  log_scale: Float[Array, ""],
  bias: Float[Array, ""],
) -> Float[Array, ""]:
  """Pairwise sigmoid loss (SigLIP, Zhai et al. 2023, eq. 1).

  -1/B sum_ij log sigmoid(y_ij (exp(log_scale) z_i . z_j + bias)), y_ij = 1 for
  positive pairs and -1 for all others. Inputs are L2-normalised here.
  """
  cosine = jnp.einsum(
    "id,jd->ij",
    normalise(z_ecg),
    normalise(z_report),
    preferred_element_type=jnp.float32,
  )
  logits = jnp.exp(log_scale) * cosine + bias
  sign = jnp.where(positive, 1.0, -1.0)
  return -jnp.sum(jax.nn.log_sigmoid(sign * logits)) / logits.shape[0]


def infonce_alignment(
  z_ecg: Float[Array, "batch width"],
  z_report: Float[Array, "batch width"],
  positive: Bool[Array, "batch batch"],
  log_scale: Float[Array, ""],
) -> Float[Array, ""]:
  """Symmetric InfoNCE (CLIP) whose target mass is shared among the positives.

  The mean of both directions' cross-entropies. exp(log_scale) is the inverse
  temperature, clamped at 100 as in CLIP (Radford et al. 2021, section 2.5).
  """
  cosine = jnp.einsum(
    "id,jd->ij",
    normalise(z_ecg),
    normalise(z_report),
    preferred_element_type=jnp.float32,
  )
  logits = jnp.minimum(jnp.exp(log_scale), 100.0) * cosine
  positive = positive.astype(jnp.float32)

  def direction(logits, positive):
    target = positive / jnp.sum(positive, axis=1, keepdims=True)
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits, 1), axis=1))

  return (direction(logits, positive) + direction(logits.T, positive.T)) / 2


def cross_correlation(
  a: Float[Array, "batch width_a"], b: Float[Array, "batch width_b"]
) -> Float[Array, ""]:
  """Squared Frobenius norm of the cross-correlation matrix, over its width.

  Columns are standardised over the batch. 0 when no feature of `a` is linearly
  related to one of `b` in the batch; at least 1 when a = b. Independent
  features give width_b / B on average, which is chance, not dependence.
  """

  def standardise(z):
    z = z.astype(jnp.float32)
    z -= jnp.mean(z, axis=0, keepdims=True)
    return z * jax.lax.rsqrt(jnp.mean(z * z, axis=0, keepdims=True) + 1e-6)

  correlation = standardise(a).T @ standardise(b) / a.shape[0]
  return jnp.sum(correlation**2) / a.shape[1]


def reconstruction(
  predicted: Float[Array, "batch lead patch sample"],
  target: Float[Array, "batch lead patch sample"],
  hidden: Bool[Array, "batch lead patch"],
) -> Float[Array, ""]:
  """Mean squared error over the samples of the hidden patches."""
  error = jnp.mean((predicted.astype(jnp.float32) - target) ** 2, axis=-1)
  weight = hidden.astype(jnp.float32)
  return jnp.sum(error * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def masked_language_model(
  logits: Float[Array, "batch slot vocab"],
  target: Int[Array, "batch slot"],
  weight: Float[Array, "batch slot"],
) -> Float[Array, ""]:
  """Mean cross-entropy (nats) of the masked report tokens."""
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  nll = -jnp.take_along_axis(log_p, target[..., None], axis=-1)[..., 0]
  return jnp.sum(nll * weight) / jnp.maximum(jnp.sum(weight), 1.0)
