"""Pretrained report encoders: their architecture, tokenizer and weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_bert
from cgdmer_jax.train import checks
from cgdmer_jax.train.train_step import TrainState


def resolve(config: ConfigDict, saved: ConfigDict | None) -> ConfigDict:
  """Fills in the architecture of `report.checkpoint`.

  A run that is resumed has it in its own `config.json`, and no longer needs the
  checkpoint.

  Args:
    config: the whole configuration.
    saved: configuration of the run that is resumed; None for a new run.

  Returns:
    `config`, or a copy with other sizes in `model.report`.

  Raises:
    UserError: see `hf_bert.resolve` and `hf_bert.load_config`; or random
      weights would be frozen.
  """
  if not checks.reads_reports(config.loss):
    return config
  name, train = config.report.checkpoint, config.report.train
  if not name:
    if train != "full":
      raise UserError(
        f"report.train={train!r} would freeze random weights; give "
        "report.checkpoint, or report.train='full'"
      )
    return config
  if saved is not None and saved.report.checkpoint == name:
    sizes = saved.model.report.to_dict()
  else:
    bert = hf_bert.load_config(
      hf_bert.resolve(name), max_length=config.report.max_length
    )
    sizes = dataclasses.asdict(bert)
  config = config.copy_and_resolve_references()
  with config.unlocked():
    config.model.report.update(sizes)
  return config


def load_tokenizer(name: str, sizes: ConfigDict) -> Any:
  """Loads the tokenizer of a checkpoint.

  Args:
    name: `config.report.checkpoint`.
    sizes: `config.model.report` of the resolved configuration.

  Raises:
    UserError: there is no tokenizer, or it does not belong to the weights.
  """
  tokenizer = reports.load_tokenizer(hf_bert.resolve(name))
  hf_bert.check_tokenizer(tokenizer, hf_bert.BertConfig(**sizes))
  return tokenizer


def import_weights(
  state: TrainState, name: str, sizes: ConfigDict
) -> TrainState:
  """Replaces the report encoder of `state` by that of a checkpoint.

  Args:
    state: a fresh state.
    name: `config.report.checkpoint`.
    sizes: `config.model.report` of the resolved configuration.

  Raises:
    UserError: see `hf_bert.load_params`.
  """
  directory = hf_bert.resolve(name)
  weights = hf_bert.load_params(directory, hf_bert.BertConfig(**sizes))
  old = state.params["report_encoder"]
  new = jax.tree.map(lambda x, y: jax.device_put(x, y.sharding), weights, old)
  logging.info("the report encoder starts from %s", directory)
  return state.replace(params={**state.params, "report_encoder": new})
