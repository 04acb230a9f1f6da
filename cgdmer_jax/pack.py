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


def main(argv: list[str]) -> None:
  """Packs the run that the flags name."""
  if len(argv) > 1:
    command.stop(f"unexpected argument {argv[1]!r}; see --help")
  logging.set_verbosity(logging.WARNING)
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax.evaluators import readout

  try:
    readout.pack(
      paths.anywhere(_CHECKPOINT.value, "--checkpoint"),
      paths.local(_OUTPUT.value, "--output"),
      paths.data_dir(paths.DATA_DIR.value),
      _DATASET.value,
      tuple(_LABEL_SETS.value),
    )
  except UserError as error:
    command.stop(error)
  print(f"model: {_OUTPUT.value}")


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
