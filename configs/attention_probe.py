"""Attention probe of frozen tokens; minutes on a CPU.

    python -m cgdmer_jax.main --config=configs/attention_probe.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

A learned query looks at the tokens of the frozen encoder, with 1, 10 and 100 %
of the labels; the epoch is chosen on validation.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("attention_probe",), arg)
