"""Linear probe of frozen features; minutes on a CPU.

    python -m cgdmer_jax.main --config=configs/linear_probe.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

Logistic regression on frozen features with 1, 10 and 100 % of the labels,
its regularisation chosen on validation.

The part behind the colon names the data set (`synthetic_ecg`, `ptb_xl`,
`ptb_xl_merl_compat`, `cpsc2018`, `csn`, `mimic_iv_ecg`, or `built` for all that
are built), at 100 Hz; for others set `--config.evaluation.datasets`. With
`labels=NAME` one label set. Which encoders can be compared stands in
`cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("linear_probe",), arg)
