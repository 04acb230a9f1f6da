"""What a step needs of each device's memory, before anything is compiled.

State and batch are known exactly. Of activations, what the forward pass leaves
to the backward pass is read from the traced program; the compiler needs room
besides, and lays arrays out in tiles.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax

from cgdmer_jax.data.batch import Batch
from cgdmer_jax.train import optim, step_program, train_step
from cgdmer_jax.train.objective import Objective
from cgdmer_jax.train.setup import Training

# Last two axes of a tile in the memory of a TPU, in bytes of a number.
_TILE = {1: (32, 128), 2: (16, 128), 4: (8, 128)}


def expected(
  training: Training, batch: Batch, tiled: bool, **compute: Any
) -> dict[str, int]:
  """Expects the bytes of each device, by their use.

  Args:
    training: what is trained, on which mesh.
    batch: shapes of the global batch, with shardings.
    tiled: whether arrays are laid out in the tiles of a TPU.
    **compute: `remat` or `microbatches`, if other than those of the training.
  """
  objective = training.objective
  known = step_program.state_and_batch(training.abstract, batch)
  trained, _ = optim.split(
    training.abstract.params, objective.forward.model.num_frozen
  )
  mesh = training.mesh.shape
  count = mesh["data"] * mesh["fsdp"]
  parts = compute.pop("microbatches", objective.microbatches)
  local = len(batch.ecg) // count // parts
  sample = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((local, *x.shape[1:]), x.dtype), batch
  )
  stored = _stored(_alone(objective, **compute), training, sample, tiled)
  return known | {
    "gradients": step_program.local_bytes(trained),
    "activations": stored // mesh["tensor"],
  }


def _alone(objective: Objective, remat: str | None = None) -> Objective:
  """The objective of one device: its records, no mesh, one microbatch."""
  model = objective.forward.model
  compute = model.compute
  if remat is not None:
    compute = dataclasses.replace(compute, remat=remat)
  loss = objective.loss.copy_and_resolve_references()
  with loss.unlocked():
    loss.ring = False
  return dataclasses.replace(
    objective,
    forward=dataclasses.replace(
      objective.forward, model=model.clone(compute=compute), mesh=None
    ),
    loss=loss,
    microbatches=1,
  )


def _stored(objective, training, batch, tiled) -> int:
  """Bytes of what the forward pass stores, without parameters and batch."""

  def forward(params, batch):
    def loss_fn(params):
      key = train_step.step_key(0, 0)
      return objective.terms(params, batch, key, is_training=True)["loss"]

    return jax.tree.leaves(jax.vjp(loss_fn, params)[1])

  params = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), training.abstract.params
  )
  jaxpr = jax.make_jaxpr(forward)(params, batch).jaxpr
  stored = {id(x): x.aval for x in jaxpr.outvars}
  for x in jaxpr.invars:  # what is there anyway
    stored.pop(id(x), None)
  return sum(_bytes(x, tiled) for x in stored.values())


def _bytes(x, tiled: bool) -> int:
  """Bytes of an array; in tiles, its last two axes are rounded up."""
  width = getattr(x.dtype, "itemsize", 8)
  shape = [n for n in x.shape if n != 1]
  whole = math.prod(shape)
  if tiled and whole and len(shape) > 1 and width in _TILE:
    # The compiler chooses the order of axes that wastes least.
    rows, columns = _TILE[width]
    best = min(
      whole
      // (a * b)
      * (math.ceil(a / rows) * rows)
      * (math.ceil(b / columns) * columns)
      for i, a in enumerate(shape)
      for j, b in enumerate(shape)
      if i != j
    )
    return best * width
  return whole * width
