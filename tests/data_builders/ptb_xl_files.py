"""The files that PTB-XL and MERL published, and the real subset, built."""

import csv

from data_builders import build
from tests.data_builders import data_sets

# Our label set -> folder and metadata columns of the published split files.
PUBLISHED = {
  "superclass": "super_class",
  "subclass": "sub_class",
  "form": "form",
  "rhythm": "rhythm",
}
NUM_METADATA_COLUMNS = 6
# The split files were made from other codes than PTB-XL has for these records:
# 3796 for instance has INJAL and INJAS with likelihood 100, there it has none.
OTHER_CODES = {"3796", "3797", "3799", "7783", "9822", "13803"}
SPLITS = {"train": "train", "validation": "val", "test": "test"}


def read_rows(path):
  with path.open(encoding="utf-8", newline="") as f:
    return list(csv.DictReader(f))


def published(real_data, label_set, split):
  """Rows of a published split file and its label columns in file order."""
  name = PUBLISHED[label_set]
  folder = real_data / "splits" / "ptbxl" / name
  rows = read_rows(folder / f"ptbxl_{name}_{SPLITS[split]}.csv")
  return rows, list(rows[0])[NUM_METADATA_COLUMNS:]


def split_of(fold):
  return {"9": "validation", "10": "test"}.get(fold, "train")


def build_subset(rate, source, data_dir):
  """Builds all of `source`; split -> id -> record."""
  dataset = f"ptb_xl/{rate}hz"
  build.build(dataset, manual_dir=source, data_dir=data_dir, max_rejected=0.0)
  return data_sets.read(dataset, data_dir)[1]
