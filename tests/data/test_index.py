import os
import pathlib

import numpy as np
import pytest

from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data.source import EcgSource


def assert_same(a, b):
  np.testing.assert_array_equal(a.ids, b.ids)
  np.testing.assert_array_equal(a.subject_ids, b.subject_ids)
  np.testing.assert_array_equal(a.report_ids, b.report_ids, strict=True)
  np.testing.assert_array_equal(a.recordings, b.recordings, strict=True)
  assert a.reports == b.reports
  assert list(a.labels) == list(b.labels)
  for key in a.labels:
    np.testing.assert_array_equal(a.labels[key], b.labels[key], strict=True)


def cache_file(data_dir) -> pathlib.Path:
  (path,) = data_dir.rglob("cgdmer_index/*")
  return path


def count_builds(monkeypatch) -> list:
  builds = []
  build = index_lib.build_index
  monkeypatch.setattr(
    index_lib, "build_index", lambda s: builds.append(s) or build(s)
  )
  return builds


def test_index_says_what_the_records_say(tiny):
  source = EcgSource("tiny_ecg", "train", tiny.data_dir)
  index = index_lib.build_index(source)
  assert len(index) == 37
  for i in range(len(source)):
    record = tiny.records["train"][index.ids[i]]
    assert index.ids[i] == source[i]["id"]
    assert index.subject_ids[i] == record["subject_id"]
    assert index.reports[index.report_ids[i]] == record["report"]
    for key, row in record["labels"].items():
      np.testing.assert_array_equal(index.labels[key][i], row, strict=True)


def test_report_ids_are_equal_exactly_for_equal_texts(tiny):
  source = EcgSource("tiny_ecg", "train", tiny.data_dir)
  index = index_lib.build_index(source)
  texts = np.array([source[i]["report"] for i in range(len(source))])
  assert len(set(texts)) == len(index.reports) == 5
  np.testing.assert_array_equal(
    index.report_ids[:, None] == index.report_ids, texts[:, None] == texts
  )


def test_second_load_reads_the_cache(rewrite, monkeypatch):
  data_dir = rewrite()
  builds = count_builds(monkeypatch)
  source = EcgSource("tiny_ecg", "train", data_dir)
  first = index_lib.load_index(source)
  second = index_lib.load_index(EcgSource("tiny_ecg", "train", data_dir))
  assert len(builds) == 1
  assert_same(first, second)
  part = index_lib.load_index(EcgSource("tiny_ecg", "train[:4]", data_dir))
  assert len(builds) == 2
  np.testing.assert_array_equal(part.ids, first.ids[:4])


def test_cache_is_renewed_with_the_data(rewrite, monkeypatch):
  data_dir = rewrite()
  builds = count_builds(monkeypatch)
  index_lib.load_index(EcgSource("tiny_ecg", "train", data_dir))
  shard = next(data_dir.rglob("*train.array_record*"))
  os.utime(shard, (1, 1))  # copied, or touched
  index_lib.load_index(EcgSource("tiny_ecg", "train", data_dir))
  assert len(builds) == 1
  other = next(data_dir.rglob("*test.array_record*"))
  other.write_bytes(other.read_bytes() + b"more")  # as if built again
  index_lib.load_index(EcgSource("tiny_ecg", "train", data_dir))
  assert len(builds) == 2
  assert len(list(data_dir.rglob("cgdmer_index/*"))) == 1


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"noise"])
def test_broken_cache_is_rebuilt(rewrite, content):
  data_dir = rewrite()
  source = EcgSource("tiny_ecg", "train", data_dir)
  want = index_lib.load_index(source)
  cache_file(data_dir).write_bytes(content)
  assert_same(index_lib.load_index(source), want)
  assert cache_file(data_dir).stat().st_size > len(content)


def test_cache_elsewhere_for_read_only_data(rewrite, monkeypatch, tmp_path):
  data_dir = rewrite()
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  builds = count_builds(monkeypatch)
  source = EcgSource("tiny_ecg", "train", data_dir)
  # A file where the directory should be: nobody can write there, root included.
  (pathlib.Path(source.path) / "cgdmer_index").write_text("")
  index_lib.load_index(source)
  index_lib.load_index(source)
  assert len(builds) == 1
  assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1
