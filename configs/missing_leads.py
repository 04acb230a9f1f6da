"""What an encoder is worth when only 1, 3 or 6 leads are given.

    python -m cgdmer_jax.main --config=configs/missing_leads.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

The probe of complete training records and zero-shot classification, on test
records of which only some leads are given.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("missing_leads",), arg)
