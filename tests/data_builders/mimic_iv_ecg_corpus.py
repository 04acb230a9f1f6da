"""A small corpus in the layout of MIMIC-IV-ECG, with made-up signals."""

import csv
import itertools

import numpy as np
import wfdb

from data_builders import build
from data_builders.mimic_iv_ecg import mimic_iv_ecg_dataset_builder as mimic
from data_builders.mimic_iv_ecg import report_labels
from tests.data_builders import data_sets

RATE = 500
# The order of the files; aVF comes before aVL.
LEADS = (
  "I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6",
)  # fmt: skip
NUM_PATIENTS = {"train": 5, "validation": 2, "test": 2}
RHYTHMS = (
  ("Sinus rhythm", "SR"),
  ("Sinus bradycardia", "SBRAD"),
  ("Atrial fibrillation", "AFIB"),
  ("Ventricular-paced rhythm", "PACE"),
)


def subjects():
  """The first patients of each split from 10000032 on."""
  found = {split: [] for split in NUM_PATIENTS}
  for i in itertools.count(10000032, 61):
    members = found[mimic.split_of(str(i))]
    members.append(str(i))
    if all(len(found[s]) >= n for s, n in NUM_PATIENTS.items()):
      return [m for s, n in NUM_PATIENTS.items() for m in found[s][:n]]


def studies():
  """(subject id, study id) of every record, two records a patient."""
  return [
    (subject, str(40689238 + 1009 * (2 * i + j)))
    for i, subject in enumerate(subjects())
    for j in range(2)
  ]


def statements(study_id):
  """Statements that no other record has, and their one label."""
  statement, label = RHYTHMS[int(study_id) % 4]
  return [f"{statement}, study {study_id}", "*** Borderline ECG ***"], label


def signal(study_id):
  """(10 s, 12) in mV; every lead has a frequency and every record a level."""
  t = np.arange(10 * RATE) / RATE
  level = 0.5 + int(study_id) % 97 / 100
  return np.stack(
    [level * np.sin(2 * np.pi * (1 + i) * t) for i in range(len(LEADS))], 1
  )


def record_row(subject_id, study_id):
  folder = f"files/p{subject_id[:4]}/p{subject_id}/s{study_id}"
  return {
    "subject_id": subject_id,
    "study_id": study_id,
    "file_name": study_id,
    "ecg_time": "2180-07-23 08:44:00",
    "path": f"{folder}/{study_id}",
  }


def measurement_row(subject_id, study_id, texts=None):
  """A row with its statements apart, as the blank ones of true rows."""
  texts = statements(study_id)[0] if texts is None else texts
  cells = dict.fromkeys((f"report_{i}" for i in range(18)), "")
  cells |= {f"report_{2 * i}": text for i, text in enumerate(texts)}
  return {
    "subject_id": subject_id,
    "study_id": study_id,
    "cart_id": "6848296",
    "ecg_time": "2180-07-23 08:44:00",
    **cells,
    "bandwidth": "0.005-150 Hz",
    "filtering": "60 Hz notch Baseline filter",
    "rr_interval": "659",
  }


def write_csv(path, rows):
  with path.open("w", encoding="utf-8", newline="") as f:
    writer = csv.DictWriter(f, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)


def write_tables(folder, record_rows, measurement_rows):
  write_csv(folder / "record_list.csv", record_rows)
  write_csv(folder / "machine_measurements.csv", measurement_rows)


def write_record(path, mv):
  """Writes (samples, 12) mV in the order of `LEADS`, 5 uV a step."""
  path.parent.mkdir(parents=True, exist_ok=True)
  wfdb.wrsamp(
    path.name,
    fs=RATE,
    units=["mV"] * 12,
    sig_name=list(LEADS),
    p_signal=mv,
    fmt=["16"] * 12,
    adc_gain=[200.0] * 12,
    baseline=[0] * 12,
    write_dir=str(path.parent),
  )


def write(folder):
  """Writes the corpus, its tables in different orders."""
  rng = np.random.default_rng(0)
  members = studies()
  orders = [rng.permutation(len(members)) for _ in range(2)]
  write_tables(
    folder,
    [record_row(*members[i]) for i in orders[0]],
    [measurement_row(*members[i]) for i in orders[1]],
  )
  for subject_id, study_id in members:
    path = folder / record_row(subject_id, study_id)["path"]
    write_record(path, signal(study_id))


def read(source, data_dir, config, **kwargs):
  """Builds the data set; split -> id -> record."""
  name = f"mimic_iv_ecg/{config}"
  build.build(name, manual_dir=source, data_dir=data_dir, **kwargs)
  return data_sets.read(name, data_dir)[1]


def listed(folder, config="100hz", **kwargs):
  """Id -> job of all records that the tables list, and the rejects."""
  builder = mimic.Builder(config=config, data_dir=folder / "d", **kwargs)
  jobs = builder._list_jobs(folder)
  found = {job.id: job for members in jobs.values() for job in members}
  return found, builder.rejects


def rows():
  """Rows of both tables, in the order of `studies`."""
  members = studies()
  return (
    [record_row(*m) for m in members],
    [measurement_row(*m) for m in members],
  )


def names_of(vector):
  names = zip(report_labels.NAMES, vector, strict=True)
  return {name for name, value in names if value}
