"""Findings of `predict` beside the diagnoses of PhysioNet/CinC 2021.

    python -m cgdmer_jax.predict FOLDER --format=csv --output=found.csv
    python -m tests.benchmarks.cinc FOLDER found.csv

prints how many records were used, and AUROC with 95 % bootstrap intervals of
five diagnoses, from the probabilities in the table and the codes in the
headers.
"""

import collections
import csv
import pathlib
import sys

import numpy as np

from cgdmer_jax.evaluators.scores import ranking, statistics
from data_builders import cinc

# Diagnosis -> column of the table, SNOMED codes.
DIAGNOSES = {
  "atrial fibrillation": ("all:AFIB", {"164889003"}),
  "left bundle branch block": ("all:CLBBB", {"164909002", "733534002"}),
  "right bundle branch block": ("all:CRBBB", {"59118001", "713427006"}),
  "sinus tachycardia": ("all:STACH", {"427084000"}),
  "sinus bradycardia": ("all:SBRAD", {"426177001"}),
}


def main(folder, table):
  with open(table, encoding="utf-8") as file:
    rows = list(csv.DictReader(file))
  print(dict(collections.Counter(row["status"] for row in rows)))
  rows = [row for row in rows if row["status"] == "ok"]
  codes = [
    set(cinc.read_dx(pathlib.Path(row["file"]).with_suffix(""))) for row in rows
  ]
  seconds = [float(row["seconds"]) for row in rows]
  rates = sorted({float(row["sampling_rate"]) for row in rows})
  print(f"{min(seconds):.1f} to {max(seconds):.1f} s, {rates} Hz")
  weights = statistics.subject_weights(np.arange(len(rows)), 1000, 0)
  for name, (column, wanted) in DIAGNOSES.items():
    y = np.array([[bool(x & wanted)] for x in codes], np.uint8)
    p = np.array([[float(row[column])] for row in rows], np.float32)
    samples, _ = statistics.bootstrap(y, p[None], weights)
    low, high = statistics.interval(samples[0])
    auroc = ranking.auroc(y[:, 0], p[:, 0])
    print(f"{name}: {auroc:.3f} [{low:.3f}, {high:.3f}], {y.sum()} positive")


if __name__ == "__main__":
  assert len(sys.argv) == 3, __doc__
  main(*sys.argv[1:])
