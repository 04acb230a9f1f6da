"""PTB-XL: 21,799 clinical 12-lead ECGs with reports and SCP statements.

Splits are the official folds in both label modes. `fixed` derives the labels
from the SCP codes. `merl_compat` takes them from the published split files,
whose subclass tables order three columns differently: read by position, as the
published loaders do, records of validation and test get the wrong names

  AVB      where they have ISC
  RAO/RAE  where they have AVB
  ISC      where they have RAO/RAE

while records of train get the right ones. The other label sets have the same
order in all of their tables.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.data import schema
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, rejected
from data_builders import downloads, label_modes, records, scp, splits, tables

_SECONDS = 10
_SOURCE = "PTB-XL 1.0.3, https://physionet.org/content/ptb-xl/1.0.3/"
_DATABASE = "ptbxl_database.csv"
_STATEMENTS = "scp_statements.csv"
# Folds 9 and 10 have reports that were validated by a human.
_SPLIT_OF_FOLD = {str(fold): "train" for fold in range(1, 9)} | {
  "9": "validation",
  "10": "test",
}
_SPLITS = ("train", "validation", "test")
_DATABASE_COLUMNS = (
  "ecg_id", "patient_id", "report", "scp_codes", "strat_fold",
)  # fmt: skip
_STATEMENT_COLUMNS = (
  "", "description", "form", "rhythm", "diagnostic_class",
  "diagnostic_subclass",
)  # fmt: skip
_PATIENT = re.compile(r"(\d+)(?:\.0)?", re.ASCII)
_CODES = re.compile(r"\{(?:'[^']*': [\d.]+(?:, )?)*\}", re.ASCII)
_PATH = re.compile(r"(?:\w+/)*0*(\d+)_[lh]r", re.ASCII)
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1b\x7f\ufffd]")
_REPORT_CLEANING = "Reports: runs of white space become one space."
_LABEL_ERROR = (
  "Labels: in validation and test, subclass AVB is ISC, RAO/RAE is AVB and ISC"
  " is RAO/RAE."
)
# Label set -> published tables; there are none of the label set "all".
PUBLISHED = {
  label_set: splits.merl_files("ptbxl", "ecg_id", name)
  for label_set, name in (
    ("superclass", "super_class"),
    ("subclass", "sub_class"),
    ("form", "form"),
    ("rhythm", "rhythm"),
  )
}

Annotation = tuple[str, dict[str, np.ndarray]]  # split, label set -> labels


@dataclasses.dataclass(eq=False)
class PtbXlConfig(tfds.core.BuilderConfig):
  """One of the two versions that PTB-XL is published in, in a label mode.

  Attributes:
    sampling_rate: Hz.
    folder: where the recordings are.
    path_column: column of the database table with the path of a record.
    label_mode: see `label_modes`.
  """

  sampling_rate: int = 0
  folder: str = ""
  path_column: str = ""
  label_mode: str = schema.FIXED


def _configs() -> list[PtbXlConfig]:
  low = PtbXlConfig(
    name="100hz",
    description="Recordings at 100 Hz.",
    sampling_rate=100,
    folder="records100",
    path_column="filename_lr",
  )
  high = PtbXlConfig(
    name="500hz",
    description="Recordings at 500 Hz.",
    sampling_rate=500,
    folder="records500",
    path_column="filename_hr",
  )
  merl = [
    dataclasses.replace(
      config,
      name=f"{config.name}_merl_compat",
      description=f"{config.description} Labels as in the tables of MERL.",
      label_mode=schema.MERL_COMPAT,
    )
    for config in (low, high)
  ]
  return [low, high, *merl]


class Builder(label_modes.LabelModeBuilder):
  """PTB-XL with its official folds and the labels of its benchmark."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "PTB-XL 1.0.3."}
  BUILDER_CONFIGS = _configs()
  DOWNLOAD = downloads.PhysioNet(
    "ptb-xl",
    "1.0.3",
    "1.7 GB",
    archive="ptb-xl-a-large-publicly-available-electrocardiography-dataset",
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f"Download {_SOURCE} and unpack it. manual_dir is the folder that holds"
    f" {_DATABASE}, {_STATEMENTS} and records100 or records500."
  )

  def _info(self) -> tfds.core.DatasetInfo:
    spec, label_mode = self._signal_spec(), self.builder_config.label_mode
    label_sets = scp.LABEL_SETS
    cleaning = f"{codec.CLEANING} {_REPORT_CLEANING}"
    if label_mode == schema.MERL_COMPAT:
      label_sets = {name: scp.LABEL_SETS[name] for name in PUBLISHED}
      cleaning = f"{cleaning} {_LABEL_ERROR}"
    return self.dataset_info_from_configs(
      features=schema.features(spec.num_samples, label_sets),
      metadata=schema.metadata(
        spec.sampling_rate, label_sets, cleaning, label_mode
      ),
      homepage="https://physionet.org/content/ptb-xl/1.0.3/",
    )

  def _signal_spec(self) -> codec.SignalSpec:
    rate = self.builder_config.sampling_rate
    return codec.SignalSpec(rate, _SECONDS * rate, source_rate=rate)

  def _list_jobs(
    self, source_dir: pathlib.Path
  ) -> dict[str, list[records.RecordJob]]:
    config = self.builder_config
    for name in (_DATABASE, _STATEMENTS, config.folder):
      if not (source_dir / name).exists():
        raise UserError(
          f"no {name} in {source_dir}; --manual_dir must be a copy of {_SOURCE}"
        )
    check_statements(
      tables.read(source_dir / _STATEMENTS, _STATEMENT_COLUMNS, _SOURCE)
    )
    columns = (*_DATABASE_COLUMNS, config.path_column)
    rows = tables.read(source_dir / _DATABASE, columns, _SOURCE)
    annotate = _derive
    if config.label_mode == schema.MERL_COMPAT:
      published = self._read_all_published()
      known = {row["ecg_id"] for row in rows}
      for record_id in published:
        if record_id not in known:
          detail = f"no row in {_DATABASE}"
          self.rejects.add(record_id, rejected.BadMetadata.reason, detail)
      # A record that no table lists is in no split.
      rows = [row for row in rows if row["ecg_id"] in published]
      annotate = functools.partial(_look_up, published)
    jobs: dict[str, list[records.RecordJob]] = {s: [] for s in _SPLITS}
    for row in rows:
      try:
        split, labels = annotate(row)
        job = _make_job(row, source_dir, config.path_column, labels)
        jobs[split].append(job)
      except rejected.BadMetadata as e:
        self.rejects.add(row["ecg_id"], e.reason, str(e))
    return jobs

  def _read_all_published(self) -> dict[str, Annotation]:
    """Id -> annotation; zeros for the label sets that do not list a record.

    Raises:
      UserError: a table is not as expected, or two disagree on a split.
    """
    found: dict[str, Annotation] = {}
    for label_set, files in PUBLISHED.items():
      names = scp.LABEL_SETS[label_set]
      for split, members in self._read_published(files, names).items():
        for record_id, vector in members.items():
          if record_id not in found:
            found[record_id] = split, _no_labels()
          other, labels = found[record_id]
          if other != split:
            raise UserError(
              f"{self._splits_dir}: record {record_id!r} is in {other!r} and,"
              f" in {files.files[split]}, in {split!r}"
            )
          labels[label_set] = vector
    return found


