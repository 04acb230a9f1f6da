"""Messages of a program, also kept in its workdir."""

from __future__ import annotations

import logging
import pathlib
from collections.abc import Callable

FILE_NAME = "run.log"


class _Handler(logging.Handler):
  """Appends to a file as soon as there is a folder for it.

  The folder is not made here: a program that refuses its configuration leaves
  nothing behind.
  """

  def __init__(self, path: pathlib.Path):
    super().__init__()
    self._path = path
    self._waiting: list[str] = []

  def emit(self, record: logging.LogRecord) -> None:
    """Writes a message, after those that have waited."""
    self._waiting.append(self.format(record) + "\n")
    if self._path.parent.is_dir():
      try:
        with self._path.open("a", encoding="utf-8") as file:
          file.write("".join(self._waiting))
      except OSError:  # a full disk is told where results are written
        return
      self._waiting.clear()


def keep(
  workdir: pathlib.Path, is_shown: Callable[[logging.LogRecord], bool]
) -> logging.Handler:
  """Appends all messages from now on to `workdir/run.log`.

  Args:
    workdir: need not exist yet.
    is_shown: which messages.

  Returns:
    The handler, which is added to the root logger.
  """
  handler = _Handler(workdir / FILE_NAME)
  handler.addFilter(is_shown)
  handler.setFormatter(
    logging.Formatter("%(asctime)s %(levelname)s %(message)s")
  )
  logging.getLogger().addHandler(handler)
  return handler
