"""Published files of CPSC2018 and Chapman-Shaoxing-Ningbo."""

import csv

# Split -> what the names of the published files end with.
PUBLISHED = {"train": "train", "validation": "val", "test": "test"}


def read_rows(path):
  with path.open(encoding="utf-8-sig", newline="") as f:
    return list(csv.DictReader(f))
