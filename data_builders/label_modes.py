"""Base of data sets that offer a choice of labels and splits.

A config has one of two label modes:

`fixed`: labels are what the files of the corpus say.
`merl_compat`: labels and splits are those of the split files that MERL (Liu et
al., ICML 2024) published, read as its loaders read them: by the position of
the columns. Their mistakes are included, to compare with old tables.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cgdmer_jax.data import schema
from cgdmer_jax.errors import UserError
from data_builders import records, splits


class LabelModeBuilder(records.RecordBuilder, skip_registration=True):
  """Base of the builders of such data sets; configs have a `label_mode`."""

  OPTIONS = ("splits_dir",)

  def __init__(
    self, *, splits_dir: str | os.PathLike[str] | None = None, **kwargs: Any
  ):
    """Creates the builder.

    Args:
      splits_dir: folder of the published split files; `merl_compat` needs it.
      **kwargs: arguments of `records.RecordBuilder`.
    """
    super().__init__(**kwargs)
    self._splits_dir = splits_dir

  def _has_published_splits(self) -> bool:
    return self.builder_config.label_mode == schema.MERL_COMPAT

  def _read_published(
    self, published: splits.Published, names: Sequence[str]
  ) -> dict[str, dict[str, np.ndarray]]:
    """Split -> id -> labels, as in `splits.read_published`."""
    if not self._splits_dir:
      raise UserError(f"--splits_dir is missing. Download {published.source}")
    return splits.read_published(
      pathlib.Path(self._splits_dir), published, names
    )
