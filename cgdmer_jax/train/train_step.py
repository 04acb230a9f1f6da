"""The training state, and the step from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int, Key

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data import batch as batch_lib
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.models import cgdmer, masking, report_masking
from cgdmer_jax.train import optim
from cgdmer_jax.train.objective import Objective


@flax.struct.dataclass
class TrainState:
  """What a checkpoint holds.

  Attributes:
    step: int32, number of updates made.
    params: all parameters, also those that do not train.
    opt_state: state of the optimizer, for the parameters that train.
  """

  step: Leaf
  params: dict
  opt_state: optax.OptState


# (state, batch) -> (next state, metrics)
StepFn = Callable[[TrainState, Batch], tuple[TrainState, dict]]


def step_key(seed: int, step: int | Int[Array, ""]) -> Key[Array, ""]:
  """Random key of one step."""
  return jax.random.fold_in(jax.random.key(seed), step)


def make_train_step(
  objective: Objective, optimizer: optax.GradientTransformation, seed: int
) -> StepFn:
  """Returns `train_step(state, batch) -> (state, metrics)`, to be jitted.

  Metrics belong to the parameters before the update.
  """
  num_frozen = objective.forward.model.num_frozen

  def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict]:
    trained, frozen = optim.split(state.params, num_frozen)

    def loss_fn(trained):
      params = optim.merge(trained, frozen)
      key = step_key(seed, state.step)
      terms = objective.terms(params, batch, key, is_training=True)
      return terms["loss"], terms

    gradient, terms = jax.grad(loss_fn, has_aux=True)(trained)
    updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
    metrics = dict(terms, gradient_norm=optax.tree.norm(gradient))
    params = optim.merge(optax.apply_updates(trained, updates), frozen)
    return TrainState(state.step + 1, params, opt_state), metrics

  return train_step


def init_params(model: cgdmer.CGDMER, seed: int) -> dict:
  """Makes fresh parameters, a pure function of the seed.

  No parameter depends on the length of records: one patch is enough to trace.
  """
  batch = batch_lib.zeros(model.config.patch_length)
  patches = batch.ecg.astype(jnp.float32)[:, :, None]
  mask = masking.full_view(batch.lead_valid, num_patches=1)
  words = report_masking.unmasked_tokens(batch.tokens)
  key = jax.random.key(seed)
  inputs = patches, batch.lead_valid, mask, words
  return model.init(key, *inputs, method="initialise")["params"]


def abstract_state(
  model: cgdmer.CGDMER,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
) -> TrainState:
  """Shapes and shardings of the state that `create_state` makes."""
  return sharding.abstract(_initialiser(model, optimizer, seed=0), mesh)


def create_state(
  model: cgdmer.CGDMER,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
  seed: int,
) -> TrainState:
  """Makes a fresh state that is sharded from the start.

  No device ever holds an unsharded copy of a sharded parameter.
  """
  abstract = abstract_state(model, optimizer, mesh)
  # It runs once: optimising it would take longer than running it.
  init = jax.jit(
    _initialiser(model, optimizer, seed),
    out_shardings=jax.tree.map(lambda x: x.sharding, abstract),
    compiler_options={"xla_backend_optimization_level": 0},
  )
  return init()


def _initialiser(
  model: cgdmer.CGDMER, optimizer: optax.GradientTransformation, seed: int
) -> Callable[[], Any]:
  def init() -> TrainState:
    params = init_params(model, seed)
    trained, _ = optim.split(params, model.num_frozen)
    return TrainState(jnp.int32(0), params, optimizer.init(trained))

  return init
