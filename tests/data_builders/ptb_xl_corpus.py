"""A small corpus in the layout of PTB-XL, with made-up signals."""

import csv

import numpy as np
import wfdb

from cgdmer_jax.data.leads import LEADS
from data_builders import build, scp

# Record id -> fold. Records of a patient (id // 2) share a fold.
FOLDS = {i: 1 + (i // 2) % 10 for i in range(2, 62)}
CODES = ("NORM", "IMI", "LVH", "AFIB", "PVC")


def signal(record_id, rate):
  """Noise in mV, (10 s, 12)."""
  rng = np.random.default_rng(record_id)
  return rng.normal(0, 0.3, (10 * rate, 12)).round(3)


def row(record_id):
  name = f"00000/{record_id:05d}"
  return {
    "ecg_id": str(record_id),
    "patient_id": f"{record_id // 2}.0",
    "report": f" Bericht   {record_id}\nüberdreht ",
    "scp_codes": str({CODES[record_id % 5]: 100.0, "SR": 0.0}),
    "strat_fold": str(FOLDS[record_id]),
    "filename_lr": f"records100/{name}_lr",
    "filename_hr": f"records500/{name}_hr",
  }


def write_csv(path, rows):
  with path.open("w", encoding="utf-8", newline="") as f:
    writer = csv.DictWriter(f, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)


def write_statements(folder):
  flags = {True: "1.0", False: ""}
  rows = [
    {
      "": s.code,
      "description": s.description,
      "diagnostic": flags[bool(s.diagnostic_class)],
      "form": flags[s.form],
      "rhythm": flags[s.rhythm],
      "diagnostic_class": s.diagnostic_class,
      "diagnostic_subclass": s.diagnostic_subclass,
    }
    for s in scp.STATEMENTS
  ]
  write_csv(folder / "scp_statements.csv", rows)


def write_record(path, mv, rate):
  path.parent.mkdir(parents=True, exist_ok=True)
  wfdb.wrsamp(
    path.name,
    fs=rate,
    units=["mV"] * 12,
    sig_name=[n.upper() for n in LEADS],
    p_signal=mv,
    fmt=["16"] * 12,
    adc_gain=[1000.0] * 12,
    baseline=[0] * 12,
    write_dir=str(path.parent),
  )


def write(folder, rate=100):
  """Writes the corpus; returns its rows."""
  rows = [row(i) for i in FOLDS]
  write_statements(folder)
  write_csv(folder / "ptbxl_database.csv", rows)
  column = {100: "filename_lr", 500: "filename_hr"}[rate]
  for r in rows:
    write_record(folder / r[column], signal(int(r["ecg_id"]), rate), rate)
  return rows


def build_set(folder, data_dir, **kwargs):
  """Builds the data set of a corpus; returns its folder."""
  return build.build(
    "ptb_xl/100hz", manual_dir=folder, data_dir=data_dir, **kwargs
  )
