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


# ECG backbone, disentangling encoders, ECG decoder. The backbones are those of
# the ViTs of the same names.
SIZES = {
  "tiny": ((192, 12, 3, 768), (192, 1, 3, 768), (128, 2, 4, 512)),
  "small": ((384, 12, 6, 1536), (384, 1, 6, 1536), (192, 2, 6, 768)),
  "base": ((768, 12, 12, 3072), (512, 2, 8, 2048), (256, 4, 8, 1024)),
  "large": ((1024, 24, 16, 4096), (768, 2, 12, 3072), (384, 4, 6, 1536)),
}


def set_size(model: ConfigDict, size: str) -> None:
  """Gives `config.model` a size of `SIZES`; the report encoder keeps its own.

  Raises:
    ValueError: no such size.
  """
  shapes = SIZES[choose("size", size, SIZES)]
  for part, shape in zip(
    ("ecg", "disentangle", "ecg_decoder"), shapes, strict=True
  ):
    model[part].update(transformer(*shape))


TASKS = (
  *("zero_shot", "linear_probe", "finetune", "transfer", "retrieval"),
  *("reconstruction", "disentanglement", "missing_leads"),
)


def evaluation(datasets: str, tasks: tuple[str, ...]) -> ConfigDict:
  """How encoders are evaluated; see `cgdmer_jax/evaluate.py`.

  Fields: `datasets`, separated by commas, none for all that are built; their
  splits `train` (the labels of probes; the first `max_train` records unless it
  is 0, for data in random order), `validation` (regularisation, early
  stopping) and `test`; `tasks`; `label_sets` by name, none for what each task
  is made for: every one of a data set, or the first; `representation` of
  probes: shared, specific or both; `batch_size` of feature extraction;
  `fractions` of the training labels and `seeds` subsets of each below 1; labels
  with fewer than `min_positives` test positives are reported as skipped;
  `num_bootstrap` resamples of patients, and at least as many swaps of the
  permutation test; `prompts`, a JSON file, empty for ours; `finetune`:
  `fractions` of the training labels, the rest as in
  `cgdmer_jax/evaluators/finetune.py`.
  """
  return ConfigDict(
    dict(
      datasets=datasets,
      train="train",
      validation="validation",
      test="test",
      max_train=0,
      tasks=tasks,
      label_sets=(),
      representation="both",
      batch_size=64,
      fractions=(0.01, 0.1, 1.0),
      seeds=5,
      min_positives=10,
      num_bootstrap=1000,
      prompts="",
      finetune=dict(
        fractions=(0.1, 1.0),
        epochs=20,
        patience=3,
        batch_size=64,
        lr=1e-3,
        weight_decay=0.05,
      ),
    )
  )


# Preset -> data sets.
DATASETS = {
  "synthetic_ecg": "synthetic_ecg/demo",
  "ptb_xl": "ptb_xl/100hz",
  "ptb_xl_merl_compat": "ptb_xl/100hz_merl_compat",
  "cpsc2018": "cpsc2018/100hz",
  "csn": "csn/100hz",
  "mimic_iv_ecg": "mimic_iv_ecg/100hz",
  "built": "",
}


def evaluate(
  tasks: tuple[str, ...],
  arg: str | None,
  preset: str = "synthetic_ecg",
  encoders: str = "runs/pretrain,random",
) -> ConfigDict:
  """Configuration of an evaluation.

  Args:
    tasks: some of `TASKS`.
    arg: behind the colon of `--config`: a preset of `DATASETS`, and
      `labels=NAME` for one label set.
    preset: the one without `arg`.
    encoders: see `cgdmer_jax/evaluators/encoders.py`.

  Returns:
    `encoders` to compare, `mesh`, and `evaluation`.
  """
  options = parse_arg(arg, preset=preset, labels="")
  choose("data set", options.preset, DATASETS)
  c = ConfigDict()
  c.task = "evaluate"
  c.encoders = encoders
  c.mesh = (-1, 1, 1)
  c.evaluation = evaluation(DATASETS[options.preset], tasks)
  if options.labels:
    c.evaluation.label_sets = (options.labels,)
  if options.preset == "synthetic_ecg":
    c.evaluation.max_train = 4000
  return c.lock()
