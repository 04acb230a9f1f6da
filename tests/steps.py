"""Training steps of the small configuration on any mesh."""

import jax
import numpy as np

from cgdmer_jax import sharding
from cgdmer_jax.train import setup, step_program, train_step
from tests import small


def mesh_of(shape):
  devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
  return jax.sharding.Mesh(devices, sharding.AXES)


def run_steps(config, shape, steps):
  mesh = mesh_of(shape)
  model = setup.build_model(config, small.VOCABULARY)
  optimizer = small.optimizer(config, 30)
  state = train_step.create_state(model, optimizer, mesh, config.seed)
  step = step_program.StepProgram(
    train_step.make_train_step(
      small.objective(config, mesh), optimizer, config.seed
    ),
    train_step.abstract_state(model, optimizer, mesh),
  )
  history = []
  for _ in range(steps):
    state, metrics = step(state, sharding.put_batch(small.batch(), mesh))
    history.append(jax.device_get(metrics))
  return state, history
