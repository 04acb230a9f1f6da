"""What every configuration shares."""

from __future__ import annotations

from ml_collections import ConfigDict

RECIPES = ("random", "mae", "clip", "masked_clip", "cg_dmer")


def parse_arg(arg: str | None, **defaults):
  """Reads the part behind the colon of `--config=file.py:arg`.

  Args:
    arg: comma-separated; `name` selects the preset of that name, `key=value`
      sets an option.
    **defaults: the options and their default values; `preset` among them.

  Returns:
    ConfigDict of the options.

  Raises:
    ValueError: an option that does not exist.
  """
  options = ConfigDict(defaults)
  for item in filter(None, (arg or "").split(",")):
    key, _, value = item.partition("=")
    if not value:
      key, value = "preset", item
    if key not in options:
      raise ValueError(
        f"unknown option {key!r} in --config=...:{arg}; known: "
        + ", ".join(sorted(options))
      )
    options[key] = value
  return options


def choose(name: str, value: str, choices) -> str:
  """`value`, if it is one of `choices`.

  Raises:
    ValueError: it is not; the message lists them.
  """
  if value not in choices:
    raise ValueError(f"{name}={value!r}; expected one of {', '.join(choices)}")
  return value


def transformer(width: int, depth: int, num_heads: int, mlp_dim: int):
  """Shape of a stack of transformer blocks."""
  return ConfigDict(
    dict(width=width, depth=depth, num_heads=num_heads, mlp_dim=mlp_dim)
  )


_SCP_LABEL_SETS = ("superclass", "subclass", "form", "rhythm", "all")


def evaluation(
  dataset: str, label_sets: tuple[str, ...] = _SCP_LABEL_SETS
) -> ConfigDict:
  """How encoders are evaluated; see `cgdmer_jax/evaluate.py`.

  Fields: `dataset` and its splits `train` (the labels of the probe),
  `validation` (its regularisation) and `test`; `label_sets` by name;
  `representation` of the probe: shared, specific or both; `batch_size` of
  feature extraction; `fractions` of the training labels and `seeds` subsets of
  each below 1; labels with fewer than `min_positives` test positives are
  reported as skipped; `num_bootstrap` resamples of patients, and as many swaps
  of the permutation test; `prompts`, a JSON file, empty for ours.
  """
  return ConfigDict(
    dict(
      dataset=dataset,
      train="train",
      validation="validation",
      test="test",
      label_sets=label_sets,
      representation="both",
      batch_size=64,
      fractions=(0.01, 0.1, 1.0),
      seeds=5,
      min_positives=10,
      num_bootstrap=1000,
      prompts="",
    )
  )


# Preset -> data set and the label sets that it has.
_EVALUATION_DATA = {
  "synthetic_ecg": ("synthetic_ecg/demo", _SCP_LABEL_SETS),
  "ptb_xl": ("ptb_xl/100hz", _SCP_LABEL_SETS),
  # Nobody has published tables of "all".
  "ptb_xl_merl_compat": ("ptb_xl/100hz_merl_compat", _SCP_LABEL_SETS[:-1]),
  "cpsc2018": ("cpsc2018/100hz", ("cpsc2018",)),
  "csn": ("csn/100hz", ("csn",)),
  "mimic_iv_ecg": ("mimic_iv_ecg/100hz", ("report_labels",)),
}


def evaluate_checkpoint(task: str, arg: str | None) -> ConfigDict:
  """Configuration of an evaluation task on a checkpoint."""
  options = parse_arg(arg, preset="synthetic_ecg")
  choose("data set", options.preset, _EVALUATION_DATA)
  c = ConfigDict()
  c.task = task
  c.checkpoint = "runs/pretrain"  # a workdir, or <workdir>/checkpoints/<step>
  c.mesh = (-1, 1, 1)
  c.evaluation = evaluation(*_EVALUATION_DATA[options.preset])
  if options.preset == "synthetic_ecg":
    c.evaluation.train = "train[:4000]"
  return c.lock()
