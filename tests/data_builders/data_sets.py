"""Reading data sets that tests have built."""

import tensorflow_datasets as tfds


def read(dataset, data_dir):
  """Its info, and split -> id -> record."""
  builder = tfds.builder(dataset, data_dir=data_dir)
  members = {
    split: {e["id"].decode(): e for e in builder.as_data_source(split)}
    for split in builder.info.splits
  }
  return builder.info, members


def every(members):
  """Id -> record of all splits."""
  return {i: e for split in members.values() for i, e in split.items()}
