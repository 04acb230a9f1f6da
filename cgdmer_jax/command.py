"""What all commands share: a user's mistake ends with one line."""

from __future__ import annotations

import sys
from typing import NoReturn

from absl import flags


def stop(error: Exception | str, status: int = 2) -> NoReturn:
  """Ends the program with one line; status 2 is a user's mistake."""
  # A path in it may have line breaks, or what a terminal takes for commands.
  line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(error))
  print(f"error: {line}", file=sys.stderr)
  sys.exit(status)


def stop_parsing(error: Exception) -> NoReturn:
  """Ends the program because its command line or configuration is wrong."""
  message = str(error).strip().splitlines()[-1].strip().rstrip(".")
  if "KeyError" in repr(error):  # a field that does not exist
    field = message.strip("\"'")
    message = f"the configuration has no field {field!r}"
  stop(f"{message}; see --help")


def print_anything() -> None:
  """Lets a terminal show a substitute for a character that it does not have.

  Names of runs and data sets may have any; without this, printing them may end
  the program.
  """
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # not where tests catch it
      stream.reconfigure(errors="replace")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line, for `app.run(main, flags_parser=parse_flags)`."""
  print_anything()
  try:
    return flags.FLAGS(argv)
  # Configuration files are read here, and raise the other errors.
  except (
    *(AttributeError, KeyError, OSError, TypeError, ValueError),
    flags.Error,
  ) as error:
    stop_parsing(error)
