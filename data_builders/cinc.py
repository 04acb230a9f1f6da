"""What the builders of corpora with SNOMED codes in their headers share.

PhysioNet publishes them as `A0001.mat` and `A0001.hea`, with the diagnoses in a
comment of the header (`#Dx: 164889003,59118001`), without splits and patients.
A config has one of two label modes:

`fixed`: labels are what the files say, splits are `splits.stratified`.
`merl_compat`: labels and splits are those of the published split files of MERL
(Liu et al., ICML 2024), their mistakes included, to compare with old tables.
"""

from __future__ import annotations

import abc
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError
from data_builders import codec, records, rejects, schema, splits

FIXED = "fixed"
MERL_COMPAT = "merl_compat"

_DX = re.compile(r"^#\s*Dx:(.*)$", re.MULTILINE)


@dataclasses.dataclass(eq=False)
class CincConfig(tfds.core.BuilderConfig):
  """A version of a corpus.

  Attributes:
    sampling_rate: Hz.
    label_mode: `fixed` or `merl_compat`.
  """

  sampling_rate: int = 500
  label_mode: str = FIXED


@dataclasses.dataclass(frozen=True)
class Published:
  """The published split files of a corpus.

  Attributes:
    files: split -> file name.
    id_column: column with the name or path of a record's file.
    source: where they are.
  """

  files: Mapping[str, str]
  id_column: str
  source: str


def merl_files(name: str, id_column: str) -> Published:
  """The split files that MERL published as `name`."""
  return Published(
    {
      "train": f"{name}_train.csv",
      "validation": f"{name}_val.csv",
      "test": f"{name}_test.csv",
    },
    id_column,
    "finetune/data_split/"
    f"{name} of https://github.com/cheliu-computation/MERL-ICML2024",
  )


def configs() -> list[CincConfig]:
  """The configs of every corpus."""
  return [
    CincConfig(name="500hz", description="Recordings at 500 Hz."),
    CincConfig(
      name="100hz", description="Resampled to 100 Hz.", sampling_rate=100
    ),
    CincConfig(
      name="500hz_merl_compat",
      description="Signals, labels and splits as in the tables of MERL.",
      label_mode=MERL_COMPAT,
    ),
  ]


class CincBuilder(records.RecordBuilder, skip_registration=True):
  """Base of the builders of these corpora.

  A subclass defines `_signal_spec`, `_find_files`, `_read_labels` and the
  attributes.

  Attributes:
    LABEL_SET: name of the label set.
    LABELS: names of the labels.
    PUBLISHED: the published split files.
    HOMEPAGE: page of the corpus.
    CLEANING: one paragraph: what was done to the signals.
  """

  LABEL_SET: str
  LABELS: tuple[str, ...]
  PUBLISHED: Published
  HOMEPAGE: str
  CLEANING = codec.CLEANING

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

  @abc.abstractmethod
  def _find_files(self, manual_dir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Finds the records: id -> path without suffix.

    Raises:
      UserError: there are none, or one is there twice.
    """

  @abc.abstractmethod
  def _read_labels(
    self, manual_dir: pathlib.Path, files: Mapping[str, pathlib.Path]
  ) -> dict[str, np.ndarray]:
    """Reads the labels: id -> uint8; adds unusable records to the rejects.

    Args:
      manual_dir: the corpus.
      files: id -> path without suffix.
    """

  def _info(self) -> tfds.core.DatasetInfo:
    spec, label_sets = self._signal_spec(), {self.LABEL_SET: self.LABELS}
    return self.dataset_info_from_configs(
      features=schema.features(spec.num_samples, label_sets),
      metadata=schema.metadata(
        spec.sampling_rate,
        label_sets,
        self.CLEANING,
        self.builder_config.label_mode,
      ),
      homepage=self.HOMEPAGE,
    )

  def _list_jobs(
    self, manual_dir: pathlib.Path
  ) -> dict[str, list[records.RecordJob]]:
    files = self._find_files(manual_dir)
    if self.builder_config.label_mode == MERL_COMPAT:
      members = self._read_published()
    else:
      members = _split(self._read_labels(manual_dir, files))
    return {
      split: [
        records.RecordJob(
          id=record_id,
          # A listed record without files is rejected when it is read.
          path=files.get(record_id, manual_dir / record_id),
          subject_id="",
          report="",
          labels={self.LABEL_SET: vector},
        )
        for record_id, vector in labels.items()
      ]
      for split, labels in members.items()
    }

  def _read_published(self) -> dict[str, dict[str, np.ndarray]]:
    """Split -> id -> labels."""
    expected = f"the split files in {self.PUBLISHED.source}"
    if not self._splits_dir:
      raise UserError(f"--splits_dir is missing. Download {expected}")
    return splits.read_published(
      pathlib.Path(self._splits_dir),
      self.PUBLISHED.files,
      self.PUBLISHED.id_column,
      self.LABELS,
      expected,
    )


def _split(
  labels: Mapping[str, np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
  """Split -> id -> labels, in the order of the ids."""
  members: dict[str, dict[str, np.ndarray]] = {s: {} for s in splits.FRACTIONS}
  if labels:
    ids = sorted(labels)
    vectors = np.stack([labels[i] for i in ids])
    for i, split in splits.stratified(ids, vectors, [""] * len(ids)).items():
      members[split][i] = labels[i]
  return members


def find_records(
  folder: pathlib.Path, pattern: re.Pattern[str]
) -> dict[str, pathlib.Path]:
  """Finds the records of a corpus in a folder and the folders below it.

  Args:
    folder: may hold other corpora, too.
    pattern: of the ids of the corpus.

  Returns:
    Id -> path without suffix, in the order of the paths.

  Raises:
    UserError: a record is there twice.
  """
  found: dict[str, pathlib.Path] = {}
  for path in sorted(folder.rglob("*")):
    if path.suffix in (".hea", ".mat") and pattern.fullmatch(path.stem):
      other = found.setdefault(path.stem, path.with_suffix(""))
      if other != path.with_suffix(""):
        raise UserError(
          f"record {path.stem} is in {other.parent} and in {path.parent};"
          " --manual_dir must hold one copy"
        )
  return found


def read_dx(path: pathlib.Path) -> tuple[str, ...]:
  """Diagnoses in the header of a record.

  Args:
    path: the record without suffix.

  Returns:
    What `#Dx:` lists, as it is written: SNOMED codes, or acronyms in copies
    from before May 2020.

  Raises:
    rejects.Rejected: there is no header, or no diagnosis in it.
  """
  header = path.with_suffix(".hea")
  if not header.is_file():
    raise rejects.MissingFile(header.name)
  try:
    text = header.read_text("utf-8", errors="replace")
  except OSError as e:
    raise rejects.Unreadable(f"{header.name}: {e}") from e
  match = _DX.search(text)
  codes = [code.strip() for code in match[1].split(",")] if match else []
  if not any(codes):
    raise rejects.BadMetadata(f"no diagnosis (#Dx) in {header.name}")
  return tuple(filter(None, codes))


def multi_hot(names: Iterable[str], labels: Iterable[str]) -> np.ndarray:
  """uint8 (labels,): which of `labels` are among `names`."""
  names = set(names)
  return np.array([label in names for label in labels], np.uint8)
