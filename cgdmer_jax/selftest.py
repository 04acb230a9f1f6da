"""Checks an export: does it give here what it gave where it was made?

    python -m cgdmer_jax.selftest DIR

Prints how far each output of the model and of its StableHLO program is from
`golden.npz`. The exit status is 1 if one is too far, or a file is missing or
damaged.
"""

from __future__ import annotations

import sys

from absl import app, logging

from cgdmer_jax import command, paths
from cgdmer_jax.errors import UserError


def main(argv: list[str]) -> None:
  """Checks the directory that is named."""
  logging.set_verbosity(logging.WARNING)
  if len(argv) != 2:
    command.stop(f"expected DIR, got {len(argv) - 1} arguments")
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax.exchange import golden

  failed = False
  try:
    for difference in golden.compare(paths.local(argv[1], "DIR")):
      print(difference)
      failed |= not difference.is_small
  except UserError as error:
    command.stop(error, status=1)
  if failed:
    sys.exit(1)


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
