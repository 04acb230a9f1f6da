"""Alignment losses for large global batches: no device holds a B x B matrix.

Each device has one block of the batch. It keeps the ECGs of its block while the
blocks of reports are passed around a ring, so that every ECG is compared with
every report once (Zhai et al. 2023, SigLIP, section 3.3). Only sums and running
log-sum-exps are kept; the backward pass computes the rest again. Value and
gradient are those of `losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.train import losses, positives
from cgdmer_jax.train.positives import Texts

_AXES = ("data", "fsdp")  # mesh axes that the batch is cut over
_CHUNK = 512  # most ECGs that are compared with a block at a time


@flax.struct.dataclass
class _Records:
  """Embeddings of one modality.

  Attributes:
    z: float32 (B, width), L2-normalised.
    texts: what tells which records belong together.
    running: what is kept of the comparisons so far, a row for each record.
  """

  z: Leaf
  texts: Texts
  running: Any


# (block of ECGs, block of reports) -> the next `running` of both.
_Compare = Callable[[_Records, _Records], tuple[Any, Any]]


@flax.struct.dataclass
class _Softmax:
  """State of B softmaxes whose logits arrive in parts.

  Attributes:
    top: float32 (B,), the greatest logit so far.
    total: float32 (B,), sum of exp(logit - top).
    matching: float32 (B,), sum of the logits of positives, each times how much
      the pair belongs together.
    count: float32 (B,), sum of the latter.
  """

  top: Leaf
  total: Leaf
  matching: Leaf
  count: Leaf

  def add(self, logits: Array, share: Array) -> _Softmax:
    """Adds more logits, (B, more), and how much they are positives."""
    top = jnp.maximum(self.top, jnp.max(logits, axis=1))
    top = jax.lax.stop_gradient(top)  # it cancels out
    more = jnp.sum(jnp.exp(logits - top[:, None]), axis=1)
    return _Softmax(
      top,
      self.total * jnp.exp(self.top - top) + more,
      self.matching + jnp.sum(share * logits, axis=1),
      self.count + jnp.sum(share, axis=1),
    )

  def cross_entropy(self) -> Array:
    """Cross-entropy with a target shared among the positives; 0 without."""
    matching = self.matching / jnp.maximum(self.count, 1.0)
    entropy = self.top + jnp.log(self.total) - matching
    return jnp.where(self.count > 0, entropy, 0.0)


def alignment(
  kind: str,
  z_ecg: Float[Array, "batch width"],
  z_report: Float[Array, "batch width"],
  texts: Texts,
  log_scale: Float[Array, ""],
  bias: Float[Array, ""],
  mesh: jax.sharding.Mesh,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
  """Computes the alignment loss, and how many false negatives it avoids.

  Args:
    kind: "sigmoid" or "infonce"; see `losses`.
    z_ecg: global array, cut over data x fsdp.
    z_report: likewise.
    texts: likewise.
    log_scale: see `losses`.
    bias: see `losses.sigmoid_alignment`; "infonce" does not use it.
    mesh: devices; has the axes data and fsdp.
  """
  on_device = _sigmoid if kind == "sigmoid" else _infonce
  size = mesh.shape["data"] * mesh.shape["fsdp"]
  totals, shares = jax.shard_map(
    lambda *args: jax.tree.map(lambda x: x[None], on_device(size, *args)),
    mesh=mesh,
    in_specs=(sharding.BATCH, sharding.BATCH, sharding.BATCH, P(), P()),
    out_specs=P(_AXES),
    axis_names=set(_AXES),
  )(losses.normalise(z_ecg), losses.normalise(z_report), texts, log_scale, bias)
  count = jnp.sum(texts.has_text, dtype=jnp.float32)
  return jnp.sum(totals) / jnp.maximum(count, 1.0), jnp.sum(shares) - count


def _sigmoid(size, z_ecg, z_report, texts, log_scale, bias):
  """Loss and sum of shares, over the ECGs of this device."""

  def compare(ecgs, reports):
    share, known = positives.match(ecgs.texts, reports.texts)
    logits = jnp.exp(log_scale) * (ecgs.z @ reports.z.T) + bias
    error = optax.sigmoid_binary_cross_entropy(logits, share)
    error = jnp.sum(jnp.where(known, error, 0.0), axis=1)
    loss, count = ecgs.running
    return (loss + error, count + jnp.sum(share, axis=1)), reports.running

  zero = z_ecg[:, 0] * 0.0
  (loss, count), _ = _pass_around_ring(
    compare,
    _Records(z_ecg, texts, (zero, zero)),
    _Records(z_report, texts, ()),
    size,
  )
  return jnp.sum(loss), jnp.sum(count)


def _infonce(size, z_ecg, z_report, texts, log_scale, bias):
  """Loss and sum of shares, over the ECGs of this device."""
  del bias

  def compare(ecgs, reports):
    share, known = positives.match(ecgs.texts, reports.texts)
    logits = losses.inverse_temperature(log_scale) * (ecgs.z @ reports.z.T)
    logits = jnp.where(known, logits, -losses.NEVER)
    return (
      ecgs.running.add(logits, share),
      reports.running.add(logits.T, share.T),
    )

  zero = z_ecg[:, 0] * 0.0
  none = _Softmax(zero - losses.NEVER, zero, zero, zero)
  ecgs, reports = _pass_around_ring(
    compare,
    _Records(z_ecg, texts, none),
    _Records(z_report, texts, none),
    size,
  )
  loss = jnp.sum(ecgs.cross_entropy()) + jnp.sum(reports.cross_entropy())
  return loss / 2, jnp.sum(ecgs.count)


def _pass_around_ring(
  compare: _Compare, ecgs: _Records, reports: _Records, size: int
) -> tuple[Any, Any]:
  """Passes the reports of all devices around; returns both `running`."""
  ring = [(i, (i + 1) % size) for i in range(size)]
  chunks = _divide(ecgs)

  def pass_on(carry, _):
    ecgs_running, reports = carry

    @jax.checkpoint
    def compare_chunk(reports_running, chunk):
      ecgs_running, reports_running = compare(
        chunk, reports.replace(running=reports_running)
      )
      return reports_running, ecgs_running

    running, ecgs_running = jax.lax.scan(
      compare_chunk, reports.running, chunks.replace(running=ecgs_running)
    )
    reports = reports.replace(running=running)
    reports = jax.tree.map(lambda x: jax.lax.ppermute(x, _AXES, ring), reports)
    return (ecgs_running, reports), None

  # After `size` passes the reports are back on their own device.
  (running, reports), _ = jax.lax.scan(
    pass_on, (chunks.running, reports), length=size
  )
  return jax.tree.map(lambda x: x.reshape(-1), running), reports.running


def _divide(records: _Records) -> _Records:
  """Divides records into chunks of equal size, along a new first axis."""
  count = len(records.z)
  size = max(n for n in range(1, _CHUNK + 1) if count % n == 0)
  return jax.tree.map(
    lambda x: x.reshape(count // size, size, *x.shape[1:]), records
  )
