"""Packs a run into one directory for `cgdmer_jax.load` and `predict`.

    python -m cgdmer_jax.pack --checkpoint=runs/pretrain --output=my_model

Weights are rounded to float16. Probabilities of labels are calibrated on the
validation split of a built data set, by default that of the pretraining. The
weights that come with the package, `cgdmer_jax/weights/simulated`, were written
by this command from the run of `make pretrain`.
"""

from __future__ import annotations

from absl import app, flags, logging

from cgdmer_jax import command, paths
from cgdmer_jax.errors import UserError

_CHECKPOINT = flags.DEFINE_string(
  "checkpoint",
  None,
  "Workdir of a run, or one checkpoint in it: WORKDIR/checkpoints/STEP.",
  required=True,
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "Folder to make; it must not exist.", required=True
)
_DATASET = flags.DEFINE_string(
  "dataset",
  "",
  "Built data set whose validation split calibrates; default: that of the run.",
)
_LABEL_SETS = flags.DEFINE_list(
  "label_sets", [], "Label sets; default: all that are no part of another."
)


def pack(
  checkpoint: str,
  output: str,
  dataset: str = "",
  label_sets: tuple[str, ...] = (),
  data_dir: str | None = None,
) -> None:
  """Writes the run in `checkpoint` to the new folder `output`.

  Args:
    checkpoint: workdir or checkpoint.
    output: folder to make.
    dataset: calibrates; empty: the data set of the pretraining.
    label_sets: which of its label sets; none: see `readout.fit`.
    data_dir: folder of the built data sets.

  Raises:
    UserError: there is no such run or data set, it has no report encoder, or
      `output` exists.
  """
  # Imported here: --help and a wrong flag need not wait for JAX.
  import dataclasses

  import jax
  import numpy as np

  from cgdmer_jax import sharding, trained_model
  from cgdmer_jax.config import fields
  from cgdmer_jax.evaluators import data_set, readout
  from cgdmer_jax.inference import bundle

  source = paths.local(checkpoint, "--checkpoint")
  directory = paths.local(output, "--output")
  if directory.exists():
    raise UserError(f"{directory} exists; choose another --output")
  trained = trained_model.load(source, sharding.make_mesh((-1, 1, 1)))
  if not trained.model.use_report:
    raise UserError(
      f"{source}: recipe {trained.name!r} has no report encoder; choose a run"
      " of another recipe"
    )
  rounded = jax.tree.map(
    lambda x: x.astype(np.float16).astype(np.float32), trained.params
  )
  trained = dataclasses.replace(trained, params=rounded)
  name = dataset or trained.config.data.dataset
  splits = fields.evaluation(name, ())
  splits.max_train = 0
  data = data_set.DataSet(name, splits, paths.data_dir(data_dir))
  fitted = readout.fit(trained, data, label_sets)
  bundle.save(directory, trained, fitted)


def main(argv: list[str]) -> None:
  """Packs the run that the flags name."""
  if len(argv) > 1:
    command.stop(f"unexpected argument {argv[1]!r}; see --help")
  logging.set_verbosity(logging.WARNING)
  try:
    pack(
      _CHECKPOINT.value,
      _OUTPUT.value,
      _DATASET.value,
      tuple(_LABEL_SETS.value),
      paths.DATA_DIR.value,
    )
  except UserError as error:
    command.stop(error)
  print(f"model: {_OUTPUT.value}")


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
