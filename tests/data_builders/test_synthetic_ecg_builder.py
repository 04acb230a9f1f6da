"""The TFDS builder."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.data.leads import LEADS
from data_builders import build, records, scp, shards
from data_builders.synthetic_ecg import simulator, synthetic_ecg_dataset_builder


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
  assert builder.info.metadata["leads"] == list(LEADS)
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
    order = [int(r["id"].split(b"-")[1]) for r in records]
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


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, monkeypatch):
  monkeypatch.setattr(shards, "SHARD_BYTES", 40 * 24_000)
  monkeypatch.setattr(records, "_JOBS_PER_WORKER", 8)
  alone, together = (
    build.build(
      "synthetic_ecg/tiny",
      data_dir=tmp_path / str(n),
      num_workers=n,
      sizes={"train": 100},
    )
    for n in (1, 2)
  )
  names = sorted(path.name for path in alone.iterdir())
  assert sum("-of-00003" in name for name in names) == 3
  for name in names:
    assert (alone / name).read_bytes() == (together / name).read_bytes()


def test_split_starts_never_cut_a_patient():
  for start in synthetic_ecg_dataset_builder.FIRST_INDEX.values():
    assert simulator.subject(start) == start


def test_configs():
  configs = synthetic_ecg_dataset_builder.Builder.builder_configs
  assert set(configs) == {
    "tiny", "demo", "quality", "large", "tiny_500hz", "demo_500hz",
  }  # fmt: skip
  assert configs["large"].num_train == 400_000
  demo, quality = configs["demo"], configs["quality"]
  assert quality.num_train == 5 * demo.num_train
  assert quality.num_test == 2 * demo.num_test
  assert configs["tiny_500hz"].sampling_rate == 500
