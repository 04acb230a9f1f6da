"""Transfer: a probe trained on one corpus, scored on another.

    python -m cgdmer_jax.main --config=configs/transfer.py:built \
        --config.encoders=runs/pretrain,random --workdir=runs/built

Give at least two data sets: each is scored with probes trained on each other
one whose label sets have findings in common with its own
(`cgdmer_jax/evaluators/transfer.py` lists them).

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
  return common.evaluate(("transfer",), arg, preset="built")
