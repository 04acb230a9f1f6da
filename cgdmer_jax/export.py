"""Writes a run as a directory for others: weights, calibration, card, program.

    python -m cgdmer_jax.export RUN DIR

RUN is the workdir of a run, one checkpoint in it, or an export. DIR must not
exist; it gets its name when it is complete. `cgdmer_jax.load(DIR)` and
`cgdmer_jax.predict --model=DIR` read it, `cgdmer_jax.selftest DIR` checks it.
Probabilities are calibrated on the validation split of a built data set.
"""

from __future__ import annotations

from absl import app, flags, logging

from cgdmer_jax import command, paths
from cgdmer_jax.errors import UserError

_DATASET = flags.DEFINE_string(
  "calibrate_on",
  "",
  "Built data set whose validation split calibrates; default: that of the run.",
)
_LABEL_SETS = flags.DEFINE_list(
  "label_sets", [], "Label sets; default: all that are no part of another."
)
_RESULTS = flags.DEFINE_string(
  "results", "", "Workdir of an evaluation of RUN, for the card; default: RUN."
)
_GROUPS = flags.DEFINE_string(
  "groups",
  "",
  "CSV with id, sex and age of test records, for scores by group in the card.",
)
_LICENCE = flags.DEFINE_string(
  "license", "", "Licence of the weights, such as apache-2.0, for the card."
)
_SMALL = flags.DEFINE_bool(
  "small", False, "Leave out the StableHLO program and golden.npz."
)
_REPORT_ENCODER = flags.DEFINE_bool(
  "report_encoder", False, "Write only the BERT of reports, for transformers."
)
_HUB = flags.DEFINE_string(
  "push_to_hub",
  "",
  "OWNER/NAME: upload DIR to the Hugging Face hub, privately if it is new.",
)
flags.adopt_module_key_flags(paths)


def main(argv: list[str]) -> None:
  """Exports the run that is named first."""
  logging.set_verbosity(logging.WARNING)
  try:
    if len(argv) != 3:
      raise UserError(f"expected RUN and DIR, got {len(argv) - 1} arguments")
    for line in run(argv[1], argv[2]):
      print(line)
  except UserError as error:
    command.stop(error)


def run(source: str, target: str) -> list[str]:
  """Exports as the flags say; what was done, in lines.

  Raises:
    UserError: see `exchange.directory`.
  """
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax.exchange import directory as directory_lib
  from cgdmer_jax.inference import hub

  directory = paths.local(target, "DIR")
  directory_lib.check_new(directory)
  if _REPORT_ENCODER.value:
    _check_alone()
    directory_lib.export_report_encoder(source, directory)
    return [f"report encoder: {directory}"]
  if _HUB.value:
    hub.check(_HUB.value)
  results, groups = (
    read(flag.value, f"--{flag.name}") if flag.value else None
    for flag, read in ((_RESULTS, paths.anywhere), (_GROUPS, paths.local))
  )
  choices = directory_lib.Choices(
    _DATASET.value,
    tuple(_LABEL_SETS.value),
    results,
    groups,
    _LICENCE.value,
    _SMALL.value,
    _HUB.value,
  )
  data_dir = paths.data_dir(paths.DATA_DIR.value)
  directory_lib.export(source, directory, data_dir, choices)
  done = [f"model: {directory}"]
  if _HUB.value:
    done.append(f"on the hub: {hub.push(directory, _HUB.value)}")
  return done


def _check_alone() -> None:
  """Raises UserError for a flag that `--report_encoder` does not read."""
  for flag in flags.FLAGS.get_key_flags_for_module(__name__):
    if flag.name not in ("report_encoder", "data_dir") and flag.present:
      raise UserError(f"--{flag.name} has no effect with --report_encoder")


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
