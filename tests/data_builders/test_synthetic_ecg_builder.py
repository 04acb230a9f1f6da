"""The TFDS builder and its worker processes."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_builders import schema, scp
from data_builders.synthetic_ecg import (
  simulator,
  synthetic_ecg_dataset_builder,
  workers,
)


def _same(a, b):
  assert set(a) == set(b)
  for key in a:
    if isinstance(a[key], dict):
      _same(a[key], b[key])
    elif isinstance(a[key], np.ndarray):
      assert a[key].dtype == b[key].dtype
      np.testing.assert_array_equal(a[key], b[key])
    else:
      assert a[key] == b[key]


def test_any_number_of_workers_gives_the_same_records():
  alone = list(workers.records(0, 30, 215, 100, 1))
  assert [r["id"] for r in alone] == [f"0-{i}" for i in range(30, 245)]
  for number in (2, 5):
    together = list(workers.records(0, 30, 215, 100, number))
    assert len(together) == len(alone)
    for a, b in zip(alone, together, strict=True):
      _same(a, b)
  _same(alone[100], simulator.record(0, 130))


def test_workers_end_with_their_reader():
  records = workers.records(0, 0, 100_000, 100, 2)
  assert next(records)["id"] == "0-0"
  records.close()  # would wait for ever if a worker did not end


def test_workers_import_neither_jax_nor_tfds():
  code = (
    "import sys; import data_builders.synthetic_ecg.workers;"
    "heavy = {'jax', 'tensorflow_datasets', 'tensorflow'} & set(sys.modules);"
    "sys.exit(repr(heavy) if heavy else 0)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  builder = synthetic_ecg_dataset_builder.Builder(
    config="tiny", data_dir=str(folder)
  )
  builder.download_and_prepare(file_format="array_record")
  return folder


def test_round_trip(built):
  builder = tfds.builder("synthetic_ecg/tiny", data_dir=str(built))
  assert builder.info.metadata["leads"] == list(schema.LEADS)
  assert builder.info.metadata["sampling_rate"] == 100
  assert builder.info.metadata["label_sets"]["all"] == list(
    scp.LABEL_SETS["all"]
  )
  source = builder.as_data_source()
  first = synthetic_ecg_dataset_builder.FIRST_INDEX
  subjects = {}
  for split, number in (("train", 256), ("validation", 64), ("test", 64)):
    assert len(source[split]) == number
    records = [source[split][i] for i in range(number)]
    order = sorted(int(r["id"].split(b"-")[1]) for r in records)
    assert order == list(range(first[split], first[split] + number))
    subjects[split] = {r["subject_id"] for r in records}
    for r in records[:20]:
      expected = simulator.record(0, int(r["id"].split(b"-")[1]))
      for name in ("id", "subject_id", "report"):
        assert r[name].decode() == expected[name]
      np.testing.assert_array_equal(r["ecg"], expected["ecg"])
      np.testing.assert_array_equal(r["lead_valid"], expected["lead_valid"])
      for name, vector in expected["labels"].items():
        np.testing.assert_array_equal(r["labels"][name], vector)
  assert len(set.union(*subjects.values())) == sum(map(len, subjects.values()))


def test_split_starts_never_cut_a_patient():
  for start in synthetic_ecg_dataset_builder.FIRST_INDEX.values():
    assert simulator.subject(start) == start


def test_configs():
  configs = synthetic_ecg_dataset_builder.Builder.builder_configs
  assert set(configs) == {
    "tiny", "demo", "large", "tiny_500hz", "demo_500hz",
  }  # fmt: skip
  assert configs["large"].num_train == 400_000
  assert configs["tiny_500hz"].sampling_rate == 500
