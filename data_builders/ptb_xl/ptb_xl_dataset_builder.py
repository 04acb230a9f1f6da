"""PTB-XL: 21,799 clinical 12-lead ECGs with reports and SCP statements."""

from __future__ import annotations

import ast
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping

import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError
from data_builders import (
  codec,
  downloads,
  records,
  rejects,
  schema,
  scp,
  tables,
)

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
_REPORT_CLEANING = "Reports: runs of white space become one space."


@dataclasses.dataclass(eq=False)
class PtbXlConfig(tfds.core.BuilderConfig):
  """One of the two versions that PTB-XL is published in.

  Attributes:
    sampling_rate: Hz.
    folder: where the recordings are.
    path_column: column of the database table with the path of a record.
  """

  sampling_rate: int = 0
  folder: str = ""
  path_column: str = ""


class Builder(records.RecordBuilder):
  """PTB-XL with its official folds and the labels of its benchmark."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "PTB-XL 1.0.3."}
  BUILDER_CONFIGS = [
    PtbXlConfig(
      name="100hz",
      description="Recordings at 100 Hz.",
      sampling_rate=100,
      folder="records100",
      path_column="filename_lr",
    ),
    PtbXlConfig(
      name="500hz",
      description="Recordings at 500 Hz.",
      sampling_rate=500,
      folder="records500",
      path_column="filename_hr",
    ),
  ]
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
    spec = self._signal_spec()
    return self.dataset_info_from_configs(
      features=schema.features(spec.num_samples, scp.LABEL_SETS),
      metadata=schema.metadata(
        spec.sampling_rate,
        scp.LABEL_SETS,
        f"{codec.CLEANING} {_REPORT_CLEANING}",
      ),
      homepage="https://physionet.org/content/ptb-xl/1.0.3/",
    )

  def _signal_spec(self) -> codec.SignalSpec:
    rate = self.builder_config.sampling_rate
    return codec.SignalSpec(rate, _SECONDS * rate, source_rate=rate)

  def _list_jobs(
    self, manual_dir: pathlib.Path
  ) -> dict[str, list[records.RecordJob]]:
    config = self.builder_config
    for name in (_DATABASE, _STATEMENTS, config.folder):
      if not (manual_dir / name).exists():
        raise UserError(
          f"no {name} in {manual_dir}; --manual_dir must be a copy of {_SOURCE}"
        )
    check_statements(
      tables.read(manual_dir / _STATEMENTS, _STATEMENT_COLUMNS, _SOURCE)
    )
    jobs: dict[str, list[records.RecordJob]] = {s: [] for s in _SPLITS}
    columns = (*_DATABASE_COLUMNS, config.path_column)
    for row in tables.read(manual_dir / _DATABASE, columns, _SOURCE):
      try:
        split, job = _parse_row(row, manual_dir, config.path_column)
      except rejects.BadMetadata as e:
        self.rejects.add(row["ecg_id"], e.reason, str(e))
        continue
      jobs[split].append(job)
    return jobs


def clean_report(text: str) -> str:
  """Collapses white space; language, spelling and case stay as they are."""
  return " ".join(text.split())


def parse_codes(text: str) -> tuple[str, ...]:
  """SCP codes of a row, whatever their likelihood.

  Args:
    text: the column `scp_codes`, for instance "{'NORM': 100.0, 'SR': 0.0}".

  Raises:
    rejects.BadMetadata: this is no dictionary of strings.
  """
  try:
    codes = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    codes = None
  if not isinstance(codes, dict) or not all(isinstance(c, str) for c in codes):
    raise rejects.BadMetadata(f"scp_codes {text!r}")
  return tuple(codes)


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
        f"statement {code} is {theirs.get(code)} in {_STATEMENTS}, expected"
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


def _parse_row(
  row: Mapping[str, str], manual_dir: pathlib.Path, path_column: str
) -> tuple[str, records.RecordJob]:
  """Split and job of a row of the database table."""
  split = _SPLIT_OF_FOLD.get(row["strat_fold"])
  if split is None:
    raise rejects.BadMetadata(f"strat_fold {row['strat_fold']!r}")
  patient = row["patient_id"].removesuffix(".0")
  if not patient:
    raise rejects.BadMetadata("no patient_id")
  try:
    labels = scp.labels(parse_codes(row["scp_codes"]))
  except ValueError as e:  # a code that PTB-XL does not define
    raise rejects.BadMetadata(str(e)) from None
  return split, records.RecordJob(
    id=row["ecg_id"],
    path=manual_dir / row[path_column],
    subject_id=patient,
    report=clean_report(row["report"]),
    labels=labels,
  )
