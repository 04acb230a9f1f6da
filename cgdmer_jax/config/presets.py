"""What the configurations in `configs/` share: options, sizes, recipes."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import types
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from cgdmer_jax.config import fields, slices

# What is on in each recipe; every other term of the loss is off.
RECIPES: dict[str, dict[str, float]] = {
  "cg_dmer": dict(ecg=0.5, mlm=0.3, align=1.0, disentangle=0.01),
  "masked_clip": dict(ecg=0.5, mlm=0.3, align=1.0),
  "clip": dict(align=1.0),
  "mae": dict(ecg=0.5),
  # Not trained; it has all parts.
  "random": dict(ecg=0.5, mlm=0.3, align=1.0, disentangle=0.01),
}

# ECG backbone, disentangling encoders, ECG decoder: width, depth, heads, width
# of the MLPs. The backbones are those of the ViTs of the same names.
SIZES = {
  "tiny": ((192, 12, 3, 768), (192, 1, 3, 768), (128, 2, 4, 512)),
  "small": ((384, 12, 6, 1536), (384, 1, 6, 1536), (192, 2, 6, 768)),
  "base": ((768, 12, 12, 3072), (512, 2, 8, 2048), (256, 4, 8, 1024)),
  "large": ((1024, 24, 16, 4096), (768, 2, 12, 3072), (384, 4, 6, 1536)),
}

# Preset of an evaluation -> data set; empty: all that are built.
DATASETS = {
  "synthetic_ecg": "synthetic_ecg/demo",
  "ptb_xl": "ptb_xl/100hz",
  "ptb_xl_merl_compat": "ptb_xl/100hz_merl_compat",
  "cpsc2018": "cpsc2018/100hz",
  "csn": "csn/100hz",
  "mimic_iv_ecg": "mimic_iv_ecg/100hz",
  "built": "",
}


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
  """Reads what follows the colon of `--config=file.py:arg`.

  Args:
    arg: comma-separated; `name` selects the preset of that name, `key=value`
      sets an option.
    **defaults: the options and their default values; `preset` among them.

  Returns:
    The options.

  Raises:
    ValueError: there is no such option.
  """
  options = ConfigDict(defaults)
  for item in filter(None, (arg or "").split(",")):
    key, _, value = item.partition("=")
    if not value:
      key, value = "preset", item
    if key not in options:
      raise ValueError(
        f"unknown option {key!r} in --config=...:{arg}; known: "
        + ", ".join(sorted(options))
      )
    options[key] = value
  return options


def choose(name: str, value: str, choices: Iterable[str]) -> str:
  """`value`, if it is one of `choices`.

  Raises:
    ValueError: it is not; the message lists them.
  """
  if value not in choices:
    raise ValueError(f"{name}={value!r}; expected one of {', '.join(choices)}")
  return value


def set_size(model: ConfigDict, size: str) -> None:
  """Sets the sizes of `config.model`; the report encoder keeps its own.

  Raises:
    ValueError: there is no such size.
  """
  shapes = SIZES[choose("size", size, SIZES)]
  for part, shape in zip(
    ("ecg", "disentangle", "ecg_decoder"), shapes, strict=True
  ):
    model[part].update(fields.transformer(*shape))


# Records of each chip that fill it with a preset of `configs/pretrain.py`, by
# the memory that `configs/plan.py` expects: powers of two, with 15 % of it
# to spare.
_CHIPS = ("v4", "v5e", "v5p", "v6e", "a100", "h100")
FILL: dict[str, dict[str, int]] = {
  size: dict(zip(_CHIPS, counts, strict=True))
  for size, counts in {
    "tiny": (256, 128, 512, 256, 512, 512),
    "small": (256, 64, 512, 256, 512, 512),
    "base": (128, 64, 512, 128, 256, 256),
    "large": (64, 32, 256, 64, 256, 256),
  }.items()
}


def fill(c: ConfigDict, size: str, name: str) -> None:
  """Sets the batch that fills a slice; parameters are copied to all chips.

  The number of records that are seen stays as it is.

  Args:
    c: the whole configuration of a preset of `SIZES`.
    size: the preset.
    name: slice, see `slices.parse`.

  Raises:
    ValueError: there is no such slice, or no row for this preset.
  """
  choose("chip= is for some presets; preset", size, FILL)
  found = slices.parse(name)
  records = FILL[size][found.chip.name]
  seen = c.train.steps * c.train.batch_size
  c.train.batch_size = records * found.count
  c.train.steps = round(seen / c.train.batch_size)
  c.loss.ring = c.train.batch_size > 4096


def forget_checkpoint(c: ConfigDict) -> None:
  """Sets the sizes of a report encoder whose weights are not needed.

  They are those of BERT-base, which MedCPT has too.
  """
  if c.report.checkpoint:
    c.report.checkpoint = ""
    c.model.report.update(
      fields.transformer(768, 12, 12, 3072), vocab_size=30522, num_positions=512
    )


def evaluate(
  tasks: tuple[str, ...],
  arg: str | None,
  preset: str = "synthetic_ecg",
  encoders: str = "runs/pretrain,random",
) -> ConfigDict:
  """Makes the configuration of an evaluation.

  Args:
    tasks: names; ("all",): every task.
    arg: what follows the colon of `--config`: a preset of `DATASETS`,
      `labels=NAME` for one label set, and `folds=all` to score the records of
      all splits, for tasks that learn from none.
    preset: preset if `arg` names none.
    encoders: see `cgdmer_jax/evaluators/encoders/parse.py`.

  Returns:
    `encoders` to compare, `mesh`, and `evaluation` (`fields.evaluation`).
  """
  options = parse_arg(arg, preset=preset, labels="", folds="test")
  choose("data set", options.preset, DATASETS)
  choose("folds", options.folds, ("test", "all"))
  c = ConfigDict()
  c.task = "evaluate"
  c.encoders = encoders
  c.mesh = (-1, 1, 1)
  c.evaluation = fields.evaluation(DATASETS[options.preset], tasks)
  if options.labels:
    c.evaluation.label_sets = (options.labels,)
  if options.folds == "all":
    c.evaluation.test = "train+validation+test"
  return c.lock()


def load(path: str | os.PathLike[str]) -> types.ModuleType:
  """Loads a configuration file as a module.

  Configurations are files, not a package: they are found by their path.

  Raises:
    OSError: there is no such file.
  """
  path = pathlib.Path(path)
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module
