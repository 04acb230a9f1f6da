"""The same recording under several ids."""

import itertools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from data_builders import build, duplicates, records, shards, splits
from data_builders.csn import csn_dataset_builder as csn
from tests.data_builders import (
  cinc_corpus,
  data_sets,
  mimic_iv_ecg_corpus,
  ptb_xl_corpus,
)

ROOT = build.__file__.rsplit(os.sep, 2)[0]
NUMBER = 60


def split_numbers():
  """Split -> numbers of its records, before any is left out."""
  ids = [cinc_corpus.name_of("csn", i) for i in range(1, NUMBER + 1)]
  found = splits.stratified(
    ids, np.zeros((NUMBER, 38), np.uint8), [""] * NUMBER
  )
  return {
    split: [i for i, name in enumerate(ids, 1) if found[name] == split]
    for split in splits.FRACTIONS
  }


SPLITS = split_numbers()
TRAIN, VALIDATION, TEST = SPLITS.values()
# Copies: train and test, train and validation, all three, within train.
GROUPS = [
  (TRAIN[0], TEST[0]),
  (TRAIN[1], VALIDATION[0]),
  (TRAIN[2], TRAIN[3], VALIDATION[1], TEST[1], TEST[2]),
  (TRAIN[4], TRAIN[5]),
]
KEPT = [TEST[0], VALIDATION[0], TEST[1], TRAIN[4]]
LEFT_OUT = {i for group in GROUPS for i in group} - set(KEPT)


def signals(seconds=10):
  found = {i: cinc_corpus.signal(i, seconds) for i in range(1, NUMBER + 1)}
  for first, *others in GROUPS:
    found |= dict.fromkeys(others, found[first])
  return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  cinc_corpus.write(folder, "csn", signals())
  return folder


