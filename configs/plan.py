"""Plan of a pretraining on devices that are not there, by their own compiler.

    python -m cgdmer_jax.main --config=configs/plan.py:base,topology=v5e-16

Compiles the training step of `configs/pretrain.py` for a slice of TPUs on any
machine with the extra `plan`; nothing runs. Tells whether it fits into memory,
and what to change if not; what devices send each other; how long a step takes
at least, by estimate; and the command that starts it. Options after the colon:

    tiny, small, base, large, demo
                   a preset of `configs/pretrain.py`; base is the default
    recipe=NAME    as there
    topology=NAME  v5e-16, v6e-8, v5p-64, v4-32 (the last two count cores, two a
                   chip), up to 256 chips; or h100-8, a100-8, with the extra
                   `gpu`
    slices=N       several of these slices

Everything else is set as in the training:

    --config.mesh='(-1,8,1)' --config.train.batch_size=2048
    --config.train.microbatches=2 --config.compute.remat=dots

Prints a table and writes `plan-<preset>-<topology>.json` in the workdir.
"""

from __future__ import annotations

import pathlib

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """Makes the configuration; for `arg` see the module docstring."""
  options = presets.parse_arg(
    arg, preset="base", recipe="cg_dmer", topology="v5e-8", slices="1"
  )
  pretrain = presets.load(pathlib.Path(__file__).with_name("pretrain.py"))
  fills = options.preset != "demo"
  chip = f",chip={options.topology}" if fills else ""
  c = pretrain.get_config(
    f"{options.preset},recipe={options.recipe}{chip}"
  ).unlock()
  c.task = "plan"
  c.plan = dict(
    preset=options.preset,
    topology=options.topology,
    num_slices=_number(options.slices),
    num_samples=1000,  # of a lead
    tokens=c.report.max_length,  # of the longest reports
    corpus=800_000,  # records of an epoch; those of MIMIC-IV-ECG
    compile=True,  # False: only what needs no compiler
  )
  presets.forget_checkpoint(c)
  return c.lock()


def _number(text: str) -> int:
  if not text.isdecimal():
    raise ValueError(f"slices={text!r}; expected a number")
  return int(text)
