"""Linear probe of a pretrained checkpoint; minutes on a CPU.

    python -m cgdmer_jax.main --config=configs/linear_probe.py:ptb_xl \
        --config.checkpoint=runs/pretrain --workdir=runs/ptb_xl

The part behind the colon names the data set: `synthetic_ecg` (default),
`ptb_xl`, `ptb_xl_merl_compat`, `cpsc2018`, `csn` or `mimic_iv_ecg` (labels from
its reports), at 100 Hz; for others set `--config.evaluation.dataset`. Logistic
regression on frozen features with 1, 10 and 100 % of the labels; ends with one
table per label set, the random encoder beside the checkpoint, and result files
in `<workdir>/results`.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
  """See the module docstring."""
  return common.evaluate_checkpoint("linear_probe", arg)
