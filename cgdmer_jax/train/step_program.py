"""The training step, compiled ahead of time, and the memory that it needs."""

from __future__ import annotations

import time
from typing import Any

import jax
from absl import logging

from cgdmer_jax.data.batch import Batch
from cgdmer_jax.train.train_step import StepFn, TrainState

_MIB = 2**20


class StepProgram:
  """A step that is compiled once for each shape of a batch.

  Batches have few shapes, since reports are padded to a few lengths. The memory
  that the program needs on each device is logged when it is compiled, before it
  runs.
  """

  def __init__(
    self,
    step_fn: StepFn,
    abstract_state: TrainState,
  ):
    """Prepares the step; nothing is compiled yet.

    Args:
      step_fn: from `train_step.make_train_step`; its state is donated.
      abstract_state: shapes and shardings of the state.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state)
    self._abstract_state = abstract_state
    self._step = jax.jit(
      step_fn, donate_argnums=0, out_shardings=(shardings, None)
    )
    self._programs = {}

  def compile(self, batch: Batch) -> jax.stages.Compiled:
    """Compiles the step for batches of this shape, if that is not yet done.

    Args:
      batch: arrays, or `jax.ShapeDtypeStruct` with shardings.
    """
    leaves, structure = jax.tree.flatten(batch)
    key = structure, tuple(x.shape for x in leaves)
    if key not in self._programs:
      start = time.perf_counter()
      batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
        batch,
      )
      program = self._step.lower(self._abstract_state, batch).compile()
      seconds = time.perf_counter() - start
      logging.info(
        "compiled the step in %.0f s (ecg %s, tokens %s): %s",
        seconds,
        batch.ecg.shape,
        batch.tokens.shape,
        describe_memory(self._abstract_state, batch, program),
      )
      self._programs[key] = program
    return self._programs[key]

  def __call__(self, state: TrainState, batch: Batch):
    """Makes one step; returns the next state and the metrics."""
    return self.compile(batch)(state, batch)


def memory(
  abstract_state: TrainState, batch: Batch, program: jax.stages.Compiled
) -> dict[str, int]:
  """Bytes that a step needs on each device, by their use."""
  parts = state_and_batch(abstract_state, batch)
  analysis = program.memory_analysis()
  if analysis is not None:  # some backends do not give it
    parts["activations"] = analysis.temp_size_in_bytes
  return parts


def state_and_batch(abstract_state: TrainState, batch: Batch) -> dict[str, int]:
  """Bytes of what a step is given on each device."""
  return {
    "parameters": local_bytes(abstract_state.params),
    "optimizer": local_bytes(abstract_state.opt_state),
    "batch": local_bytes(batch),
  }


def describe_memory(
  abstract_state: TrainState, batch: Batch, program: jax.stages.Compiled
) -> str:
  """Describes what `memory` returns in one line."""
  parts = memory(abstract_state, batch, program)
  text = ", ".join(f"{k} {v / _MIB:.1f} MiB" for k, v in parts.items())
  return f"on each device {text}; total {sum(parts.values()) / _MIB:.1f} MiB"


def local_bytes(tree: Any) -> int:
  """Bytes of each device's part of an abstract tree with shardings."""

  def local_part(x):
    shape = x.sharding.shard_shape(x.shape)
    return jax.ShapeDtypeStruct(shape, x.dtype)

  local = jax.tree.map(local_part, tree)
  return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(local))
