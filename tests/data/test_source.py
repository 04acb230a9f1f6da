import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.data import schema
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError


def assert_same_record(record, want):
  assert set(record) == set(want)
  for key in ("id", "subject_id", "report"):
    assert record[key] == want[key]
    assert isinstance(record[key], str)
  for key in ("ecg", "lead_valid"):
    np.testing.assert_array_equal(record[key], want[key], strict=True)
  assert set(record["labels"]) == set(want["labels"])
  for key, row in want["labels"].items():
    np.testing.assert_array_equal(record["labels"][key], row, strict=True)


def test_records_are_those_written(tiny):
  for split, records in tiny.records.items():
    source = EcgSource("tiny_ecg", split, tiny.data_dir)
    assert len(source) == len(records)
    for i in range(len(source)):
      assert_same_record(source[i], records[source[i]["id"]])
    assert {source[i]["id"] for i in range(len(source))} == set(records)


def test_parses_like_tfds(tiny):
  builder = tfds.builder("tiny_ecg", data_dir=tiny.data_dir)
  oracle = builder.as_data_source("train")
  source = EcgSource("tiny_ecg", "train", tiny.data_dir)
  for i, want in enumerate(oracle):
    for key in ("id", "subject_id", "report"):
      want[key] = want[key].decode()
    assert_same_record(source[i], want)


def test_parts_of_a_record(tiny):
  source = EcgSource("tiny_ecg", "train", tiny.data_dir)
  parts = {**source.annotations(3), **source.signal(np.int64(3))}
  assert_same_record(parts, source[3])
  assert source[-1]["id"] == source[len(source) - 1]["id"]
  with pytest.raises(IndexError, match="record 37 of 37"):
    source[37]


def test_attributes(tiny):
  source = EcgSource("tiny_ecg:1.2.0", "train", str(tiny.data_dir))
  assert source.name == "tiny_ecg/1.2.0"
  assert source.sampling_rate == 100
  assert source.num_samples == 50
  assert list(source.label_sets) == ["superclass", "rhythm"]
  assert source.label_sets["rhythm"] == ("SR", "AFIB")
  assert source.label_mode == "fixed"  # of a data set that does not say
  assert EcgSource("merl_ecg", "test", tiny.data_dir).label_mode == (
    "merl_compat"
  )


def test_slices(tiny):
  def ids(split):
    source = EcgSource("tiny_ecg", split, tiny.data_dir)
    return [source[i]["id"] for i in range(len(source))]

  whole = ids("train")
  assert ids("train[:10]") == whole[:10]
  assert ids("train[10:]") == whole[10:]
  assert len(ids("train[:25%]")) == 9
  assert ids("train+test") == whole + ids("test")


def test_pickles_small(tiny):
  source = EcgSource("tiny_ecg", "train", tiny.data_dir)
  source[0]  # opens a file, which must not travel
  data = pickle.dumps(source)
  assert len(data) < 10_000
  assert_same_record(pickle.loads(data)[5], source[5])


@pytest.mark.parametrize(
  ("dataset", "split", "message"),
  [
    (
      "other_ecg",
      "train",
      r"no data set 'other_ecg' in .*found: merl_ecg, tiny_ecg, wrong_unit_"
      r"ecg.*python -m data_builders.build --dataset=other_ecg --data_dir=/",
    ),
    ("tiny_ecg/100hz", "train", r"no data set .*found: tiny_ecg/1\.2\.0"),
    ("tiny_ecg:9.9.9", "train", r"no data set 'tiny_ecg:9.9.9'"),
    ("not a name", "train", "no data set 'not a name'"),
    (
      "tiny_ecg",
      "val",
      r"no split 'val' in tiny_ecg/1.2.0; it has train \(37 records\), test",
    ),
    ("tiny_ecg", "train[:38]", "no split"),
    ("tiny_ecg", "train[:x]", "no split"),
    ("tiny_ecg", "train[:0]", "no records in split"),
    ("wrong_unit_ecg", "train", "unit is mV, expected uV"),
  ],
)
def test_mistakes_are_told_in_one_line(tiny, dataset, split, message):
  with pytest.raises(UserError, match=message) as e:
    EcgSource(dataset, split, tiny.data_dir)
  assert "\n" not in str(e.value)


def test_refuses_records_of_another_schema(tiny, monkeypatch):
  features = schema.features

  def with_age(*args):
    return tfds.features.FeaturesDict(
      {**features(*args), "age": tfds.features.Scalar(np.int32)}
    )

  monkeypatch.setattr(schema, "features", with_age)
  with pytest.raises(UserError, match="do not follow cgdmer_jax/data"):
    EcgSource("tiny_ecg", "train", tiny.data_dir)


def test_no_data_dir(tmp_path):
  with pytest.raises(UserError, match="no data set 'tiny_ecg' in .*; build it"):
    EcgSource("tiny_ecg", "train", tmp_path / "missing")


def test_needs_no_tensorflow(tiny):
  code = (
    "import sys; from cgdmer_jax.data.source import EcgSource;"
    f"EcgSource('tiny_ecg', 'train', {str(tiny.data_dir)!r})[0];"
    "sys.exit('tensorflow' in sys.modules)"
  )
  subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_failed_build_leaves_is_no_data_set(tmp_path):
  (tmp_path / "csn/100hz/incomplete").mkdir(parents=True)
  with pytest.raises(UserError) as error:
    EcgSource("ptb_xl/100hz", "train", tmp_path)
  assert "found" not in str(error.value)
