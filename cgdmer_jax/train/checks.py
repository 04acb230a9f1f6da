"""Checks that a configuration fits together, before anything is made."""

from __future__ import annotations

import re

import jax
from ml_collections import ConfigDict

from cgdmer_jax.config import ranges
from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import layers, masking
from cgdmer_jax.train import dependence, positives


def check(config: ConfigDict, num_samples: int) -> None:
  """Checks a pretraining configuration.

  Args:
    config: the whole configuration.
    num_samples: T, samples a lead.

  Raises:
    UserError: a value is not allowed, or values do not fit together.
  """
  check_values(config)
  _check_warm_up(config.train.steps, config.optim.warmup_ratio)
  patch_length = config.model.patch_length
  if patch_length < 1 or num_samples % patch_length:
    raise UserError(
      f"model.patch_length={patch_length} does not divide the {num_samples} "
      "samples of a record; choose a divisor"
    )
  if not config.data.statements:
    raise UserError(
      "data.statements=(); expected numbers of statements to draw, 0 for the"
      " whole report"
    )
  _check_augment(config.augment)
  _check_whole(config.mask.whole_ratio, config.train)
  _check_loss(config.loss, config.mask, config.model.specific)
  _check_compute(config.compute)
  if reads_reports(config.loss):
    _check_report_tower(config.report, config.model.report, config.loss.mlm)


def check_values(config: ConfigDict) -> None:
  """Checks each value by itself, which needs no data.

  Raises:
    UserError: a value is not allowed.
  """
  _check_choices(config)
  ranges.check(config)


def reads_reports(loss: ConfigDict) -> bool:
  """Whether the recipe has a report tower; `loss` is `config.loss`."""
  return bool(loss.align or loss.mlm)


def _check_choices(config: ConfigDict) -> None:
  """Raises UserError for a value that is not one of its choices."""
  for name, choices in {
    "loss.alignment": ("sigmoid", "infonce"),
    "loss.disentangle_form": dependence.FORMS,
    "loss.positives": positives.KINDS,
    "align_view": ("masked", "full"),
    "mask.kind": masking.KINDS,
    "model.ecg_target": preprocessing.TARGETS,
    "compute.dtype": ("float32", "bfloat16"),
    "compute.attention": layers.ATTENTION,
    "compute.remat": layers.REMAT,
    "preprocess.normalise": preprocessing.NORMALISATIONS,
  }.items():
    value = config
    for key in name.split("."):
      value = value[key]
    if value not in choices:
      raise UserError(f"{name}={value!r}; expected one of {', '.join(choices)}")


def _check_warm_up(steps: int, ratio: float) -> None:
  """Raises UserError if no step is left after the warm-up."""
  if steps and round(ratio * steps) >= steps:
    raise UserError(
      f"optim.warmup_ratio={ratio} of train.steps={steps} are all steps; lower"
      " it, so that the learning rate can fall again"
    )


def _check_whole(ratio: float, train: ConfigDict) -> None:
  """Raises UserError if a batch cannot be cut into whole and masked records."""
  if 4 * ratio % 1:
    raise UserError(
      f"mask.whole_ratio={ratio}; expected quarters: 0, 0.25, 0.5 or 0.75"
    )
  parts = 4 * train.microbatches
  if ratio and train.batch_size % parts:
    raise UserError(
      f"mask.whole_ratio={ratio} needs train.batch_size={train.batch_size} to"
      f" be a multiple of {parts}, four times the microbatches"
    )


def _check_augment(augment: ConfigDict) -> None:
  """Raises UserError for corners that nothing can be drawn from."""
  low, high = augment.lowpass
  if (low, high) != (0, 0) and not 0 < low <= high:
    raise UserError(
      f"augment.lowpass={(low, high)}; expected two corners in Hz, the lower "
      "one first and above 0, or (0.0, 0.0) for no filter"
    )


def _check_loss(loss: ConfigDict, mask: ConfigDict, specific: bool) -> None:
  """Raises UserError if a term of the loss lacks what it needs."""
  if loss.disentangle and not specific:
    raise UserError(
      f"loss.disentangle={loss.disentangle} needs model.specific=True"
    )
  if loss.ecg and mask.kind == "none":
    raise UserError(
      f"loss.ecg={loss.ecg} has nothing to restore with mask.kind='none'; "
      "choose a mask kind or set loss.ecg=0"
    )


def _check_compute(compute: ConfigDict) -> None:
  """Raises UserError for settings that these devices do not support."""
  if compute.attention == "cudnn" and (
    jax.default_backend() != "gpu" or compute.dtype == "float32"
  ):
    raise UserError(
      "compute.attention='cudnn' needs an NVIDIA GPU and compute.dtype="
      "'bfloat16'; set it to 'xla'"
    )


def _check_report_tower(
  report: ConfigDict, model: ConfigDict, mlm: float
) -> None:
  """Raises UserError if `config.report` does not fit the rest.

  Args:
    report: `config.report`.
    model: `config.model.report`.
    mlm: weight of the prediction of masked words.
  """
  if not 3 <= report.max_length <= model.num_positions:
    raise UserError(
      f"report.max_length={report.max_length}; expected 3 to "
      f"{model.num_positions}, the positions of the report encoder "
      "(model.report.num_positions)"
    )
  num_trained = 0  # blocks
  if match := re.fullmatch(r"last_(\d+)", report.train):
    num_trained = int(match[1])
  is_partial = report.train not in ("frozen", "full")
  if is_partial and not 0 < num_trained <= model.depth:
    raise UserError(
      f"report.train={report.train!r}; expected frozen, full, or last_1 to "
      f"last_{model.depth}, the number of blocks to train"
    )
  if report.train != "full" and mlm:
    raise UserError(
      f"loss.mlm={mlm} masks words, which the frozen layers of report.train="
      f"{report.train!r} cannot learn to read; set loss.mlm=0, or "
      "report.train='full'"
    )
  if report.layer_decay < 1 and not report.lr:
    raise UserError(
      f"report.layer_decay={report.layer_decay} applies to report.lr, which is "
      "0; set it above 0"
    )
