"""Where built data sets live: one rule for every program."""

from __future__ import annotations

import os
import pathlib

from absl import flags

ENVIRONMENT_VARIABLE = "CGDMER_DATA_DIR"

DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  f"Folder of the built data sets. Default: ${ENVIRONMENT_VARIABLE}, else"
  " `data` in the current folder.",
)


def data_dir(value: str | os.PathLike[str] | None = None) -> pathlib.Path:
  """Folder of the built data sets.

  Args:
    value: what the user asked for, usually `DATA_DIR.value`; None or empty for
      the default.

  Returns:
    `value`, else the environment variable CGDMER_DATA_DIR, else `data`.
  """
  value = value or os.environ.get(ENVIRONMENT_VARIABLE) or "data"
  return pathlib.Path(value).expanduser()
