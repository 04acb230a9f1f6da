"""Transfer: a probe trained on one corpus, scored on another.

    python -m cgdmer_jax.main --config=configs/transfer.py:built \
        --config.encoders=runs/pretrain,random --workdir=runs/built

Give at least two data sets: each is scored with probes trained on each other
one whose label sets have findings in common with its own
(`cgdmer_jax/evaluators/tasks/transfer.py` lists them).

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("transfer",), arg, preset="built")
