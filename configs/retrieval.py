"""Retrieval of reports by recordings, and of recordings by reports.

    python -m cgdmer_jax.main --config=configs/retrieval.py:ptb_xl \
        --config.encoders=runs/pretrain,random --workdir=runs/ptb_xl

Recall@1, @5, @10 and median rank among all reports or recordings of the test
records; records with the same report are hits for each other.

Behind the colon: the data set, see `configs/linear_probe.py`. Which encoders
can be compared stands in `cgdmer_jax/evaluators/encoders/parse.py`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from cgdmer_jax.config import presets


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return presets.evaluate(("retrieval",), arg)
