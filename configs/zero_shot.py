"""Zero-shot classification: cosine of recordings and class sentences.

    python -m cgdmer_jax.main --config=configs/zero_shot.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

The score of a label is the cosine between a recording's shared embedding and
the mean of its prompts. `--config.evaluation.prompts=FILE` takes other prompts
than ours; how much the choice of sentences matters is printed below the table.

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
  return common.evaluate(("zero_shot",), arg)
