"""Shared parts of the builders of corpora with SNOMED codes in their headers.

PhysioNet publishes them as `A0001.mat` and `A0001.hea`, with the diagnoses in a
comment of the header (`#Dx: 164889003,59118001`), without splits or patients.
In the label mode `fixed`, splits come from `splits.stratified`.
"""

from __future__ import annotations

import abc
import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.data import schema
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, rejected, wfdb_io
from data_builders import label_modes, records, splits

_DX = re.compile(r"^#\s*Dx:(.*)$", re.MULTILINE | re.ASCII)


@dataclasses.dataclass(eq=False)
class CincConfig(tfds.core.BuilderConfig):
  """A version of a corpus.

  Attributes:
    sampling_rate: Hz.
    label_mode: see `label_modes`.
  """

  sampling_rate: int = 500
  label_mode: str = schema.FIXED


def configs() -> list[CincConfig]:
  """Lists the configs, the same for every corpus."""
  return [
    CincConfig(name="500hz", description="Recordings at 500 Hz."),
    CincConfig(
      name="100hz", description="Resampled to 100 Hz.", sampling_rate=100
    ),
    CincConfig(
      name="500hz_merl_compat",
      description="Signals, labels and splits as in the tables of MERL.",
      label_mode=schema.MERL_COMPAT,
    ),
  ]


class CincBuilder(label_modes.LabelModeBuilder, skip_registration=True):
  """Base of the builders of these corpora.

  A subclass defines `_signal_spec`, `_read_labels` and the attributes.

  Attributes:
    SOURCE: where the corpus is from.
    RECORD: pattern of the ids.
    EXAMPLE: a file of the corpus.
    LABEL_SET: name of the label set.
    LABELS: names of the labels.
    PUBLISHED: the published split files.
    HOMEPAGE: page of the corpus.
    CLEANING: what was done to the signals, in one paragraph.
  """

  SOURCE: str
  RECORD: re.Pattern[str]
  EXAMPLE: str
  LABEL_SET: str
  LABELS: tuple[str, ...]
  PUBLISHED: splits.Published
  HOMEPAGE: str
  CLEANING = codec.CLEANING

  @abc.abstractmethod
  def _read_labels(
    self, source_dir: pathlib.Path, files: Mapping[str, pathlib.Path]
  ) -> dict[str, np.ndarray]:
    """Reads the labels: id -> uint8; adds unusable records to the rejects.

    Args:
      source_dir: the corpus.
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
    self, source_dir: pathlib.Path
  ) -> dict[str, list[records.RecordJob]]:
    files = find_records(source_dir, self.RECORD)
    if not files:
      raise UserError(
        f"no {self.EXAMPLE} in {source_dir}; --manual_dir must be {self.SOURCE}"
      )
    if self.builder_config.label_mode == schema.MERL_COMPAT:
      members = self._read_published(self.PUBLISHED, self.LABELS)
    else:
      members = _split(self._read_labels(source_dir, files))
    return {
      split: [
        records.RecordJob(
          id=record_id,
          # A listed record without files is rejected when it is read.
          path=files.get(record_id, source_dir / record_id),
          subject_id="",
          report="",
          labels={self.LABEL_SET: vector},
        )
        for record_id, vector in labels.items()
      ]
      for split, labels in members.items()
    }


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

  Links to folders are followed, as shared storage and several disks need.

  Args:
    folder: where to look; it may hold other corpora, too.
    pattern: what the ids of the corpus look like.

  Returns:
    Id -> path without suffix, in the order of the paths.

  Raises:
    UserError: a record is there twice.
  """
  found: dict[str, pathlib.Path] = {}
  for path in sorted(_files(folder)):
    # `.HEA`, too: it is rejected, but not passed over.
    if path.suffix.lower() in (".hea", ".mat") and pattern.fullmatch(path.stem):
      other = found.setdefault(path.stem, path.with_suffix(""))
      if other != path.with_suffix(""):
        raise UserError(
          f"record {path.stem} is in {other.parent} and in {path.parent};"
          " --manual_dir must hold one copy"
        )
  return found


def _files(root: pathlib.Path) -> Iterator[pathlib.Path]:
  """Files in a folder and below it, each once, whatever links there are."""
  seen = set()  # a folder may have several names, or links in a circle
  for name, folders, files in os.walk(root, followlinks=True):
    here = pathlib.Path(name)
    status = here.stat()
    if (status.st_dev, status.st_ino) in seen:
      folders.clear()
      continue
    seen.add((status.st_dev, status.st_ino))
    # A link upward would lead to all that lies beside `root`.
    inside = (here.resolve(), root.resolve())
    folders[:] = sorted(
      child
      for child in folders
      if not (here / child).is_symlink()
      or not any(p.is_relative_to((here / child).resolve()) for p in inside)
    )
    yield from (here / file for file in files)


def read_dx(path: pathlib.Path) -> tuple[str, ...]:
  """Reads the diagnoses in the header of a record.

  Args:
    path: the record without suffix.

  Returns:
    What `#Dx:` lists, as it is written: SNOMED codes, or acronyms in copies
    from before May 2020.

  Raises:
    rejected.Rejected: there is no header, or it has no diagnosis.
  """
  header = path.with_suffix(".hea")
  if not header.is_file():
    raise rejected.MissingFile(header.name)
  match = _DX.search("\n".join(wfdb_io.read_text(header).splitlines()))
  codes = [code.strip() for code in match[1].split(",")] if match else []
  if not any(codes):
    raise rejected.BadMetadata(f"no diagnosis (#Dx) in {header.name}")
  return tuple(filter(None, codes))


def multi_hot(names: Iterable[str], labels: Iterable[str]) -> np.ndarray:
  """uint8 (labels,): which of `labels` are among `names`."""
  names = set(names)
  return np.array([label in names for label in labels], np.uint8)
