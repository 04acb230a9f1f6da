"""Says what a model finds in recordings: files and folders of any format.

    python -m cgdmer_jax.predict RECORD... [--format=table|json|csv]

RECORD is a file, a folder, or a WFDB record with or without suffix. Status
lines go to the standard error, results to the standard output or --output. The
exit status is 1 if a file failed, 2 if the command is wrong.
"""

from __future__ import annotations

import functools
import sys

from absl import app, flags, logging

from cgdmer_jax import command, paths
from cgdmer_jax.errors import UserError

_MODEL = flags.DEFINE_string(
  "model",
  "simulated",
  "Weights that come with the package, a packed directory, or a run.",
)
_CALIBRATION = flags.DEFINE_string(
  "calibration",
  "",
  "File that `calibrate` wrote: other labels with probabilities.",
)
_SENTENCES = flags.DEFINE_string(
  "sentences",
  "",
  "Sentences to look for, separated by semicolons; or a file, one in a line.",
)
_FORMAT = flags.DEFINE_string("format", "table", "table, json or csv.")
_OUTPUT = flags.DEFINE_string(
  "output", "", "File for the results; default: the standard output."
)
_HTML = flags.DEFINE_string(
  "html", "", "Folder for a page of each recording, and an index of them."
)
_RATE = flags.DEFINE_float(
  "sampling_rate", None, "Hz, of tables that do not say it."
)
_UNIT = flags.DEFINE_string(
  "unit", None, "uV, mV or V, of tables that do not say it."
)
_LEADS = flags.DEFINE_list(
  "leads", None, "Names of columns or rows, of tables that do not say them."
)


def main(argv: list[str]) -> None:
  """Predicts; a mistake in the command ends with one line and status 2."""
  logging.set_verbosity(logging.WARNING)
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax.inference import predicting
  from cgdmer_jax.recordings import tables

  open_pages = None

  output = _OUTPUT.value
  leads = tuple(_LEADS.value) if _LEADS.value else None
  try:
    if _HTML.value:
      from cgdmer_jax.pages import record

      folder = paths.local(_HTML.value, "--html")
      open_pages = functools.partial(record.Pages, folder)
    complete = predicting.run(
      argv[1:],
      _MODEL.value,
      _SENTENCES.value,
      _FORMAT.value,
      paths.local(output, "--output") if output else None,
      tables.Defaults(_RATE.value, _UNIT.value, leads),
      open_pages,
      calibration=_CALIBRATION.value,
    )
  except (UserError, BrokenPipeError) as error:
    command.stop(error)
  if not complete:
    sys.exit(1)


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
