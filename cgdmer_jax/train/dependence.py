"""How much two parts of the same records depend on each other.

Forms of the disentanglement term, over the global batch, in float32. As in
`losses`, every function takes global arrays and gives the same on any mesh. All
are invariant to shift and scale: an encoder cannot lower them by shrinking.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from cgdmer_jax.arrays import Array

FORMS = ("cross_correlation", "hsic", "club")

# (parameters, features of one part) -> mean and logarithm of the variance of
# each feature of the other part.
Critic = Callable[
  [Any, Float[Array, "batch width_a"]],
  tuple[Float[Array, "batch width_b"], Float[Array, "batch width_b"]],
]


def _weights(
  batch_size: int, counts: Bool[Array, " batch"] | None
) -> Float[Array, "batch 1"]:
  """Weights of the records, with the sum 1 (0 if none of them counts)."""
  weight = jnp.ones(batch_size) if counts is None else counts
  weight = weight.astype(jnp.float32)[:, None]
  return weight / jnp.maximum(jnp.sum(weight), 1.0)


def _standardise(
  z: Float[Array, "batch width"], weight: Float[Array, "batch 1"]
) -> Float[Array, "batch width"]:
  """Gives each column the mean 0 and about the variance 1."""
  z = z.astype(jnp.float32)
  z -= jnp.sum(weight * z, axis=0, keepdims=True)
  variance = jnp.sum(weight * z * z, axis=0, keepdims=True)
  return z * jax.lax.rsqrt(variance + 1e-6)


def cross_correlation(
  a: Float[Array, "batch width_a"],
  b: Float[Array, "batch width_b"],
  counts: Bool[Array, " batch"] | None = None,
) -> Float[Array, ""]:
  """Squared Frobenius norm of the cross-correlation matrix, over its width.

  Columns are standardised over the B records that count. The value is 0 if no
  feature of `a` is linearly related to one of `b` in the batch. For a = b it is
  at least 1, except that constant columns add nothing. Independent features
  give width_b / (B - 1) on average: that is chance, not dependence.

  Args:
    a: features; the sum is divided by their width.
    b: other features of the same records.
    counts: False for records to leave out; None: all count.
  """
  weight = _weights(len(a), counts)
  a, b = _standardise(a, weight), _standardise(b, weight)
  return jnp.sum(((weight * a).T @ b) ** 2) / a.shape[1]


def hsic(
  a: Float[Array, "batch width_a"],
  b: Float[Array, "batch width_b"],
  counts: Bool[Array, " batch"] | None = None,
) -> Float[Array, ""]:
  """Hilbert-Schmidt independence criterion, normalised to at most 1.

  Gretton et al. 2005, definition 2 (the biased estimator), divided by the
  geometric mean of its values for (a, a) and (b, b). The kernels are Gaussian;
  their squared bandwidth is the median squared distance of two different
  records, through which no gradient flows. The value is 1 for a = b up to
  rotation, shift and scale, and sees relations that are not linear. Chance
  alone is far from 0 in small batches of features of many dimensions.

  It holds a few B x B matrices, cut over the devices by rows.

  Args:
    a: features.
    b: other features of the same records.
    counts: False for records to leave out; None: all count.
  """
  weight = _weights(len(a), counts)
  pairs = (weight > 0) & (weight > 0).T & ~jnp.eye(len(a), dtype=bool)

  def centred_kernel(z):
    z = z.astype(jnp.float32)
    z -= jnp.sum(weight * z, axis=0, keepdims=True)
    square = jnp.sum(z * z, axis=1, keepdims=True)
    product = jnp.matmul(z, z.T, precision="highest")  # differences are small
    distance = jnp.maximum(square + square.T - 2 * product, 0.0)
    kernel = jnp.exp(-distance / (2 * _median(distance, pairs)))
    mean = kernel @ weight
    return kernel - mean - mean.T + jnp.sum(weight * mean)

  def inner(k, l):
    return jnp.sum(weight * weight.T * k * l)

  k, l = centred_kernel(a), centred_kernel(b)
  norm = jax.lax.rsqrt(inner(k, k) + 1e-10) * jax.lax.rsqrt(inner(l, l) + 1e-10)
  return inner(k, l) * norm


def _median(
  x: Float[Array, "row column"], counts: Bool[Array, "row column"]
) -> Float[Array, ""]:
  """Upper median of the entries that count, at least 1e-6; a constant."""
  x = jnp.where(counts, jax.lax.stop_gradient(x), jnp.inf)
  median = jnp.sort(x.ravel())[jnp.sum(counts) // 2]
  return jnp.where(jnp.isfinite(median), jnp.maximum(median, 1e-6), 1.0)


def club(
  a: Float[Array, "batch width_a"],
  b: Float[Array, "batch width_b"],
  counts: Bool[Array, " batch"] | None,
  critic: Critic,
  params: Any,
) -> Float[Array, ""]:
  """Bounds the mutual information of two parts from above.

  Cheng et al. 2020 (CLUB), section 3, with a variational q: the critic says how
  probable q(b | a) is. The bound is the mean of log q(b_i | a_i) minus that of
  log q(b_j | a_i) over all i and j, in nats for each feature of `b`. It is
  above the mutual information if q is close to the truth. Where it would be
  negative q is not, and it is 0: the encoders wait for the critic, instead of
  learning how to mislead it.

  Value, and gradient of `a` and `b`, are those of the bound. The gradient of
  `params` is that of minus the mean of log q(b_i | a_i), so one step of one
  optimizer trains both. The critic only describes the features that it is
  given: unlike the critic of a lower bound, which has to be maximised while the
  encoders minimise the same value, it plays no game against them.

  Args:
    a: features.
    b: other features of the same records. Columns of both are standardised.
    counts: False for records to leave out; None: all count.
    critic: the network.
    params: its parameters.
  """
  weight = _weights(len(a), counts)
  a, b = _standardise(a, weight), _standardise(b, weight)
  stop = jax.lax.stop_gradient

  mean, log_variance = critic(stop(params), a)
  # Mean over all j of the squared distance of b_j from the mean for a_i.
  first = jnp.sum(weight * b, axis=0, keepdims=True)
  second = jnp.sum(weight * b * b, axis=0, keepdims=True)
  unpaired = second - 2 * mean * first + mean**2
  gap = (unpaired - (b - mean) ** 2) * jnp.exp(-log_variance) / 2
  bound = jnp.maximum(jnp.sum(weight * gap) / b.shape[1], 0.0)

  mean, log_variance = critic(params, stop(a))
  error = (stop(b) - mean) ** 2 * jnp.exp(-log_variance) + log_variance
  surprise = jnp.sum(weight * error) / 2 / b.shape[1]
  return bound + (surprise - stop(surprise))
