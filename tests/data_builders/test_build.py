"""Builds of a small PTB-XL: whole, with rejects, killed, overwritten."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from data_builders import build, locks, records, rejects, scp, shards
from tests.data_builders import ptb_xl_corpus

ROOT = build.__file__.rsplit(os.sep, 2)[0]


@pytest.fixture(autouse=True)
def set_up(monkeypatch):
  monkeypatch.setattr(records, "_JOBS_PER_WORKER", 8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  ptb_xl_corpus.write(folder)
  return folder


@pytest.fixture
def own_corpus(corpus, tmp_path):
  """A copy that a test may damage."""
  return shutil.copytree(corpus, tmp_path / "own")


@pytest.fixture(scope="module")
def built(corpus, tmp_path_factory):
  """The data set, built once in this process."""
  return ptb_xl_corpus.build_set(corpus, tmp_path_factory.mktemp("built"))


def _read(final):
  """Every record by id, split by split."""
  builder = tfds.builder("ptb_xl/100hz", data_dir=final.parents[2])
  return {
    split: {e["id"].decode(): e for e in builder.as_data_source(split)}
    for split in builder.info.splits
  }


def _files(folder):
  return {
    str(f.relative_to(folder)): f.read_bytes()
    for f in sorted(folder.rglob("*"))
    if f.is_file()
  }


def _rejected(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _remains(data_dir):
  """What a failed build leaves under `data_dir`, apart from its lock."""
  found = [p.relative_to(data_dir) for p in data_dir.rglob("*") if p.is_file()]
  return {str(p) for p in found if p.name != ".lock"}


def test_round_trip(built):
  splits = _read(built)
  assert list(splits) == ["train", "validation", "test"]
  seen = {}
  for split, members in splits.items():
    for record_id, example in members.items():
      i = int(record_id)
      fold = {9: "validation", 10: "test"}.get(ptb_xl_corpus.FOLDS[i], "train")
      assert split == fold
      uv = np.rint(1e3 * ptb_xl_corpus.signal(i, 100).T)
      assert example["ecg"].dtype == np.int16
      np.testing.assert_array_equal(example["ecg"], uv)
      assert example["lead_valid"].dtype == bool and example["lead_valid"].all()
      assert example["report"].decode() == f"Bericht {i} überdreht"
      assert example["subject_id"].decode() == str(i // 2)
      expected = scp.labels((ptb_xl_corpus.CODES[i % 5], "SR"))
      assert example["labels"].keys() == expected.keys()
      for name, vector in expected.items():
        assert example["labels"][name].dtype == np.uint8
        np.testing.assert_array_equal(example["labels"][name], vector)
      seen.setdefault(example["subject_id"], set()).add(split)
  assert sum(map(len, splits.values())) == len(ptb_xl_corpus.FOLDS)
  assert all(len(s) == 1 for s in seen.values())


def test_metadata_says_how_to_read_the_records(built):
  info = tfds.builder("ptb_xl/100hz", data_dir=built.parents[2]).info
  assert info.metadata["leads"] == list(LEADS)
  assert info.metadata["unit"] == "uV"
  assert info.metadata["sampling_rate"] == 100
  assert info.metadata["label_sets"]["superclass"] == list(
    scp.LABEL_SETS["superclass"]
  )
  assert "interpolated" in info.metadata["cleaning"]
  assert _rejected(built / "rejected.jsonl") == []


def test_existing_data_set_is_left_alone(corpus, built, capsys):
  before = {f: f.stat().st_mtime_ns for f in built.iterdir()}
  assert ptb_xl_corpus.build_set(corpus, built.parents[2]) == built
  assert capsys.readouterr().out == f"already built at {built}\n"
  assert {f: f.stat().st_mtime_ns for f in built.iterdir()} == before


def test_same_bytes_in_every_process_for_any_number_of_workers(
  corpus, built, tmp_path
):
  code = """
import sys
from data_builders import build, records
if __name__ == "__main__":
  records._JOBS_PER_WORKER = 8
  build.build(
    "ptb_xl/100hz", manual_dir=sys.argv[1], data_dir=sys.argv[2], num_workers=2
  )
