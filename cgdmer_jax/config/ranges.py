"""What numbers of a configuration may be.

Intervals as in mathematics: a square bracket includes the end, a round one does
not. Every number that `fields.py` declares stands here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from cgdmer_jax.errors import UserError

_SHARE, _COUNT, _AT_LEAST_0, _ABOVE_0 = (
  "[0, 1]",
  "[1, inf)",
  "[0, inf)",
  "(0, inf)",
)
_TRANSFORMER = {
  f"model.{part}.{size}": _AT_LEAST_0
  for part in ("ecg", "report", "disentangle", "ecg_decoder")
  for size in ("width", "depth", "num_heads", "mlp_dim")
}

# Field -> interval; of a tuple, of each number in it.
RANGES: dict[str, str] = _TRANSFORMER | {
  "seed": "[0, 4294967295]",
  "mesh": "[-1, inf)",
  "data.vocab_size": _AT_LEAST_0,
  "data.statements": _AT_LEAST_0,
  "data.num_workers": _AT_LEAST_0,
  "preprocess.sampling_rate": _COUNT,
  "preprocess.bandpass": _AT_LEAST_0,
  "preprocess.scale": _ABOVE_0,
  "preprocess.clip": _ABOVE_0,
  "model.patch_length": _AT_LEAST_0,
  "model.ecg.stem": _COUNT,
  "model.report.num_positions": _AT_LEAST_0,
  "model.report.vocab_size": _AT_LEAST_0,
  "model.report.type_vocab_size": _COUNT,
  "model.report.epsilon": "(0, 1)",
  "report.max_length": _AT_LEAST_0,
  "report.lr": _AT_LEAST_0,
  "report.layer_decay": "(0, 1]",
  "report.device_cache_mib": _AT_LEAST_0,
  "mask.lead_ratio": _SHARE,
  "mask.time_ratio": _SHARE,
  "mask.token_ratio": _SHARE,
  "mask.whole_ratio": "[0, 1)",
  "augment.gain": _AT_LEAST_0,
  "augment.lead_gain": _AT_LEAST_0,
  "augment.rotation": _AT_LEAST_0,
  "augment.noise": _AT_LEAST_0,
  "augment.lowpass": _AT_LEAST_0,
  "loss.ecg": _AT_LEAST_0,
  "loss.mlm": _AT_LEAST_0,
  "loss.align": _AT_LEAST_0,
  "loss.disentangle": _AT_LEAST_0,
  "optim.lr": _AT_LEAST_0,
  "optim.muon_lr": _AT_LEAST_0,
  "optim.b1": "[0, 1)",
  "optim.b2": "[0, 1)",
  "optim.weight_decay": _AT_LEAST_0,
  "optim.clip_norm": _ABOVE_0,
  "optim.warmup_ratio": "[0, 1)",
  "optim.final_ratio": _SHARE,
  "train.batch_size": _COUNT,
  "train.microbatches": _COUNT,
  "train.steps": _AT_LEAST_0,
  "train.log_every": _COUNT,
  "train.validate_every": _COUNT,
  "train.checkpoint_every": _COUNT,
  "train.keep_checkpoints": _COUNT,
  "evaluation.max_train": _AT_LEAST_0,
  "evaluation.batch_size": _COUNT,
  "evaluation.fractions": "(0, 1]",
  "evaluation.seeds": _COUNT,
  "evaluation.min_positives": _AT_LEAST_0,
  "evaluation.num_bootstrap": _COUNT,
  "evaluation.finetune.fractions": "(0, 1]",
  "evaluation.finetune.epochs": _COUNT,
  "evaluation.finetune.patience": _AT_LEAST_0,
  "evaluation.finetune.batch_size": _COUNT,
  "evaluation.finetune.lr": _ABOVE_0,
  "evaluation.finetune.weight_decay": _AT_LEAST_0,
}


def check(config: ConfigDict) -> None:
  """Checks all numbers of a configuration, also if it has a few sections only.

  Raises:
    UserError: a number is out of its range, or is not a number.
  """
  for name, interval in RANGES.items():
    value: Any = config
    for key in name.split("."):
      value = value.get(key)
      if value is None:
        break
    for number in _numbers(value):
      if not _contains(interval, number):
        shown = tuple(value) if isinstance(value, tuple | list) else value
        raise UserError(f"{name}={shown}; expected {_words(interval)}")


def _numbers(value: Any) -> Iterator[float]:
  """The numbers in a value, in whatever tuples."""
  if isinstance(value, tuple | list):
    for part in value:
      yield from _numbers(part)
  elif isinstance(value, int | float) and not isinstance(value, bool):
    yield value


def _contains(interval: str, number: float) -> bool:
  low, high = map(float, interval[1:-1].split(","))
  above = number > low if interval[0] == "(" else number >= low
  below = number < high if interval[-1] == ")" else number <= high
  return above and below


def _words(interval: str) -> str:
  """`[0, 1)` as "at least 0 and below 1"."""
  low, high = interval[1:-1].split(", ")
  words = f"{'above' if interval[0] == '(' else 'at least'} {low}"
  if high != "inf":
    words += f" and {'below' if interval[-1] == ')' else 'at most'} {high}"
  return words
