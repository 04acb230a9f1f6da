"""Reconstruction of hidden leads and hidden times.

    python -m cgdmer_jax.main --config=configs/reconstruction.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

The variance that stays unexplained, by lead and by region of the heart beat;
for recipes with a decoder.

The part behind the colon names the data set (`synthetic_ecg`, `ptb_xl`,
`ptb_xl_merl_compat`, `cpsc2018`, `csn`, `mimic_iv_ecg`, or `built` for all that
are built), at 100 Hz; for others set `--config.evaluation.datasets`. With
`labels=NAME` one label set. Which encoders can be compared stands in
`cgdmer_jax/evaluators/encoders.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return common.evaluate(("reconstruction",), arg)