"""
  command = [sys.executable, "-c", code, str(corpus), str(tmp_path)]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  other = _files(tmp_path / "ptb_xl" / "100hz" / "1.0.0")
  assert other == _files(built)
  assert sum(".array_record" in name for name in other) == 3


def _damage(corpus):
  """Makes six records unusable; returns id -> reason."""
  folder = corpus / "records100" / "00000"
  rows = [ptb_xl_corpus.row(i) for i in ptb_xl_corpus.FOLDS]
  by_id = {r["ecg_id"]: r for r in rows}
  by_id["3"]["scp_codes"] = "{'NORM': 100.0, 'UNHEARD': 0.0}"
  by_id["4"]["scp_codes"] = "{'NORM': "
  by_id["5"]["strat_fold"] = "11"
  ptb_xl_corpus.write_csv(corpus / "ptbxl_database.csv", rows)
  (folder / "00010_lr.hea").unlink()
  data = folder / "00020_lr.dat"
  data.write_bytes(data.read_bytes()[:-1])
  ptb_xl_corpus.write_record(folder / "00030_lr", np.zeros((1000, 12)), 100)
  return {
    "3": "bad_metadata",
    "4": "bad_metadata",
    "5": "bad_metadata",
    "10": "missing_file",
    "20": "truncated",
    "30": "no_signal",
  }


def test_rejected_records_are_counted_and_listed(own_corpus, tmp_path, capsys):
  expected = _damage(own_corpus)
  final = ptb_xl_corpus.build_set(
    own_corpus, tmp_path / "data", max_rejected=0.1
  )
  listed = _rejected(final / "rejected.jsonl")
  assert {r["id"]: r["reason"] for r in listed} == expected
  assert all(r["detail"] for r in listed)
  ids = {i for members in _read(final).values() for i in members}
  assert ids == set(map(str, ptb_xl_corpus.FOLDS)) - expected.keys()
  out = capsys.readouterr().out
  assert (
    "rejected 6 of 60: bad_metadata 3, missing_file 1, no_signal 1, truncated 1"
    in out
  )


@pytest.mark.parametrize("num_workers", [1, 2])
def test_too_many_rejected_leaves_nothing(own_corpus, tmp_path, num_workers):
  _damage(own_corpus)
  data_dir = tmp_path / "data"
  with pytest.raises(UserError, match="max_rejected=0.09") as error:
    ptb_xl_corpus.build_set(
      own_corpus, data_dir, max_rejected=0.09, num_workers=num_workers
    )
  listing = data_dir / "ptb_xl" / "100hz" / "rejected.jsonl"
  assert str(listing) in str(error.value) and "truncated 1" in str(error.value)
  assert len(_rejected(listing)) == 6
  assert _remains(data_dir) == {"ptb_xl/100hz/rejected.jsonl"}
  # Once they are allowed, the list moves into the data set.
  final = ptb_xl_corpus.build_set(own_corpus, data_dir, max_rejected=0.1)
  assert not listing.exists() and (final / "rejected.jsonl").exists()


def test_workers_end_before_the_error(own_corpus, tmp_path, monkeypatch):
  outcomes = []

  def run(function, arguments, num_workers):
    outcomes.append(function(argument) for argument in arguments)
    return outcomes[0]

  monkeypatch.setattr(records.processes, "run", run)
  monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 24_000)
  _damage(own_corpus)
  with pytest.raises(UserError, match="max_rejected"):
    ptb_xl_corpus.build_set(own_corpus, tmp_path, max_rejected=0.09)
  assert inspect.getgeneratorstate(outcomes[0]) == inspect.GEN_CLOSED


def test_split_without_usable_records(own_corpus, tmp_path):
  for path in own_corpus.rglob("*.dat"):
    path.unlink()
  with pytest.raises(
    UserError, match="none of the 48 records.*missing_file 60"
  ):
    ptb_xl_corpus.build_set(own_corpus, tmp_path / "data", max_rejected=1.0)


def test_long_details_are_cut(tmp_path):
  found = rejects.Rejects(1.0)
  found.add("1", "unreadable", "x" * 10**6)
  found.write(tmp_path / "list")
  (entry,) = _rejected(tmp_path / "list")
  assert entry["reason"] == "unreadable" and 100 < len(entry["detail"]) < 1000


def test_rows_that_are_all_unusable(own_corpus, tmp_path):
  rows = [ptb_xl_corpus.row(i) | {"strat_fold": "?"} for i in range(2, 62)]
  ptb_xl_corpus.write_csv(own_corpus / "ptbxl_database.csv", rows)
  with pytest.raises(UserError, match="60 of the first 60.*bad_metadata 60"):
    ptb_xl_corpus.build_set(own_corpus, tmp_path)
  assert len(_rejected(tmp_path / "ptb_xl" / "100hz" / "rejected.jsonl")) == 60


def test_failed_overwrite_keeps_the_old_data_set(own_corpus, tmp_path):
  final = ptb_xl_corpus.build_set(own_corpus, tmp_path / "data")
  before = _files(final)
  _damage(own_corpus)
  with pytest.raises(UserError, match="max_rejected"):
    ptb_xl_corpus.build_set(own_corpus, tmp_path / "data", overwrite=True)
  assert _files(final) == before
  ptb_xl_corpus.build_set(
    own_corpus, tmp_path / "data", overwrite=True, max_rejected=0.1
  )
  assert len(_rejected(final / "rejected.jsonl")) == 6
  assert sorted(p.name for p in final.parent.iterdir()) == ["1.0.0"]


def test_failure_at_the_end_leaves_no_data_set(corpus, tmp_path, monkeypatch):
  def fail(*_):
    raise RuntimeError("disk full")

  with monkeypatch.context() as m:
    m.setattr(build, "_publish", fail)
    with pytest.raises(RuntimeError, match="disk full"):
      ptb_xl_corpus.build_set(corpus, tmp_path)
  assert not (tmp_path / "ptb_xl" / "100hz" / "1.0.0").exists()
  final = ptb_xl_corpus.build_set(corpus, tmp_path)
  assert sorted(p.name for p in final.parent.iterdir()) == ["1.0.0"]


SLOW_BUILD = """
import sys, time
from cgdmer_jax.recordings import codec
from data_builders import build, records, shards

