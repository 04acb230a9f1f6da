"""What shared and specific embeddings know.

    python -m cgdmer_jax.main --config=configs/disentanglement.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

Linear probes guess the finding and the modality from each part, CKA says how
much the parts resemble each other.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("disentanglement",), arg)
