"""Zero-shot classification: cosine of recordings and class sentences.

    python -m cgdmer_jax.main --config=configs/zero_shot.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

The score of a label is the cosine between a recording's shared embedding and
the mean of its prompts. `--config.evaluation.prompts=FILE` takes other prompts
than ours; how much the choice of sentences matters is printed below the table.

Nothing is learnt: with `folds=all` behind the colon (`:ptb_xl,folds=all`) the
records of all splits are scored. An encoder that was pretrained on some of them
is refused.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("zero_shot",), arg)