def _no_labels() -> dict[str, np.ndarray]:
  return {
    name: np.zeros(len(scp.LABEL_SETS[name]), np.uint8) for name in PUBLISHED
  }


def clean_report(text: str) -> str:
  """Collapses white space; language, spelling and case stay as they are."""
  return " ".join(text.split())


def parse_codes(text: str) -> tuple[str, ...]:
  """Reads the SCP codes of a row, whatever their likelihood.

  Args:
    text: the column `scp_codes`, for instance "{'NORM': 100.0, 'SR': 0.0}".

  Raises:
    rejected.BadMetadata: this is not a dictionary of strings.
  """
  if not _CODES.fullmatch(text):
    raise rejected.BadMetadata(f"scp_codes {text!r}")
  return tuple(re.findall("'([^']*)'", text))


def check_statements(rows: Iterable[Mapping[str, str]]) -> None:
  """Checks that labels mean what they mean in the data set.

  Args:
    rows: `scp_statements.csv`.

  Raises:
    UserError: a statement differs from `data_builders.scp.STATEMENTS`.
  """
  theirs = {row[""]: _statement(row) for row in rows}
  for code in sorted(theirs.keys() | scp.BY_CODE.keys()):
    if theirs.get(code) != scp.BY_CODE.get(code):
      raise UserError(
        f"statement {code!r} is {theirs.get(code)} in {_STATEMENTS}, expected"
        f" {scp.BY_CODE.get(code)}; the labels are those of {_SOURCE}"
      )


def _statement(row: Mapping[str, str]) -> scp.Statement:
  return scp.Statement(
    code=row[""],
    description=row["description"],
    diagnostic_class=row["diagnostic_class"],
    diagnostic_subclass=row["diagnostic_subclass"],
    form=row["form"] == "1.0",
    rhythm=row["rhythm"] == "1.0",
  )


def _look_up(
  published: Mapping[str, Annotation], row: Mapping[str, str]
) -> Annotation:
  """Annotation of a row of the database table in the published tables."""
  return published[row["ecg_id"]]


def _derive(row: Mapping[str, str]) -> Annotation:
  """Annotation of a row of the database table from its fold and codes."""
  split = _SPLIT_OF_FOLD.get(row["strat_fold"])
  if split is None:
    raise rejected.BadMetadata(f"strat_fold {row['strat_fold']!r}")
  try:
    return split, scp.labels(parse_codes(row["scp_codes"]))
  except ValueError as e:  # a code that PTB-XL does not define
    raise rejected.BadMetadata(str(e)) from None


def _make_job(
  row: Mapping[str, str],
  source_dir: pathlib.Path,
  path_column: str,
  labels: dict[str, np.ndarray],
) -> records.RecordJob:
  """Job of a row of the database table."""
  patient = _PATIENT.fullmatch(row["patient_id"])
  if not patient:
    raise rejected.BadMetadata(f"patient_id {row['patient_id']!r}")
  path = _PATH.fullmatch(row[path_column])
  if not path or path[1] != row["ecg_id"]:  # files of another record
    raise rejected.BadMetadata(
      f"{path_column} {row[path_column]!r} of {row['ecg_id']!r}"
    )
  if _NO_TEXT.search(row["report"]):
    raise rejected.BadMetadata(f"report {row['report']!r}")
  return records.RecordJob(
    id=row["ecg_id"],
    path=source_dir / row[path_column],
    subject_id=patient[1],
    report=clean_report(row["report"]),
    labels=labels,
  )