records._JOBS_PER_WORKER = 8
shards.SHARD_BYTES = 5 * 24_000
encode = codec.encode

def slow(*args):
  time.sleep(0.02)
  return encode(*args)

codec.encode = slow

if __name__ == "__main__":
  build.build(
    "ptb_xl/100hz", manual_dir=sys.argv[1], data_dir=sys.argv[2],
    num_workers=int(sys.argv[3]),
  )
"""


@pytest.mark.parametrize(("num_workers", "num_finished"), [(1, 5), (2, 3)])
def test_killed_build_goes_on(
  corpus, tmp_path, monkeypatch, capsys, num_workers, num_finished
):
  """SIGKILL, then the same command: the bytes of an undisturbed build."""
  monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 24_000)
  whole = ptb_xl_corpus.build_set(corpus, tmp_path / "whole")
  script = tmp_path / "slow.py"
  script.write_text(SLOW_BUILD)
  folder = tmp_path / "ptb_xl" / "100hz"
  process = subprocess.Popen(
    [sys.executable, script, corpus, tmp_path, str(num_workers)],
    env=os.environ | {"PYTHONPATH": ROOT},
    stderr=subprocess.DEVNULL,
  )
  _kill_when(process, lambda: len(_notes(folder)) >= num_finished)
  assert not (folder / "1.0.0").exists()
  time.sleep(0.5)  # the workers notice and end
  finished = {p.with_suffix("").stat().st_ino for p in _notes(folder)}
  assert num_finished <= len(finished) < 12
  final = ptb_xl_corpus.build_set(corpus, tmp_path)
  assert _files(final) == _files(whole)
  assert (
    f"{len(finished)} shards were kept from a build" in capsys.readouterr().out
  )
  assert finished <= {p.stat().st_ino for p in final.iterdir()}
  assert sorted(p.name for p in folder.iterdir()) == ["1.0.0"]


def _notes(folder):
  """Notes of finished shards."""
  return list(folder.glob("incomplete/*/*/shards_*/[!.]*.json"))


def _kill_when(process, condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.002)
  process.kill()
  process.communicate()


def test_two_builds_of_one_data_set(corpus, tmp_path):
  parent = tmp_path / "ptb_xl" / "100hz"
  parent.mkdir(parents=True)
  with (
    locks.hold(parent / ".lock"),
    pytest.raises(UserError, match="another process"),
  ):
    ptb_xl_corpus.build_set(corpus, tmp_path)
