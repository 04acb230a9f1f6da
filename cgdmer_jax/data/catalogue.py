"""Finds the data sets that are built, by the metadata beside their records."""

from __future__ import annotations

import json
import pathlib

from cgdmer_jax.errors import UserError


def built(data_dir: pathlib.Path) -> list[str]:
  """Names of all data sets with labels in a folder, such as "ptb_xl/100hz".

  A data set counts if its metadata hold label sets; no list is kept.

  Raises:
    UserError: there is no such data set.
  """
  infos = data_dir.glob("*/*/*/dataset_info.json")
  names = sorted(
    {"/".join(info.parts[-4:-2]) for info in infos if _has_labels(info.parent)}
  )
  if not names:
    raise UserError(
      f"no data set in {data_dir}; build one: python -m data_builders.build"
      " --dataset=synthetic_ecg/demo"
    )
  return names


def _has_labels(folder: pathlib.Path) -> bool:
  """Whether the metadata of a version of a data set hold label sets."""
  try:
    metadata = json.loads((folder / "metadata.json").read_text("utf-8"))
  except (OSError, ValueError):
    return False
  return bool(isinstance(metadata, dict) and metadata.get("label_sets"))
