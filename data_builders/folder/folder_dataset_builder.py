"""Any folder of recordings of any readable format, with or without a table."""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds

from cgdmer_jax import files
from cgdmer_jax.data import schema
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, limb_leads, read, rejected, signals
from cgdmer_jax.recordings.tables import Defaults
from data_builders import records, splits
from data_builders.folder import table as table_lib

_SECONDS = 10
_MIN_SECONDS = 5
_GROUPS_FILE = "groups.csv"  # id, age, sex
_NOT_IN_TABLE = "not_in_table"
_CLEANING = (
  f"{codec.CLEANING} Limb leads that follow from others by arithmetic are"
  f" derived. Recordings shorter than {_SECONDS} s are followed by zeros."
  " Reports: runs of white space become one space."
)


@dataclasses.dataclass(eq=False)
class FolderConfig(tfds.core.BuilderConfig):
  """A sampling rate.

  Attributes:
    sampling_rate: Hz.
  """

  sampling_rate: int = 0


class Builder(records.RecordBuilder):
  """The recordings below --manual_dir."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = [
    FolderConfig(
      name=f"{rate}hz", description=f"At {rate} Hz.", sampling_rate=rate
    )
    for rate in (100, 500)
  ]
  DOWNLOAD = None
  MANUAL_DOWNLOAD_INSTRUCTIONS = "It is the folder of your recordings."
  OPTIONS = (
    "table", "name", "label_columns", "sampling_rate", "unit", "leads",
  )  # fmt: skip

  def __init__(
    self,
    *,
    table: pathlib.Path | None = None,
    name: str = "folder",
    label_columns: Sequence[str] | None = None,
    sampling_rate: float | None = None,
    unit: str | None = None,
    leads: Sequence[str] | None = None,
    **kwargs: Any,
  ):
    """Creates the builder.

    Args:
      table: see `table.py`; None: all files, without labels.
      name: of the data set, and of its label set.
      label_columns: of the table.
      sampling_rate: Hz, of files that do not say it.
      unit: of files that do not say it: uV, mV or V.
      leads: of files that do not name them.
      **kwargs: arguments of `records.RecordBuilder`.

    Raises:
      UserError: the table or another argument is wrong.
    """
    if label_columns is not None and table is None:
      raise UserError("--label_columns needs --table")
    if unit and unit.lower() not in signals.MICROVOLTS:
      choices = ", ".join(signals.UNITS)
      raise UserError(f"--unit={unit}; expected one of {choices}")
    self.name = name
    self._path = table
    self._table = table and table_lib.read(table, label_columns)
    self._groups: dict[str, Mapping[str, str]] = {}
    self._defaults = Defaults(sampling_rate, unit, leads and tuple(leads))
    super().__init__(**kwargs)
    if self._table and self._table.unused:
      print(f"columns that are not used: {', '.join(self._table.unused)}")

  @property
  def _label_sets(self) -> dict[str, tuple[str, ...]]:
    has_labels = self._table is not None and self._table.labels
    return {self.name: self._table.labels} if has_labels else {}

  def _info(self) -> tfds.core.DatasetInfo:
    spec = self._signal_spec()
    return self.dataset_info_from_configs(
      features=schema.features(spec.num_samples, self._label_sets),
      metadata=schema.metadata(spec.sampling_rate, self._label_sets, _CLEANING),
    )

  def _signal_spec(self) -> codec.SignalSpec:
    rate = self.builder_config.sampling_rate
    return codec.SignalSpec(
      rate,
      _SECONDS * rate,
      signal_samples=(_MIN_SECONDS * rate, _SECONDS * rate),
      min_valid_leads=1,
    )

  def _reader(self) -> records.Reader:
    return functools.partial(read_file, defaults=self._defaults)

  def _list_jobs(
    self, source_dir: pathlib.Path
  ) -> dict[str, list[records.RecordJob]]:
    rows = self._match(source_dir, self._find(source_dir))
    self._groups = {name: row.group for name, row in rows.items() if row.group}
    jobs: dict[str, list[records.RecordJob]] = {s: [] for s in splits.FRACTIONS}
    for record_id, row in rows.items():
      labels = {}
      if self._label_sets:
        labels[self.name] = self._table.vector(row)
      split = row.split or choose_split(row.patient, record_id)
      jobs[split].append(
        records.RecordJob(
          record_id, source_dir / record_id, row.patient, row.report, labels
        )
      )
    empty = [split for split, members in jobs.items() if not members]
    if empty:
      raise UserError(
        f"{len(rows)} records leave the split {empty[0]!r} empty; add records,"
        " or a table with a column 'split'"
      )
    return jobs

  def _post_download_and_prepare_hook(self) -> None:
    super()._post_download_and_prepare_hook()
    if self._groups:
      text = io.StringIO()
      names = [*next(iter(self._groups.values()))]
      writer = csv.DictWriter(text, ["id", *names], lineterminator="\n")
      writer.writeheader()
      writer.writerows({"id": k, **v} for k, v in self._groups.items())
      files.write(pathlib.Path(self.data_dir) / _GROUPS_FILE, text.getvalue())

  def _find(self, source_dir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Path below the folder -> path of its files, without the table."""
    found = {}
    for path in read.find(source_dir):
      name = path.relative_to(source_dir).as_posix()
      if self._path and os.path.samefile(path, self._path):
        continue
      try:
        name.encode()
      except UnicodeEncodeError:  # of another encoding
        detail = "its name is not UTF-8; rename the file"
        self.rejects.add(repr(name), rejected.BadMetadata.reason, detail)
        continue
      found[name] = path
    return found

  def _match(
    self, source_dir: pathlib.Path, found: Mapping[str, pathlib.Path]
  ) -> dict[str, table_lib.Row]:
    """Id -> its row; the other files are left out.

    Raises:
      UserError: there is no recording, or a row fits no or several files.
    """
    if self._table is None:
      recordings = {}
      for name, path in found.items():
        if read.is_known(path):
          recordings[name] = table_lib.Row(name)
        else:
          detail = "not a recording of a format that is read here"
          self.rejects.leave_out(name, read.Unknown.reason, detail)
      if not recordings:
        raise UserError(f"no recording in {source_dir}")
      return recordings
    by_stem: dict[str, list[str]] = {}
    for name in found:
      by_stem.setdefault(os.path.splitext(name)[0], []).append(name)
    rows: dict[str, table_lib.Row] = {}
    for row in self._table.rows:
      written = pathlib.PurePath(row.file)
      if written.is_absolute() and written.is_relative_to(
        source_dir.absolute()
      ):
        written = written.relative_to(source_dir.absolute())
      name = os.path.normpath(written)
      fitting = [name] if name in found else by_stem.get(name, [])
      stem, suffix = os.path.splitext(name)
      if not fitting and suffix in read.PARTS_OF_WFDB:
        fitting = [f"{stem}.hea"] if f"{stem}.hea" in found else []
      if len(fitting) > 1:
        raise UserError(
          f"{self._path}: file {row.file!r} may be {' or '.join(fitting)};"
          " write its suffix"
        )
      record_id = fitting[0] if fitting else name
      if record_id in rows:
        raise UserError(f"{self._path} has two rows for {record_id!r}")
      rows[record_id] = row
    if rows.keys().isdisjoint(found):
      raise UserError(
        f"none of the {len(rows)} files of {self._path} is in {source_dir}, for"
        f" instance {next(iter(rows))!r}"
      )
    for name in found.keys() - rows.keys():
      self.rejects.leave_out(name, _NOT_IN_TABLE, f"no row in {self._path}")
    return rows


def _below(folder: pathlib.Path, file: str) -> str:
  """Path of a file relative to a folder that it is in."""
  path, folder = pathlib.PurePath(file), folder.absolute()
  if path.is_absolute() and path.is_relative_to(folder):
    path = path.relative_to(folder)
  return os.path.normpath(path)


def choose_split(patient: str, record_id: str) -> str:
  """Split of a record, a function of the patient alone, if there is one.

  So records that are added later move no other record.
  """
  key = f"patient {patient}" if patient else f"record {record_id}"
  digest = hashlib.sha256(key.encode()).digest()
  share, total = int.from_bytes(digest[:8]) / 2**64, 0.0
  for split, fraction in splits.FRACTIONS.items():
    total += fraction
    if share < total:
      return split
  return split


def read_file(path: pathlib.Path, defaults: Defaults) -> codec.Recording:
  """Reads a file of any known format, and derives its limb leads.

  Raises:
    rejected.Rejected: it cannot be read; the subclass says why.
  """
  recording = read.read(path, defaults).recording
  return limb_leads.derive(recording)[0]
