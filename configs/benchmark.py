"""The benchmark: every task on every built data set, for a list of encoders.

    python -m cgdmer_jax.main --config=configs/benchmark.py \
        --config.encoders='runs/recipes/*,random_convolutions,ridge' \
        --workdir=runs/benchmark

Encoders are runs, features of others (`features.npz`), and baselines without
training; see `cgdmer_jax/evaluators/encoders/parse.py`. Runs that differ in
their seed alone are one row. What is done is not done again: the same command
goes on after a crash, and adds what is new.

Leaves below the workdir: `results/tables.md` and `tables.tex`, every number in
`results/comparison.csv` and `comparison.json`, `figures/`, a result file for
each encoder, task, data set and label set, and the features.

Behind the colon: a data set (see `configs/linear_probe.py`; default: all that
are built), and `labels=NAME`. Tasks: `--config.evaluation.tasks`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("all",), arg, preset="built")
