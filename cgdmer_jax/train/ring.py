"""Alignment losses for large global batches: no device holds a B x B matrix.

The batch lies in blocks on the devices. Each keeps the ECGs of its block while
the blocks of reports go around in a ring, so that every ECG meets every report
once (Zhai et al. 2023, SigLIP, section 3.3). Sums and running log-sum-exps are
all that is kept of a meeting; what else its gradient needs is computed again.
Value and gradient are those of `losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.train import losses
from cgdmer_jax.train.losses import Texts

_AXES = ("data", "fsdp")  # those that the batch is cut over
_CHUNK = 512  # ECGs that meet a block of reports at a time, at most


@flax.struct.dataclass
class _Records:
  """Embeddings of one modality.

  Attributes:
    z: float32 (B, width), of length 1.
    texts: of the records.
    seen: what is kept of the meetings so far, a row for each record.
  """

  z: Leaf
  texts: Texts
  seen: Any


# Of an ECG block and a report block, makes the next `seen` of both.
_Meet = Callable[[_Records, _Records], tuple[Any, Any]]


@flax.struct.dataclass
class _Softmax:
  """What is known of B softmaxes while their logits come in.

  Attributes:
    top: the greatest logit so far.
    total: sum of exp(logit - top).
    matching: sum of the logits of positives.
    count: number of positives.
  """

  top: Leaf
  total: Leaf
  matching: Leaf
  count: Leaf

  def add(self, logits: Array, positive: Array) -> _Softmax:
    """With more logits, (B, more)."""
    top = jnp.maximum(self.top, jnp.max(logits, axis=1))
    top = jax.lax.stop_gradient(top)  # it cancels out
    more = jnp.sum(jnp.exp(logits - top[:, None]), axis=1)
    return _Softmax(
      top,
      self.total * jnp.exp(self.top - top) + more,
      self.matching + jnp.sum(jnp.where(positive, logits, 0.0), axis=1),
      self.count + jnp.sum(positive, axis=1, dtype=jnp.float32),
    )

  def cross_entropy(self) -> Array:
    """Of each softmax and a mass shared among its positives, if it has any."""
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
) -> tuple[Float[Array, ""], Int[Array, ""]]:
  """The alignment loss, and how many false negatives it avoids.

  Args:
    kind: "sigmoid" or "infonce"; see `losses`.
    z_ecg: global array, cut over data x fsdp.
    z_report: likewise.
    texts: likewise.
    log_scale: see `losses`.
    bias: of "sigmoid".
    mesh: of the training.
  """
  on_device = _sigmoid if kind == "sigmoid" else _infonce
  size = mesh.shape["data"] * mesh.shape["fsdp"]
  totals, positives = jax.shard_map(
    lambda *args: jax.tree.map(lambda x: x[None], on_device(size, *args)),
    mesh=mesh,
    in_specs=(sharding.BATCH, sharding.BATCH, sharding.BATCH, P(), P()),
    out_specs=P(_AXES),
    axis_names=set(_AXES),
  )(losses.normalise(z_ecg), losses.normalise(z_report), texts, log_scale, bias)
  count = jnp.sum(texts.has_text, dtype=jnp.int32)
  total = jnp.sum(totals) / jnp.maximum(count, 1).astype(jnp.float32)
  return total, jnp.sum(positives).astype(jnp.int32) - count


def _sigmoid(size, z_ecg, z_report, texts, log_scale, bias):
  """Loss and number of positives, summed over the ECGs of this device."""

  def meet(ecgs, reports):
    positive, known = losses.match(ecgs.texts, reports.texts)
    logits = jnp.exp(log_scale) * (ecgs.z @ reports.z.T) + bias
    log_p = jax.nn.log_sigmoid(jnp.where(positive, logits, -logits))
    log_p = jnp.sum(jnp.where(known, log_p, 0.0), axis=1)
    loss, count = ecgs.seen
    seen = loss - log_p, count + jnp.sum(positive, axis=1, dtype=jnp.float32)
    return seen, reports.seen

  zero = z_ecg[:, 0] * 0.0
  (loss, count), _ = _everybody_meets(
    meet,
    _Records(z_ecg, texts, (zero, zero)),
    _Records(z_report, texts, ()),
    size,
  )
  return jnp.sum(loss), jnp.sum(count)


def _infonce(size, z_ecg, z_report, texts, log_scale, bias):
  """Loss and number of positives, summed over the ECGs of this device."""
  del bias

  def meet(ecgs, reports):
    positive, known = losses.match(ecgs.texts, reports.texts)
    logits = losses.inverse_temperature(log_scale) * (ecgs.z @ reports.z.T)
    logits = jnp.where(known, logits, -losses.NEVER)
    return (
      ecgs.seen.add(logits, positive),
      reports.seen.add(logits.T, positive.T),
    )

  zero = z_ecg[:, 0] * 0.0
  none = _Softmax(zero - losses.NEVER, zero, zero, zero)
  ecgs, reports = _everybody_meets(
    meet,
    _Records(z_ecg, texts, none),
    _Records(z_report, texts, none),
    size,
  )
  loss = jnp.sum(ecgs.cross_entropy()) + jnp.sum(reports.cross_entropy())
  return loss / 2, jnp.sum(ecgs.count)


def _everybody_meets(
  meet: _Meet, ecgs: _Records, reports: _Records, size: int
) -> tuple[Any, Any]:
  """Lets the reports of all devices go around; returns both `seen`."""
  ring = [(i, (i + 1) % size) for i in range(size)]
  chunks = _divide(ecgs)

  def stop(carry, _):
    ecgs_seen, reports = carry

    @jax.checkpoint
    def meet_chunk(reports_seen, chunk):
      ecgs_seen, reports_seen = meet(chunk, reports.replace(seen=reports_seen))
      return reports_seen, ecgs_seen

    seen, ecgs_seen = jax.lax.scan(
      meet_chunk, reports.seen, chunks.replace(seen=ecgs_seen)
    )
    reports = reports.replace(seen=seen)
    reports = jax.tree.map(lambda x: jax.lax.ppermute(x, _AXES, ring), reports)
    return (ecgs_seen, reports), None

  # After as many stops as there are devices the reports are home again.
  (seen, reports), _ = jax.lax.scan(stop, (chunks.seen, reports), length=size)
  return jax.tree.map(lambda x: x.reshape(-1), seen), reports.seen


def _divide(records: _Records) -> _Records:
  """Chunks of equal size along a new first axis."""
  count = len(records.z)
  size = max(n for n in range(1, _CHUNK + 1) if count % n == 0)
  return jax.tree.map(
    lambda x: x.reshape(count // size, size, *x.shape[1:]), records
  )
