"""A training that starts from the parameters of a model: `init_from`.

The model is a run, an export, or one that comes with the package.

Parameters only: the optimizer, the steps and the schedule are new. Modules that
both models have are taken over; those that only the new one has start from
random weights. The tokenizer comes along with the report encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from absl import logging
from flax import traverse_util
from ml_collections import ConfigDict

from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import loading
from cgdmer_jax.train.train_step import TrainState
from cgdmer_jax.trained_model import TrainedModel


def load(
  init_from: str,
  init_parts: Sequence[str],
  preprocess: ConfigDict,
  mesh: jax.sharding.Mesh,
) -> TrainedModel | None:
  """Loads the model that a training starts from.

  Args:
    init_from: `config.init_from`; empty: none.
    init_parts: `config.init_parts`.
    preprocess: `config.preprocess` of the training; differences are logged.
    mesh: devices for the parameters.

  Raises:
    UserError: there is none, or `init_parts` is not made of its modules.
  """
  if not init_from:
    return None
  start, _ = loading.load(init_from, mesh, "--config.init_from")
  unknown = sorted(set(init_parts) - set(start.params))
  if unknown:
    raise UserError(
      f"init_parts: {init_from} has no module {', '.join(unknown)}; it"
      f" has {', '.join(sorted(start.params))}"
    )
  for name, value in preprocess.items():
    before = start.config.preprocess.get(name)
    if isinstance(before, list):  # of an export
      before = tuple(before)
    if before != value:
      logging.warning(
        "%s was trained with preprocess.%s=%s, not %s",
        init_from,
        name,
        before,
        value,
      )
  return start


def tokenizer(
  init_from: str,
  init_parts: Sequence[str],
  preprocess: ConfigDict,
  mesh: jax.sharding.Mesh,
) -> Any:
  """The tokenizer that comes with the report encoder; None if that is new.

  For arguments and errors see `load`.
  """
  start = load(init_from, init_parts, preprocess, mesh)
  if start is None or "report_encoder" not in (init_parts or start.params):
    return None
  return start.tokenizer


def adopt(
  state: TrainState, start: TrainedModel, parts: Sequence[str]
) -> TrainState:
  """Replaces parameters of a fresh state by those of a trained model.

  Args:
    state: a fresh state.
    start: the trained model.
    parts: names of modules to take; none: all that both models have.

  Raises:
    UserError: a module has other arrays in the new model.
  """
  common = [n for n in state.params if n in (parts or start.params)]
  new = {name: start.params[name] for name in common}
  old = {name: state.params[name] for name in common}
  _check_shapes(old, new)
  # Copies: the step gives its buffers away.
  params = jax.tree.map(
    lambda x, y: jax.device_put(x, y.sharding, may_alias=False), new, old
  )
  logging.info(
    "starting from %s: %s; random: %s",
    start.checkpoint or start.name,
    ", ".join(common) or "nothing",
    ", ".join(n for n in state.params if n not in common) or "nothing",
  )
  return state.replace(params={**state.params, **params})


def _check_shapes(old: dict, new: dict) -> None:
  """Raises UserError unless both trees have the same arrays."""
  wanted, given = (
    {
      k: tuple(x.shape)
      for k, x in traverse_util.flatten_dict(t, sep="/").items()
    }
    for t in (old, new)
  )
  names = wanted.keys() | given.keys()
  different = sorted(n for n in names if wanted.get(n) != given.get(n))
  if not different:
    return
  name = different[0]
  modules = {n.partition("/")[0] for n in different}
  rest = tuple(n for n in old if n not in modules)
  raise UserError(
    f"init_from: {name} is {given.get(name, 'missing')} there and"
    f" {wanted.get(name, 'missing')} in this configuration; give the same"
    f" sizes, or take what fits: --config.init_parts={rest!r}"
  )
