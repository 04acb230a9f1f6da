"""From a configuration to a model, an optimizer and a compiled step."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models import cgdmer, layers
from cgdmer_jax.models.forward import Forward
from cgdmer_jax.train import (
  checks,
  optim,
  report_checkpoint,
  step_program,
  train_step,
)
from cgdmer_jax.train.objective import Objective


@dataclasses.dataclass(frozen=True)
class Training:
  """Everything that training needs except data.

  Attributes:
    objective: what is minimised, with the model and the mesh.
    optimizer: updates the parameters that train.
    seed: every random key is derived from it.
    abstract: shapes and shardings of the state.
    step: the step, compiled once for each shape of a batch.
    report_checkpoint: BERT that the report encoder starts from; empty for
      random weights.
  """

  objective: Objective
  optimizer: optax.GradientTransformation
  seed: int
  abstract: train_step.TrainState
  step: step_program.StepProgram
  report_checkpoint: str

  @property
  def model(self) -> cgdmer.CGDMER:
    """The model that is trained."""
    return self.objective.forward.model

  @property
  def mesh(self) -> jax.sharding.Mesh:
    """The mesh of the devices."""
    return self.objective.forward.mesh

  def fresh_state(self) -> train_step.TrainState:
    """The state before the first step."""
    state = train_step.create_state(
      self.model, self.optimizer, self.mesh, self.seed
    )
    if not self.report_checkpoint:
      return state
    return report_checkpoint.import_weights(
      state, self.report_checkpoint, self.model.config.report
    )


def assemble(
  config: ConfigDict,
  vocabulary: Vocabulary,
  devices: Sequence[jax.Device] | None = None,
) -> Training:
  """Makes the training of a configuration that `checks.check` has passed.

  Logs how many parameters train, and how they are cut over devices.

  Args:
    config: the whole configuration.
    vocabulary: ids of the report tokenizer.
    devices: None: all that there are. Others may be only described: a step can
      be compiled for them.

  Raises:
    UserError: the mesh does not fit the devices, the batch or the model.
  """
  mesh = sharding.make_mesh(config.mesh, devices)
  train = config.train
  sharding.check_batch(train.batch_size, train.microbatches, mesh)
  objective = make_objective(config, vocabulary, mesh)
  model = objective.forward.model
  optimizer = optim.make_optimizer(
    config.optim, config.report, config.model.report.depth, train.steps
  )
  abstract = train_step.abstract_state(model, optimizer, mesh)
  step = step_program.StepProgram(
    train_step.make_train_step(objective, optimizer, config.seed), abstract
  )
  _log_parameters(abstract.params, model.num_frozen, mesh)
  name = config.report.checkpoint if model.use_report else ""
  return Training(objective, optimizer, config.seed, abstract, step, name)


def make_objective(
  config: ConfigDict,
  vocabulary: Vocabulary,
  mesh: jax.sharding.Mesh | None = None,
) -> Objective:
  """Makes the objective of a configuration; for the arguments see `assemble`.

  Without a mesh the compiler places the arrays.
  """
  return Objective(
    Forward(build_model(config, vocabulary), config.preprocess, mesh),
    config.loss,
    config.mask,
    config.augment,
    config.align_view,
    tuple(config.data.statements),
    config.report.max_length,
    config.train.microbatches,
  )


def build_model(config: ConfigDict, vocabulary: Vocabulary) -> cgdmer.CGDMER:
  """Makes the model of a recipe, with the encoders and decoders that it needs.

  Args:
    config: the whole configuration.
    vocabulary: ids of the report tokenizer.
  """
  loss = config.loss
  return cgdmer.CGDMER(
    config=config.model,
    vocabulary=vocabulary,
    use_report=checks.reads_reports(loss),
    use_specific=config.model.specific,
    reconstruct=bool(loss.ecg),
    use_mlm=bool(loss.mlm),
    use_critics=bool(loss.disentangle) and loss.disentangle_form == "club",
    num_frozen=num_frozen(config.report.train, config.model.report.depth),
    compute=layers.Compute(**config.compute),
  )


def num_frozen(train: str, depth: int) -> int | None:
  """Number of blocks of the report encoder that do not train.

  Args:
    train: `config.report.train`.
    depth: blocks of the report encoder.

  Returns:
    Number of frozen blocks, from below; None: all of the encoder trains.
  """
  if train == "full":
    return None
  trained = train.removeprefix("last_")
  return depth - (0 if trained == "frozen" else int(trained))


def _log_parameters(
  params: dict, num_frozen: int | None, mesh: jax.sharding.Mesh
) -> None:
  """Logs how many parameters train and where they are; shapes are enough."""
  logging.info("devices: %s", dict(mesh.shape))
  trained, frozen = (
    sum(x.size for x in jax.tree.leaves(part))
    for part in optim.split(params, num_frozen)
  )
  logging.info("%d parameters train, %d are frozen", trained, frozen)
  if mesh.size > 1 and jax.process_index() == 0:
    lines = sharding.describe(params, mesh)
    logging.info("parameters on the devices:\n%s", "\n".join(lines))
