"""What all commands share: a user's mistake ends with one line."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable
from typing import NoReturn

from absl import flags

from cgdmer_jax import paths


def stop(error: Exception | str, status: int = 2) -> NoReturn:
  """Ends the program with one line; status 2 is a user's mistake."""
  # A path in it may have line breaks, or what a terminal takes for commands.
  text = paths.with_addresses(str(error))
  line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
  print(f"error: {line}", file=sys.stderr)
  sys.exit(status)


def stop_parsing(error: Exception) -> NoReturn:
  """Ends the program because its command line or configuration is wrong."""
  # Libraries quote errors inside errors, some of them twice.
  text = str(error).replace("\\n", "\n").replace("\\", "").strip()
  message = text.splitlines()[-1].strip().rstrip(".")
  if "KeyError" in repr(error):  # a field that does not exist
    field, *hint = (line.strip(" \"'.") for line in text.splitlines()[-2:])
    hint = f"; {hint[0][0].lower()}{hint[0][1:]}" if hint else ""
    message = f"the configuration has no field {field!r}{hint}"
  message = re.sub(r"^(UserError|\w*Error): ", "", message)
  stop(f"{message}; see --help")


def print_anything() -> None:
  """Lets a terminal show a substitute for a character that it does not have.

  Names of runs and data sets may have any; without this, printing them may end
  the program.
  """
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # not where tests catch it
      stream.reconfigure(errors="replace")


def show_help(
  program: str, doc: str | None, more: Callable[[], str] | None = None
) -> None:
  """Prints what a command does, its flags first of all.

  Args:
    program: file name of the module that is run; its key flags are shown.
    doc: docstring of the module.
    more: makes what is printed at the end.
  """
  print(f"{inspect.cleandoc(doc or '')}\n\nflags:")
  every = flags.FLAGS.get_key_flags_for_module(program)
  for flag in every:
    if flag.name.startswith("config."):
      continue
    default = (
      "" if flag.default in (None, False, "", []) else f" [{flag.default}]"
    )
    text = f"--{flag.name}{default}: {flag.help}"
    print(
      textwrap.fill(text, 78, initial_indent="  ", subsequent_indent="      ")
    )
  print("  --verbosity: 1 for more messages, -1 for warnings only")
  if more:
    print(f"\n{more()}")


def parse_flags(
  argv: list[str],
  doc: str | None = None,
  more: Callable[[], str] | None = None,
) -> list[str]:
  """Parses the command line, for `app.run(main, flags_parser=parse_flags)`.

  Args:
    argv: the command line.
    doc: printed for --help; None: the docstring of the program.
    more: see `show_help`.
  """
  print_anything()
  if {"--help", "-help", "-h", "--helpshort"} & set(argv[1:]):
    main = sys.modules["__main__"]
    show_help(argv[0], doc or main.__doc__, more)
    sys.exit(0)
  try:
    return flags.FLAGS(argv)
  # Configuration files are read here, and raise the other errors.
  except (
    *(AttributeError, KeyError, OSError, TypeError, ValueError),
    flags.Error,
  ) as error:
    stop_parsing(error)
