"""The terms of the CG-DMER objective, over the global batch, in float32.

Every function takes global arrays. If the batch is sharded over devices, the
partitioner inserts the collectives under `jax.jit`, and value and gradient are
the same as on one device.
"""

from __future__ import annotations

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt32

from cgdmer_jax.arrays import Array, Leaf

NEVER = 1e9  # minus this is a logit of probability 0


@flax.struct.dataclass
class Texts:
  """Identifies positive pairs of ECGs and reports, from one entry per record.

  Records with the same report are positives of each other, and so are records
  whose reports are read with the same words. About 800,000 MIMIC-IV-ECG records
  share some 180,000 texts: as negatives, matching pairs would be pushed apart.
  A record without text matches no record, not even itself.

  Attributes:
    report: int32 (B,), number of the report; equal for equal reports.
    words: uint32 (B, 2), `fingerprint` of the tokens that are read.
    has_text: bool (B,), False for reports that say nothing.
  """

  report: Leaf
  words: Leaf
  has_text: Leaf


def match(a: Texts, b: Texts) -> tuple[Array, Array]:
  """Compares the records of `a` with those of `b`.

  Returns:
    Two bool (A, B): which pairs are positives, and for which pairs this is
    known because both records have a text.
  """
  same = a.report[:, None] == b.report[None, :]
  same |= jnp.all(a.words[:, None] == b.words[None, :], axis=-1)
  known = a.has_text[:, None] & b.has_text[None, :]
  return same & known, known


def false_negatives(texts: Texts) -> Int[Array, ""]:
  """Number of positive pairs off the diagonal."""
  positive, _ = match(texts, texts)
  return jnp.sum(positive) - jnp.sum(texts.has_text)


def _num_records(texts: Texts) -> Float[Array, ""]:
  """Number of records with a text; 1 if there are none."""
  return jnp.maximum(jnp.sum(texts.has_text, dtype=jnp.float32), 1.0)


def fingerprint(
  tokens: Int[Array, "batch token"],
) -> UInt32[Array, "batch two"]:
  """Hashes the tokens of each report, with their places, to 64 bits.

  Different reports have the same hash with a probability of about 2^-64.
  Without it, all tokens would have to be compared for each pair.
  """
  x = tokens.astype(jnp.uint32)[..., None]
  place = jnp.arange(tokens.shape[1], dtype=jnp.uint32)[None, :, None]
  seed = jnp.asarray([0x9E3779B9, 0x85EBCA6B], jnp.uint32)[None, None]
  x = (x + 1) * seed + (place + 1) * jnp.uint32(0xC2B2AE35)
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):  # mixes the bits
    x = (x ^ (x >> shift)) * jnp.uint32(factor)
  return jnp.sum(x ^ (x >> 16), axis=1, dtype=jnp.uint32)


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
  positive pairs and -1 for all others, over the B records that have a text.
  Inputs are L2-normalised here.
  """
  cosine = jnp.einsum(
    "id,jd->ij",
    normalise(z_ecg),
    normalise(z_report),
    preferred_element_type=jnp.float32,
  )
  logits = jnp.exp(log_scale) * cosine + bias
  positive, known = match(texts, texts)
  sign = jnp.where(positive, 1.0, -1.0)
  log_p = jnp.where(known, jax.nn.log_sigmoid(sign * logits), 0.0)
  return -jnp.sum(log_p) / _num_records(texts)


def infonce_alignment(
  z_ecg: Float[Array, "batch width"],
  z_report: Float[Array, "batch width"],
  texts: Texts,
  log_scale: Float[Array, ""],
) -> Float[Array, ""]:
  """Symmetric InfoNCE (CLIP) whose target mass is shared among the positives.

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
  positive, known = match(texts, texts)
  logits = jnp.where(known, logits, -NEVER)
  positive = positive.astype(jnp.float32)

  def direction(logits, positive):
    count = jnp.maximum(jnp.sum(positive, axis=1, keepdims=True), 1.0)
    return -jnp.sum(positive / count * jax.nn.log_softmax(logits, 1))

  both = direction(logits, positive) + direction(logits.T, positive.T)
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
