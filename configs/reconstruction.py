"""Reconstruction of hidden times, hidden limb leads and hidden chest leads.

    python -m cgdmer_jax.main --config=configs/reconstruction.py:ptb_xl \
        --config.encoders=runs/pretrain,random,ridge --workdir=runs/ptb_xl

The variance that stays unexplained, by lead and by region of the heart beat;
for recipes with a decoder. `ridge` is what a linear regression restores.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  encoders = "runs/pretrain,random,ridge"
  return presets.evaluate(("reconstruction",), arg, encoders=encoders)
