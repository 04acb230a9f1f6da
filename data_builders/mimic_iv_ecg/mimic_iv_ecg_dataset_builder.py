"""MIMIC-IV-ECG: 800,035 clinical 12-lead ECGs with the machine's reports."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import pathlib
import re
import sys
from collections.abc import Callable, Collection, Mapping

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.data import schema
from cgdmer_jax.recordings import codec, rejected
from data_builders import downloads, records, tables
from data_builders.mimic_iv_ecg import report_labels, reports

_SECONDS = 10
_SOURCE_RATE = 500
_SOURCE = "MIMIC-IV-ECG 1.0, https://physionet.org/content/mimic-iv-ecg/1.0/"
_RECORDS = "record_list.csv"
_MEASUREMENTS = "machine_measurements.csv"
_NUM_STATEMENTS = 18
_RECORD_COLUMNS = ("subject_id", "study_id", "path")
_MEASUREMENT_COLUMNS = (
  "subject_id",
  "study_id",
  *(f"report_{i}" for i in range(_NUM_STATEMENTS)),
)
_PATH = re.compile(r"(?:\w[\w.-]*/)*(?P<study_id>\d+)", re.ASCII)
_HELD_OUT = {"validation": 0.02, "test": 0.02}  # shares of the patients
_SHORT = "short_report"
_LABEL_SETS = {"report_labels": report_labels.NAMES}


@dataclasses.dataclass(eq=False)
class MimicIvEcgConfig(tfds.core.BuilderConfig):
  """Rate of the recordings and form of the reports.

  Attributes:
    sampling_rate: Hz; the files have 500 Hz.
    keep_case: keep upper case in reports, for text encoders that know it.
    min_words: records whose report has fewer words are left out.
  """

  sampling_rate: int = 0
  keep_case: bool = False
  min_words: int = 4


def _configs() -> list[MimicIvEcgConfig]:
  return [
    MimicIvEcgConfig(
      name=f"{rate}hz" + "_keep_case" * keep_case,
      description=f"Recordings at {rate} Hz"
      + (", reports with upper case." if keep_case else "."),
      sampling_rate=rate,
      keep_case=keep_case,
    )
    for keep_case in (False, True)
    for rate in (100, 500)
  ]


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
  """A report of the machine; all records with the same one share the object."""

  text: str
  num_words: int
  labels: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
  """A row of the measurements; `report` is None if its study has several."""

  subject_id: str
  report: Report | None


class Builder(records.RecordBuilder):
  """MIMIC-IV-ECG with splits by patient and labels from its reports."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "MIMIC-IV-ECG 1.0."}
  BUILDER_CONFIGS = _configs()
  DOWNLOAD = downloads.PhysioNet(
    "mimic-iv-ecg",
    "1.0",
    "33.8 GB",
    archive="mimic-iv-ecg-diagnostic-electrocardiogram-matched-subset",
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f"Download {_SOURCE} and unpack it. manual_dir is the folder that holds"
    f" {_RECORDS}, {_MEASUREMENTS} and files."
  )

  def _info(self) -> tfds.core.DatasetInfo:
    spec, config = self._signal_spec(), self.builder_config
    case = "upper case kept" if config.keep_case else "all in lower case"
    return self.dataset_info_from_configs(
      features=schema.features(spec.num_samples, _LABEL_SETS),
      metadata=schema.metadata(
        spec.sampling_rate,
        _LABEL_SETS,
        f"{codec.CLEANING} {reports.CLEANING} They are {case}. Records with"
        f" fewer than {config.min_words} words are left out.",
      ),
      homepage="https://physionet.org/content/mimic-iv-ecg/1.0/",
    )

  def _signal_spec(self) -> codec.SignalSpec:
    rate = self.builder_config.sampling_rate
    return codec.SignalSpec(rate, _SECONDS * rate, source_rate=_SOURCE_RATE)

  def _list_jobs(
    self, source_dir: pathlib.Path
  ) -> dict[str, list[records.RecordJob]]:
    config = self.builder_config
    measured = read_measurements(
      source_dir / _MEASUREMENTS, make_reports(config.keep_case)
    )
    repeated = _repeated_studies(source_dir / _RECORDS)
    jobs: dict[str, list[records.RecordJob]] = {
      split: [] for split in ("train", *_HELD_OUT)
    }
    for row in tables.stream(source_dir / _RECORDS, _RECORD_COLUMNS, _SOURCE):
      _, study_id, path = row
      try:
        measurement = match(row, measured, repeated)
      except rejected.BadMetadata as e:
        self.rejects.add(study_id, e.reason, str(e))
        continue
      subject_id, report = measurement.subject_id, measurement.report
      if report.num_words < config.min_words:
        self.rejects.leave_out(study_id, _SHORT, report.text)
        continue
      jobs[split_of(subject_id)].append(
        records.RecordJob(
          id=study_id,
          path=source_dir / path,
          subject_id=subject_id,
          report=report.text,
          labels=report.labels,
        )
      )
    return jobs


