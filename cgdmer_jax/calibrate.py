"""Fits the probabilities of a model's findings on a built data set.

    python -m cgdmer_jax.calibrate --dataset=clinic/100hz --output=clinic.json

Then `predict --calibration=clinic.json` and `cgdmer_jax.load(model,
calibration="clinic.json")` say how probable the labels of that data set are
among its patients. What is fitted on one split is measured on another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import app, flags, logging

from cgdmer_jax import command, paths
from cgdmer_jax.errors import UserError

if TYPE_CHECKING:
  from cgdmer_jax.evaluators.scores.findings import Estimate

_DATASET = flags.DEFINE_string(
  "dataset", None, "Built data set with labels, name/config.", required=True
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "File for the calibration, JSON.", required=True
)
_MODEL = flags.DEFINE_string(
  "model", "simulated", "What `predict --model` takes."
)
_FIT = flags.DEFINE_string(
  "fit", "validation", "Split to fit on, for instance train+validation."
)
_TEST = flags.DEFINE_string("test", "test", "Split to measure on.")
_LABEL_SETS = flags.DEFINE_list(
  "label_sets", [], "Label sets; default: all that are no part of another."
)
_FIGURE = flags.DEFINE_string(
  "figure", "", "File for a reliability diagram: PNG, PDF or SVG."
)
flags.adopt_module_key_flags(paths)


def _text(x: Estimate, floor: float) -> str:
  return (
    f"{x.value:.3f} (chance makes {floor:.3f}; without what it adds"
    f" {x.low:.3f} to {x.high:.3f})"
  )


def main(argv: list[str]) -> None:
  """Calibrates; a mistake in the command ends with one line and status 2."""
  if len(argv) > 1:
    command.stop(f"unexpected argument {argv[1]!r}; see --help")
  logging.set_verbosity(logging.WARNING)
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax.evaluators import calibrating
  from cgdmer_jax.evaluators.data_set import DataSet
  from cgdmer_jax.figures import reliability, style
  from cgdmer_jax.inference import calibration as calibration_lib
  from cgdmer_jax.inference import model

  try:
    output = paths.local(_OUTPUT.value, "--output")
    splits = {"train": "train", "validation": _FIT.value, "test": _TEST.value}
    data = DataSet(
      _DATASET.value,
      splits | {"max_train": 0},
      paths.data_dir(paths.DATA_DIR.value),
    )
    calibration, measured = calibrating.calibrate(
      model.load(_MODEL.value), data, _LABEL_SETS.value
    )
    calibration_lib.write(output, calibration)
    if _FIGURE.value:
      figure = reliability.reliability(
        {f"calibrated: {k}" if "," in k else k: v for k, v in measured.items()},
        f"{data.name}, {data.test.split}",
      )
      style.save(figure, paths.local(_FIGURE.value, "--figure"))
  except UserError as error:
    command.stop(error)
  number, where = calibration.measures["num_test"], data.test.split
  print(f"calibration error on {number} records, {data.name}, {where}")
  for name, found in measured.items():
    print(
      f"  {name}: {_text(found.error, found.floor)} pooled,"
      f" {_text(found.label_error, found.label_floor)} mean of labels"
    )
  print(f"calibration: {output}")


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
