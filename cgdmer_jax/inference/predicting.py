"""The command `predict`, without its flags."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from cgdmer_jax import files, progress
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.inference import folders, model, output
from cgdmer_jax.recordings import signals
from cgdmer_jax.recordings.tables import Defaults


@runtime_checkable
class Pages(Protocol):
  """Makes a page of each outcome; see `pages/record.py`."""

  def add(self, model: model.EcgModel, outcome: output.FileOutcome) -> None:
    """Writes the page of an outcome."""

  def finish(self) -> pathlib.Path | None:
    """Writes what is about all of them; where to begin to read, if anywhere."""


def run(
  names: Sequence[str],
  model_name: str,
  sentences: str,
  format_: str,
  target: pathlib.Path | None,
  defaults: Defaults,
  open_pages: Callable[[bool], Pages] | None = None,
  calibration: str = "",
) -> bool:
  """Predicts files and folders, and writes the results.

  Args:
    names: files, folders and WFDB records.
    model_name: see `cgdmer_jax.load`.
    sentences: separated by semicolons, or a file with one in each line.
    format_: table, json or csv.
    target: file for the results; None: the standard output.
    defaults: what holds where a table does not say it.
    open_pages: gives what makes pages of the outcomes, and is told whether
      there are several files; None: no pages.
    calibration: see `cgdmer_jax.load`.

  Returns:
    Whether every file that is a recording could be used.

  Raises:
    UserError: a mistake in the command.
  """
  output.check_format(format_)
  texts = read_sentences(sentences)
  if defaults.unit and defaults.unit.lower() not in signals.MICROVOLTS:
    choices = ", ".join(signals.UNITS)
    raise UserError(f"--unit={defaults.unit}; expected one of {choices}")
  listed = folders.list_files(names)
  loaded = model.load(model_name, calibration)
  if loaded.readout is None and not texts:
    raise UserError(
      f"--model={model_name} has no calibrated labels; give --sentences, or"
      " export it with python -m cgdmer_jax.export"
    )
  counts = {"ok": 0, "failed": 0, "skipped": 0}
  outcomes = folders.run(loaded, listed, texts, defaults)
  told = _tell(outcomes, len(listed), counts)
  pages = open_pages(len(listed) > 1) if open_pages else None
  if pages:
    told = _put_on_pages(told, loaded, pages)
  pieces = output.render(told, format_, loaded, texts)
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
  if pages and (path := pages.finish()):
    print(f"page: {path}", file=sys.stderr)
  if len(listed) > 1:
    text = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    print(text, file=sys.stderr)
  return not counts["failed"]


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


def _tell(outcomes, total: int, counts: dict[str, int]) -> Iterator:
  """Passes outcomes on, with a status line for each and a bar for all."""
  bar = progress.Progress(total, unit="file")
  with bar:
    for number, outcome in enumerate(outcomes, 1):
      counts[outcome.status] += 1
      bar.say(outcome.line())
      if total > 1:
        bar.update(number)
      yield outcome


def _put_on_pages(
  outcomes: Iterable[output.FileOutcome], loaded: model.EcgModel, pages: Pages
) -> Iterator[output.FileOutcome]:
  """Passes outcomes on, with a page of each."""
  for outcome in outcomes:
    pages.add(loaded, outcome)
    yield outcome