def split_of(subject_id: str) -> str:
  """The split of a patient, a function of the id alone.

  The first 8 bytes of the id's SHA-256, as a big-endian fraction of 1: below
  0.02 validation, below 0.04 test, else train. So the split of a patient stays
  the same in any other release or part of the data set.
  """
  digest = hashlib.sha256(subject_id.encode()).digest()
  position = int.from_bytes(digest[:8], "big") / 2**64
  for split, share in _HELD_OUT.items():
    if position < share:
      return split
    position -= share
  return "train"


def make_reports(keep_case: bool) -> Callable[[tuple[str, ...]], Report]:
  """Makes a function that turns statements into their report.

  The same statements give the same object.

  800,035 records share some 180,000 reports, and these far fewer labels.
  """
  vectors: dict[bytes, Mapping[str, np.ndarray]] = {}

  @functools.cache
  def make(statements: tuple[str, ...]) -> Report:
    text = reports.clean_report(statements, keep_case)
    vector = report_labels.labels(reports.sentences(statements))
    labels = vectors.setdefault(vector.tobytes(), {"report_labels": vector})
    return Report(text, reports.num_words(text), labels)

  return make


def read_measurements(
  path: pathlib.Path, make: Callable[[tuple[str, ...]], Report]
) -> dict[str, Measurement]:
  """Reads the reports of the machine.

  Args:
    path: `machine_measurements.csv`.
    make: turns statements into their report, see `make_reports`.

  Returns:
    Study id -> its measurement.

  Raises:
    UserError: there is no such table.
  """
  measured: dict[str, Measurement] = {}
  rows = tables.stream(path, _MEASUREMENT_COLUMNS, _SOURCE)
  for subject_id, study_id, *statements in rows:
    report = make(tuple(map(sys.intern, filter(None, statements))))
    if study_id in measured:
      report = None
    measured[study_id] = Measurement(sys.intern(subject_id), report)
  return measured


def _repeated_studies(path: pathlib.Path) -> set[str]:
  """Study ids that `record_list.csv` has more than once."""
  rows = tables.stream(path, _RECORD_COLUMNS, _SOURCE)
  times = collections.Counter(study_id for _, study_id, _ in rows)
  return {study_id for study_id, n in times.items() if n > 1}


def match(
  row: tuple[str, str, str],
  measured: Mapping[str, Measurement],
  repeated: Collection[str],
) -> Measurement:
  """Finds the measurement of a record by its study id, whatever the row.

  Args:
    row: subject id, study id and path of the record.
    measured: study id -> measurement; those without a record do not matter.
    repeated: study ids of several records.

  Raises:
    rejected.BadMetadata: it is not certain which patient, report and files
      belong together.
  """
  subject_id, study_id, path = row
  if not (subject_id.isdecimal() and study_id.isdecimal()):
    raise rejected.BadMetadata(f"subject {subject_id!r}, study {study_id!r}")
  if study_id in repeated:
    raise rejected.BadMetadata(f"study {study_id} is in {_RECORDS} repeatedly")
  found = _PATH.fullmatch(path)  # so no "..", and no absolute path
  if not found or found["study_id"] != study_id:
    raise rejected.BadMetadata(f"study {study_id} has the path {path!r}")
  measurement = measured.get(study_id)
  if measurement is None:
    raise rejected.BadMetadata(f"study {study_id} is not in {_MEASUREMENTS}")
  if measurement.report is None:
    raise rejected.BadMetadata(
      f"study {study_id} is in {_MEASUREMENTS} repeatedly"
    )
  if measurement.subject_id != subject_id:
    raise rejected.BadMetadata(
      f"study {study_id} is of patient {subject_id} in {_RECORDS} and of"
      f" {measurement.subject_id} in {_MEASUREMENTS}"
    )
  return measurement
