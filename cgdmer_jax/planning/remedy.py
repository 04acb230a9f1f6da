"""What to change of a training that does not fit into memory."""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.data.batch import Batch
from cgdmer_jax.models import layers
from cgdmer_jax.planning import memory
from cgdmer_jax.planning.target import Target
from cgdmer_jax.train.setup import Training

_ROOM = 0.85  # of memory: what is expected is not exact


def find(
  training: Training,
  batch: Batch,
  config: ConfigDict,
  place: Target,
  found: dict[str, int],
) -> str:
  """The first change after which the step is expected to fit.

  State is cut over more devices if it fills half of the memory. Then the batch
  is encoded in parts, which costs a second forward pass, then blocks are
  computed again as well.

  Args:
    training: what is trained.
    batch: shapes of its batch.
    config: the whole configuration.
    place: where it would run.
    found: `memory.expected` of it.

  Returns:
    Flags to give, or that a smaller batch or a larger slice is needed.
  """
  chip = place.slice.chip
  room = _ROOM * chip.hbm
  state = sum(found[k] for k in ("parameters", "optimizer", "gradients"))
  changes, mesh = [], training.mesh.shape
  if state > chip.hbm / 2 and mesh["data"] > 1:
    fsdp = mesh["fsdp"]
    widest = place.slice.count
    while fsdp < widest and state * mesh["fsdp"] / fsdp > chip.hbm / 4:
      fsdp *= 2
    changes.append(f"--config.mesh='(-1,{fsdp},{mesh['tensor']})'")
    state = state * mesh["fsdp"] // fsdp
  local = config.train.batch_size // (mesh["data"] * mesh["fsdp"])
  parts = config.train.microbatches
  divisors = [n for n in range(parts, local + 1) if local % n == 0]
  for remat in layers.REMAT[layers.REMAT.index(config.compute.remat) :]:
    if remat != config.compute.remat:
      found = memory.expected(training, batch, place.is_tpu, remat=remat)
    activations = found["activations"]
    for n in divisors:
      if n % parts == 0 and state + activations * parts / n <= room:
        if n > parts:
          changes.append(f"--config.train.microbatches={n}")
        if remat != config.compute.remat:
          changes.append(f"--config.compute.remat={remat}")
        return " ".join(changes) or "a smaller batch or a larger slice"
  return "a smaller batch or a larger slice"
