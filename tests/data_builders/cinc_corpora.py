"""What the tests of CPSC2018 and Chapman-Shaoxing-Ningbo share."""

import csv

import tensorflow_datasets as tfds

# Split -> what the names of the published files end with.
PUBLISHED = {"train": "train", "validation": "val", "test": "test"}


def read_rows(path):
  with path.open(encoding="utf-8-sig", newline="") as f:
    return list(csv.DictReader(f))


def read_built(dataset, data_dir):
  """Its info, and split -> id -> record."""
  builder = tfds.builder(dataset, data_dir=data_dir)
  members = {
    split: {e["id"].decode(): e for e in builder.as_data_source(split)}
    for split in builder.info.splits
  }
  return builder.info, members


def every(members):
  return {i: e for split in members.values() for i, e in split.items()}
