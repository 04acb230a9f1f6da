"""Model, optimizer and compiled step of a configuration."""

from __future__ import annotations

import dataclasses

import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models import cgdmer
from cgdmer_jax.train import optim, report_tower, step_program, train_step


@dataclasses.dataclass(frozen=True)
class Training:
  """All that training needs, but data.

  Attributes:
    config: the whole configuration.
    num_samples: T, samples a lead.
    mesh: of the devices.
    model: the modules.
    optimizer: of the parameters.
    abstract: shapes and shardings of the state.
    step: the compiled step.
  """

  config: ConfigDict
  num_samples: int
  mesh: jax.sharding.Mesh
  model: cgdmer.CGDMER
  optimizer: optax.GradientTransformation
  abstract: train_step.TrainState
  step: step_program.StepProgram

  def fresh_state(self) -> train_step.TrainState:
    """Before the first step; a pretrained report encoder has its weights."""
    state = train_step.create_state(
      self.model, self.config, self.optimizer, self.num_samples, self.mesh
    )
    if report_tower.is_pretrained(self.config):
      state = report_tower.import_weights(state, self.config)
    return state


def assemble(
  config: ConfigDict, num_samples: int, vocabulary: Vocabulary
) -> Training:
  """Puts it together; logs what trains, and which device holds what of it.

  Args:
    config: the whole configuration.
    num_samples: T, samples a lead.
    vocabulary: of the report tokenizer.

  Raises:
    UserError: the configuration, or the mesh, does not fit.
  """
  train_step.check_config(config, num_samples)
  mesh = sharding.make_mesh(config.mesh)
  sharding.check_batch(config.train.batch_size, config.train.microbatches, mesh)
  model = train_step.build_model(config, num_samples, vocabulary)
  optimizer = optim.make_optimizer(config, config.train.steps)
  abstract = train_step.abstract_state(
    model, config, optimizer, num_samples, mesh
  )
  step = step_program.StepProgram(
    train_step.make_train_step(model, config, optimizer, mesh), abstract
  )
  logging.info("devices: %s", dict(mesh.shape))
  trained, frozen = (
    sum(x.size for x in jax.tree.leaves(part))
    for part in optim.split(abstract.params, model.num_frozen)
  )
  logging.info("%d parameters train, %d are frozen", trained, frozen)
  if mesh.size > 1 and jax.process_index() == 0:
    lines = sharding.describe(abstract.params, mesh)
    logging.info("parameters on the devices:\n%s", "\n".join(lines))
  return Training(config, num_samples, mesh, model, optimizer, abstract, step)
