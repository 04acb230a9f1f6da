"""Entry point: `python -m cgdmer_jax.main --config=configs/pretrain.py`.

Kept short: a task is a function of (config, workdir, data_dir).
"""

from __future__ import annotations

import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from cgdmer_jax import paths
from cgdmer_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "File in configs/, with its option: file.py:preset,key=value."
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run; the same one resumes it. Default: runs/<task>.",
)


def main(argv: list[str]) -> None:
  """Runs `config.task`; a user's mistake ends with one line and status 2."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}; see --help")
  config = _CONFIG.value
  if config is None:
    raise app.UsageError("--config=configs/pretrain.py (or another) is needed")
  logging.set_verbosity(logging.INFO)
  # Imported here: --help and a wrong flag need not wait for JAX.
  from cgdmer_jax import evaluate, pretrain

  tasks = {"pretrain": pretrain.run} | dict.fromkeys(
    evaluate.TASKS, evaluate.run
  )
  workdir = pathlib.Path(_WORKDIR.value or f"runs/{config.task}")
  data_dir = paths.data_dir(paths.DATA_DIR.value)
  try:
    tasks[config.task](config, workdir, data_dir)
  except (UserError, pretrain.Diverged) as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  app.run(main)