@pytest.fixture
def small_shards(monkeypatch):
  monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 24_000)


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def files(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


def assert_no_copies(members):
  """By the bytes of all records, whatever was listed."""
  seen = {}
  for record_id, example in data_sets.every(members).items():
    other = seen.setdefault(example["ecg"].tobytes(), record_id)
    assert other == record_id


def test_one_copy_is_kept_where_splits_are_ours(
  corpus, tmp_path, small_shards, capsys
):
  final = cinc_corpus.build_set(corpus, tmp_path)
  info, members = data_sets.read("csn/100hz", tmp_path)
  assert_no_copies(members)
  kept = {int(i[2:]) for i in data_sets.every(members)}
  assert kept == set(range(1, NUMBER + 1)) - LEFT_OUT
  for split, numbers in SPLITS.items():  # nobody has changed places
    expected = {cinc_corpus.name_of("csn", i) for i in numbers if i in kept}
    assert members[split].keys() == expected
    assert info.splits[split].num_examples == len(expected)
  names = [[cinc_corpus.name_of("csn", i) for i in g] for g in GROUPS]
  listed = {tuple(x["ids"]): x for x in lines(final / "duplicates.jsonl")}
  assert listed.keys() == set(map(tuple, names))
  entry = listed[tuple(names[2])]
  assert entry["splits"] == ["train", "train", "validation", "test", "test"]
  assert entry["left_out"] == [*names[2][:3], names[2][4]]
  assert entry["same_labels"] is True
  rejected = lines(final / "rejected.jsonl")
  assert {int(r["id"][2:]) for r in rejected} == LEFT_OUT
  assert {r["reason"] for r in rejected} == {"duplicate"}
  assert f"same recording as {names[0][1]}" in [r["detail"] for r in rejected]
  assert info.metadata["duplicates"] == {
    "recordings": 4, "records": 11, "in_several_splits": 3, "left_out": 7,
  }  # fmt: skip
  out = capsys.readouterr().out
  assert "rejected 0 of 60: none\nleft out 7: duplicate 7\n" in out
  assert (
    "duplicates: 11 records of 4 recordings, 3 of them in several splits"
    " (train and test 1, train and validation 1, train and validation and"
    " test 1), for instance "
  ) in out
  assert f"7 records were left out, one of each is kept; see {final}/dup" in out


BUILD = """
import sys
from data_builders import build, records, shards
shards.SHARD_BYTES = 5 * 24_000
records._JOBS_PER_WORKER = 8
if __name__ == "__main__":
  build.build(
    "csn/100hz", manual_dir=sys.argv[1], data_dir=sys.argv[2], num_workers=2
  )
"""


def test_same_bytes_for_any_number_of_workers(corpus, tmp_path, small_shards):
  alone = cinc_corpus.build_set(corpus, tmp_path / "a")
  command = [sys.executable, "-c", BUILD, str(corpus), str(tmp_path / "b")]
  subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
  assert files(alone) == files(tmp_path / "b" / "csn" / "100hz" / "1.0.0")


def test_same_bytes_with_beam(corpus, tmp_path, small_shards):
  alone = cinc_corpus.build_set(corpus, tmp_path / "a")
  options = ["direct_num_workers=2", "direct_running_mode=multi_processing"]
  beam = cinc_corpus.build_set(
    corpus, tmp_path / "b", beam_runner="DirectRunner", beam_options=options
  )
  assert files(alone) == files(beam)


@pytest.mark.parametrize("num_written", [5, 12, 14])
def test_stopped_build_goes_on(
  corpus, tmp_path, small_shards, monkeypatch, capsys, num_written
):
  """Stopped among the first shards, and among those written without copies."""
  whole = cinc_corpus.build_set(corpus, tmp_path / "whole")
  write, written = shards.Writer._write, itertools.count()

  def stop(self, path, jobs):
    if next(written) == num_written:
      raise KeyboardInterrupt
    return write(self, path, jobs)

  with monkeypatch.context() as m:
    m.setattr(shards.Writer, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
      cinc_corpus.build_set(corpus, tmp_path)
  capsys.readouterr()
  final = cinc_corpus.build_set(corpus, tmp_path)
  assert files(final) == files(whole)
  out = capsys.readouterr().out
  assert f"{num_written} shards were kept from a build that was stopped" in out


def test_labels_that_differ_are_told(tmp_path):
  mv = signals()
  cinc_corpus.write(tmp_path / "in", "csn", mv)
  name = cinc_corpus.name_of("csn", GROUPS[0][0])
  cinc_corpus.write_record(
    tmp_path / "in", name, mv[GROUPS[0][0]], code="164889003"
  )
  final = cinc_corpus.build_set(tmp_path / "in", tmp_path)
  same = [x["same_labels"] for x in lines(final / "duplicates.jsonl")]
  assert sorted(same) == [False, True, True, True]


@pytest.mark.parametrize("rate", [100, 500])
def test_recordings_whose_end_was_cut(tmp_path, rate):
  """CPSC2018 pads short recordings and crops long ones."""
  mv = {i: cinc_corpus.signal(i, 12) for i in range(1, NUMBER + 1)}
  seconds = {1: 12, 2: 10, 3: 7, 4: 5}
  mv |= {i: mv[1][: 500 * s] for i, s in seconds.items()}
  mv[6] = mv[5].copy()
  mv[6][250, 3] += 0.1  # not the same
  cinc_corpus.write(tmp_path / "in", "cpsc2018", mv)
  final = cinc_corpus.build_set(
    tmp_path / "in", tmp_path, "cpsc2018", rate=rate
  )
  (entry,) = lines(final / "duplicates.jsonl")
  assert set(entry["ids"]) == {"A0001", "A0002", "A0003", "A0004"}
  _, members = data_sets.read(f"cpsc2018/{rate}hz", tmp_path)
  assert len(data_sets.every(members)) == NUMBER - 3


def test_patients_of_mimic(tmp_path, monkeypatch):
  """Two patients, or one, with the same recording."""
  source = tmp_path / "in"
  source.mkdir()
  mimic_iv_ecg_corpus.write(source)
  studies = mimic_iv_ecg_corpus.studies()
  first, second, last = studies[0], studies[1], studies[-1]
  for subject, study in (second, last):
    path = source / mimic_iv_ecg_corpus.record_row(subject, study)["path"]
    mv = mimic_iv_ecg_corpus.signal(first[1])
    mimic_iv_ecg_corpus.write_record(path, mv)
  members = mimic_iv_ecg_corpus.read(source, tmp_path, "100hz")
  assert_no_copies(members)
  left_out = {study for _, study in studies} - data_sets.every(members).keys()
  assert left_out == {first[1], second[1]}


def test_ptb_xl_keeps_the_copy_of_the_later_fold(tmp_path, capsys):
  source = tmp_path / "in"
  source.mkdir()
  ptb_xl_corpus.write(source)
  path = source / "records100" / "00000" / "00018_lr"
  mv = ptb_xl_corpus.signal(2, 100)  # record 2 is in fold 2, 18 in fold 10
  ptb_xl_corpus.write_record(path, mv, 100)
  final = build.build("ptb_xl/100hz", manual_dir=source, data_dir=tmp_path)
  _, members = data_sets.read("ptb_xl/100hz", tmp_path)
  assert "18" in members["test"] and "2" not in members["train"]
  assert [x["id"] for x in lines(final / "rejected.jsonl")] == ["2"]
  out = capsys.readouterr().out
  assert "for instance 2 (train) = 18 (test)" in out
  assert "1 records were left out, one of each is kept" in out


@pytest.fixture
def published(tmp_path, capsys):
  """A data set with published splits and a copy across them."""
  source = tmp_path / "in"
  dataset = "csn/500hz_merl_compat"
  cinc_corpus.write(source, "csn", signals())
  write_tables(tmp_path / "tables")
  ids = [cinc_corpus.name_of("csn", i) for i in GROUPS[0]]
  final = build.build(
    dataset,
    manual_dir=source,
    data_dir=tmp_path,
    splits_dir=tmp_path / "tables",
  )
  return final, dataset, ids, capsys.readouterr().out


def write_tables(folder):
  """Published tables of the same splits as ours."""
  folder.mkdir()
  names = {"train": "train", "validation": "val", "test": "test"}
  for split, name in names.items():
    rows = [
      {"ecg_path": f"/x/{cinc_corpus.name_of('csn', i)}.mat"}
      | dict.fromkeys(csn.CODES, "0")
      for i in SPLITS[split]
    ]
    ptb_xl_corpus.write_csv(folder / f"chapman_{name}.csv", rows)


def test_published_splits_stay_and_the_leak_is_told(published, tmp_path):
  final, dataset, ids, out = published
  info, members = data_sets.read(dataset, tmp_path)
  assert len(data_sets.every(members)) == NUMBER
  entries = {x["ids"][0]: x for x in lines(final / "duplicates.jsonl")}
  entry = entries[ids[0]]
  assert (entry["ids"], entry["splits"]) == (ids, ["train", "test"])
  assert not any(x["left_out"] for x in entries.values())
  assert lines(final / "rejected.jsonl") == []
  assert info.metadata["duplicates"]["in_several_splits"] >= 1
  assert info.metadata["duplicates"]["left_out"] == 0
  assert f"for instance {ids[0]} (train) = {ids[1]} (test)" in out
  assert "the splits are published ones, so all are kept; see" in out


def test_without_copies_there_is_no_line(tmp_path, capsys):
  mv = {i: cinc_corpus.signal(i) for i in range(1, 21)}
  cinc_corpus.write(tmp_path / "in", "csn", mv)
  final = cinc_corpus.build_set(tmp_path / "in", tmp_path)
  assert "\nduplicate" not in capsys.readouterr().out
  assert (final / "duplicates.jsonl").read_text() == ""


@pytest.mark.parametrize("seed", range(20))
def test_equal_rows(seed):
  """Against a dictionary."""
  rng = np.random.default_rng(seed)
  rows = rng.integers(0, 3, (rng.integers(0, 30), 2)).astype(np.uint64)
  expected = {}
  for i, row in enumerate(rows.tolist()):
    expected.setdefault(tuple(row), []).append(i)
  expected = [numbers for numbers in expected.values() if len(numbers) > 1]
  assert [g.tolist() for g in duplicates.equal_rows(rows)] == expected


def test_only_damaged_shards_are_read_for_ids():
  """Rejected records have no identity, and the others keep theirs."""
  jobs = [records.RecordJob(str(i), pathlib.Path(), "", "", {}) for i in "abcd"]
  rejection = records.rejects.Rejection("b", "truncated", "")
  key = {x: bytes([ord(x)] * 16).hex() for x in "acd"} | {"d": "61" * 16}
  outcome = shards.Outcome(3, 0, (rejection,), "".join(key.values()))
  plan = {"train": [shards.Shard(pathlib.Path("x"), jobs)]}
  (group,) = duplicates.find(plan, {"train": [outcome]})
  assert [r.job.id for r in group.records] == ["a", "d"]
  assert [r.job.id for r in group.keep_one().left_out] == ["d"]
