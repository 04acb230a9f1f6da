"""A data set as tasks see it: records of its splits, and its label sets."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from ml_collections import ConfigDict

from cgdmer_jax import buckets
from cgdmer_jax.config import presets
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError

SPLITS = ("train", "validation", "test")
# Fields of `config.evaluation` that choose records. Every result depends on
# them, through the fingerprints of the records that they choose.
FIELDS = (*SPLITS, "max_train")


class DataSet:
  """The training, validation and test records of one data set.

  Attributes:
    name: name with configuration, such as "ptb_xl/100hz".
    data_dir: folder of the built data sets.
  """

  def __init__(
    self, name: str, splits: ConfigDict | Mapping, data_dir: pathlib.Path
  ):
    """Opens the test split; the others are opened when they are read.

    Args:
      name: name with configuration.
      splits: names of the `SPLITS` in the data set, and `max_train`, how many
        training records are used at most (0: all).
      data_dir: folder of the built data sets.

    Raises:
      UserError: there is no such data set or test split.
    """
    self.name = name
    self._splits = {field: splits[field] for field in FIELDS}
    self.data_dir = data_dir
    self._sources: dict[str, EcgSource] = {}
    self._indexes: dict[str, index_lib.RecordIndex] = {}
    self.source("test")

  def source(self, split: str) -> EcgSource:
    """Records of "train", "validation" or "test".

    Raises:
      UserError: the data set has no such split.
    """
    if split not in self._sources:
      self._sources[split] = self._open(split)
    return self._sources[split]

  def _open(self, split: str) -> EcgSource:
    """The records of a split, of training no more than `max_train`."""
    name, most = self._splits[split], self._splits["max_train"]
    source = EcgSource(self.name, name, self.data_dir)
    if split == "train" and 0 < most < len(source):
      source = EcgSource(self.name, f"{name}[:{most}]", self.data_dir)
    return source

  def index(self, split: str) -> index_lib.RecordIndex:
    """Ids, subjects, reports and labels of a split."""
    if split not in self._indexes:
      self._indexes[split] = index_lib.load_index(self.source(split))
    return self._indexes[split]

  @property
  def test(self) -> EcgSource:
    """The test records."""
    return self.source("test")

  @property
  def corpus(self) -> str:
    """Name without configuration: data sets of one corpus share records."""
    return self.name.split("/")[0]

  @property
  def label_sets(self) -> Mapping[str, tuple[str, ...]]:
    """Label set -> its labels."""
    return self.test.label_sets

  def labels(self, label_set: str) -> dict[str, np.ndarray]:
    """Split -> labels of its records, uint8 (N, L), for a task that learns.

    Raises:
      UserError: see `check_apart`.
    """
    self.check_apart()
    return {split: self.index(split).labels[label_set] for split in SPLITS}

  def check_apart(self) -> None:
    """Checks that nothing is learnt from test records.

    Raises:
      UserError: some of them are training or validation records, too.
    """
    for split in ("train", "validation"):
      count = _num_common(self.index("test"), self.index(split))
      if count:
        raise UserError(
          f"evaluation.test={self._splits['test']} has {count} records of"
          f" evaluation.{split}={self._splits[split]}, which this task learns"
          " from; leave it out, or score other records"
        )

  def check_unseen(self, split: str) -> None:
    """Checks that an encoder has not been pretrained on test records.

    Args:
      split: of this corpus, that it was pretrained on.

    Raises:
      UserError: some of them are in it.
    """
    names = [set(re.findall(r"\w+", s)) for s in (split, self._splits["test"])]
    if not names[0] & names[1]:
      return  # no need to read them
    seen = index_lib.load_index(EcgSource(self.name, split, self.data_dir))
    count = _num_common(self.index("test"), seen)
    if count:
      raise UserError(
        f"evaluation.test={self._splits['test']} has {count} records that the"
        f" encoder was pretrained on ({self.corpus}, {split}); choose others"
      )


def _num_common(a: index_lib.RecordIndex, b: index_lib.RecordIndex) -> int:
  """Number of records of `a` that are in `b`, too."""
  return int(np.isin(a.ids, b.ids).sum())


def has_text(texts: Sequence[str]) -> np.ndarray:
  """Which reports say anything: bool (R,), a letter or a digit is enough.

  Unlike `report_table.build` this asks no tokenizer whether it knows a word:
  every encoder has to be scored on the same records.
  """
  return np.array([any(map(str.isalnum, text)) for text in texts], bool)


def choose(names: str, data_dir: pathlib.Path) -> list[str]:
  """The data sets that are evaluated.

  Args:
    names: names separated by commas; empty: all that are built.
    data_dir: folder of the built data sets.

  Raises:
    UserError: none is named, and none is built.
  """
  words = [word for word in map(str.strip, names.split(",")) if word]
  chosen = words or _built(data_dir)
  if not chosen:
    raise UserError(
      f"no data set in {data_dir}; build one: python -m data_builders.build"
      " --dataset=synthetic_ecg/demo"
    )
  return chosen


def _built(data_dir: pathlib.Path) -> list[str]:
  """Built data sets with labels; those of a preset first, in their order."""
  buckets.fetch_names(data_dir)
  names = {
    str(path.relative_to(data_dir).parent.parent)
    for path in data_dir.glob("*/*/*/metadata.json")
    if json.loads(path.read_text(encoding="utf-8")).get("label_sets")
  }
  first = [name.split("/")[0] for name in presets.DATASETS.values()]

  def place(name: str) -> tuple[int, str]:
    corpus = name.split("/")[0]
    return first.index(corpus) if corpus in first else len(first), name

  return sorted(names, key=place)
