"""Fine-tuning of the whole ECG encoder on labels.

    python -m cgdmer_jax.main --config=configs/finetune.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

Binary cross-entropy, the epoch chosen by the loss on validation. The random
encoder is training from scratch. Epochs, rate and so on: `evaluation.finetune`.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("finetune",), arg)
