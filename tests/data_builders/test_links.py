"""Folders of records that are links, as on shared storage."""

import os

import pytest

from cgdmer_jax.errors import UserError
from data_builders import cinc
from data_builders.csn import csn_dataset_builder as csn
from tests.data_builders import cinc_corpus, data_sets


def found(folder):
  records = cinc.find_records(folder, csn.Builder.RECORD)
  return {name: str(p.relative_to(folder)) for name, p in records.items()}


def touch(folder, *names):
  folder.mkdir(parents=True, exist_ok=True)
  for name in names:
    (folder / f"{name}.hea").touch()
    (folder / f"{name}.mat").touch()


def test_links_to_folders_and_files(tmp_path):
  disks = [tmp_path / "disk0", tmp_path / "disk1" / "deep"]
  touch(disks[0], "JS00001")
  touch(disks[1] / "x", "JS00002")
  touch(tmp_path / "single", "JS00003")
  source = tmp_path / "source"
  touch(source / "own", "JS00004")
  (source / "0").symlink_to(disks[0])
  (source / "own" / "1").symlink_to("../../disk1")  # relative
  (source / "JS00003.hea").symlink_to(tmp_path / "single" / "JS00003.hea")
  (source / "broken").symlink_to(tmp_path / "nothing")
  (tmp_path / "whole").symlink_to(source)
  expected = {
    "JS00001": "0/JS00001",
    "JS00002": "own/1/deep/x/JS00002",
    "JS00003": "JS00003",
    "JS00004": "own/JS00004",
  }
  assert found(source) == expected
  assert found(tmp_path / "whole") == expected


def test_circles_end(tmp_path):
  source, other = tmp_path / "source", tmp_path / "other"
  touch(source / "a" / "b", "JS00001")
  touch(other, "JS00002")
  touch(tmp_path / "beside", "JS00009")
  (source / "a" / "b" / "back").symlink_to(source / "a")
  (source / "a" / "self").symlink_to(".")
  (source / "up").symlink_to(tmp_path)  # nothing beside the source is read
  (source / "root").symlink_to("/")
  (source / "c").symlink_to(other)
  (other / "d").symlink_to(source / "a")  # another name of the same folder
  (other / "up").symlink_to("..")
  names = found(source)
  assert names.keys() == {"JS00001", "JS00002"}


def test_two_names_of_a_folder_are_one(tmp_path):
  touch(tmp_path / "disk", "JS00001")
  source = tmp_path / "source"
  source.mkdir()
  for name in ("a", "b"):
    (source / name).symlink_to(tmp_path / "disk")
  assert found(source) == {"JS00001": "a/JS00001"}
  touch(source / "c", "JS00001")  # a true copy
  with pytest.raises(UserError, match="record JS00001 is in .*/a and in .*/c"):
    found(source)


@pytest.mark.parametrize("corpus", ["csn", "cpsc2018"])
def test_build_of_linked_folders_that_cannot_be_written(corpus, tmp_path):
  disk, source = tmp_path / "disk", tmp_path / "source"
  signals = {i: cinc_corpus.signal(i) for i in range(1, 21)}
  cinc_corpus.write(disk, corpus, signals)
  source.mkdir()
  (source / "WFDBRecords").symlink_to(disk)
  before = sorted(os.listdir(disk))
  for folder in (disk, source):
    folder.chmod(0o555)
  cinc_corpus.build_set(source, tmp_path / "data", corpus)
  _, members = data_sets.read(f"{corpus}/100hz", tmp_path / "data")
  assert len(data_sets.every(members)) == 20
  for folder in (disk, source):
    folder.chmod(0o755)
  assert sorted(os.listdir(disk)) == before
