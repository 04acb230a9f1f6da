"""Flags of `data_builders.build` that only some data sets take.

A builder names in `OPTIONS` those that its constructor takes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from cgdmer_jax import paths
from cgdmer_jax.errors import UserError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}", re.ASCII)
_PATHS = ("splits_dir", "table")

_FLAGS = (
  flags.DEFINE_string(
    "splits_dir",
    None,
    "Folder of published split files, for merl_compat configs.",
  ),
  flags.DEFINE_string(
    "table",
    None,
    "CSV of --dataset=folder/...: a line for each file, with labels and all"
    " else that is known; without it all files are taken, without labels.",
  ),
  flags.DEFINE_string(
    "name", None, "Name that --dataset=folder/... gets; default: folder."
  ),
  flags.DEFINE_list(
    "label_columns",
    None,
    "Columns of 0 and 1 in --table; default: all columns without a meaning of"
    " their own.",
  ),
  flags.DEFINE_float(
    "sampling_rate", None, "Hz, of files of a folder that do not say it."
  ),
  flags.DEFINE_string(
    "unit", None, "uV, mV or V, of files of a folder that do not say it."
  ),
  flags.DEFINE_list(
    "leads", None, "Leads, of files of a folder that do not name them."
  ),
)


def given() -> dict[str, Any]:
  """Name -> value of the flags that were given."""
  return {flag.name: flag.value for flag in _FLAGS if flag.value is not None}


def check(
  options: Mapping[str, Any], accepted: Sequence[str], dataset: str
) -> dict[str, Any]:
  """The options that have a value; paths as paths.

  Args:
    options: name -> value, None where it is not given.
    accepted: names that the data set takes.
    dataset: its name, for messages.

  Raises:
    UserError: the data set takes no such option, or a path is none.
  """
  found = {k: v for k, v in options.items() if v is not None}
  for name in found:
    if name not in accepted:
      raise UserError(f"--{name} does not apply to {dataset}")
  # Empty ones are no paths: of a variable of the shell that is not set.
  return {
    name: paths.local(value, f"--{name}") if name in _PATHS else value
    for name, value in found.items()
  }


def check_name(
  chosen: Mapping[str, Any], dataset: str, taken: Sequence[str]
) -> str:
  """Name of the folder of a data set, `--name` if it is given.

  Args:
    chosen: options of the data set.
    dataset: "name/config".
    taken: names of the data sets that have a builder.

  Raises:
    UserError: the name is taken, or is none.
  """
  own = dataset.partition("/")[0]
  name = chosen.get("name", own)
  if name != own and (name in taken or not _NAME.fullmatch(name)):
    raise UserError(
      f"--name={name}; expected a-z, 0-9 and _, beginning with a letter, and"
      f" none of {', '.join(taken)}"
    )
  return name
