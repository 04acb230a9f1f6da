"""Says what a model finds in recordings: files and folders of any format.

    python -m cgdmer_jax.predict RECORD... [--format=table|json|csv]

RECORD is a file, a folder, or a WFDB record with or without suffix. Status
lines go to the standard error, results to the standard output or --output. The
exit status is 1 if a file failed, 2 if the command is wrong.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

from absl import app, flags, logging

from cgdmer_jax import command, files, paths
from cgdmer_jax.errors import UserError, one_line

_MODEL = flags.DEFINE_string(
  "model",
  "simulated",
  "Weights that come with the package, a packed directory, or a run.",
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
_RATE = flags.DEFINE_float(
  "sampling_rate", None, "Hz, of tables that do not say it."
)
_UNIT = flags.DEFINE_string(
  "unit", None, "uV, mV or V, of tables that do not say it."
)
_LEADS = flags.DEFINE_list(
  "leads", None, "Names of columns or rows, of tables that do not say them."
)


def read_sentences(text: str) -> list[str]:
  """Sentences of the flag: in a file of that name, or separated by semicolons.

  Raises:
    UserError: the file cannot be read or is empty.
  """
  parts = text.split(";")
  try:
    path = pathlib.Path(text).expanduser()
    is_file = bool(text) and path.is_file()
    if is_file:
      parts = path.read_text("utf-8").splitlines()
  except (OSError, ValueError, RuntimeError) as e:
    raise UserError(f"--sentences={text}: {one_line(e)}") from e
  sentences = [x.strip() for x in parts if x.strip()]
  if text and not sentences:
    raise UserError(f"--sentences={text}: no sentence there")
  return list(dict.fromkeys(sentences))


def predict(names: list[str]) -> bool:
  """Runs the command; the flags say how.

  Args:
    names: files, folders and WFDB records.

  Returns:
    Whether every file could be read.

  Raises:
    UserError: a mistake in the command.
  """
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax.inference import folders, model, output
  from cgdmer_jax.recordings import signals, tables

  format_ = output.check_format(_FORMAT.value)
  sentences = read_sentences(_SENTENCES.value)
  if _UNIT.value and _UNIT.value.lower() not in signals.MICROVOLTS:
    choices = ", ".join(signals.UNITS)
    raise UserError(f"--unit={_UNIT.value}; expected one of {choices}")
  leads = tuple(_LEADS.value) if _LEADS.value else None
  defaults = tables.Defaults(_RATE.value, _UNIT.value, leads)
  target = paths.local(_OUTPUT.value, "--output") if _OUTPUT.value else None
  listed = folders.list_files(names)
  loaded = model.load(_MODEL.value)
  if loaded.readout is None and not sentences:
    raise UserError(
      f"--model={_MODEL.value} has no calibrated labels; give --sentences, or"
      " pack it with python -m cgdmer_jax.pack"
    )
  counts = {"ok": 0, "failed": 0, "skipped": 0}
  outcomes = folders.run(loaded, listed, sentences, defaults)
  told = _tell(outcomes, len(listed), counts)
  pieces = output.render(told, format_, loaded, sentences)
  if target is None:
    for piece in pieces:
      sys.stdout.write(piece)
    sys.stdout.flush()
  else:
    with (
      files.replacing(target) as temporary,
      temporary.open("w", encoding="utf-8", errors="replace") as file,
    ):
      file.writelines(pieces)
  if len(listed) > 1:
    text = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    print(text, file=sys.stderr)
  return not counts["failed"]


def _tell(outcomes, total: int, counts: dict[str, int]) -> Iterator:
  """Passes outcomes on, with a status line for each and a bar for all."""
  from cgdmer_jax import progress

  bar = progress.Progress(total, unit="file")
  with bar:
    for number, outcome in enumerate(outcomes, 1):
      counts[outcome.status] += 1
      bar.say(outcome.line())
      if total > 1:
        bar.update(number)
      yield outcome


def main(argv: list[str]) -> None:
  """Predicts; a mistake in the command ends with one line and status 2."""
  logging.set_verbosity(logging.WARNING)
  try:
    complete = predict(argv[1:])
  except (UserError, BrokenPipeError) as error:
    command.stop(error)
  if not complete:
    sys.exit(1)


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
