"""Trained models by name: shipped, of the hub, exported, or a run."""

from __future__ import annotations

import jax

from cgdmer_jax import paths, trained_model
from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import bundle, hub
from cgdmer_jax.inference.readout import Readout
from cgdmer_jax.trained_model import TrainedModel


def load(
  name: str, mesh: jax.sharding.Mesh, argument: str = "load"
) -> tuple[TrainedModel, Readout | None]:
  """Loads a model.

  Args:
    name: one that comes with the package (`./NAME` for a folder of that name),
      `hf://...`, an export, a run, or a checkpoint of a run.
    mesh: devices for the parameters.
    argument: what `name` was given as, for messages.

  Raises:
    UserError: there is none, or its files are damaged.
  """
  shipped = bundle.shipped()
  if name.startswith(hub.PREFIX):
    return bundle.load(hub.fetch(name), mesh)
  directory = paths.anywhere(name, argument)
  if name in shipped:
    directory = bundle.SHIPPED / name
  if bundle.is_bundle(directory):
    return bundle.load(directory, mesh)
  try:
    return trained_model.load(directory, mesh), None
  except UserError as e:
    if directory.exists() or paths.address(directory):
      raise
    raise UserError(
      f"{argument}: no model {name!r}, neither a directory nor one of "
      f"{', '.join(shipped)}"
    ) from e
