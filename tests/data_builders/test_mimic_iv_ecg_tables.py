"""MIMIC-IV-ECG: the join of its tables, records left out, and splits."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from data_builders import tables
from data_builders.mimic_iv_ecg import mimic_iv_ecg_dataset_builder as mimic
from tests.data_builders import mimic_iv_ecg_corpus as corpus


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp("source")
  corpus.write(folder)
  return folder


# The join: which patient, report and files belong together.


def _rejected(found, folder):
  path = folder / "rejected.jsonl"
  found.write(path)
  lines = path.read_text().splitlines()
  return {e["id"]: e["detail"] for e in map(json.loads, lines)}


def test_uncertain_matches_are_rejected(tmp_path):
  listed, measured = corpus.rows()
  ids = [row["study_id"] for row in listed]
  del measured[0]
  measured[0]["subject_id"] = "10009999"  # the second study
  measured.append(measured[1])  # the third
  listed.append(listed[3])
  listed[4]["path"] = f"files/p1000/../{ids[4]}"
  listed[5]["path"] = listed[6]["path"]
  listed[7]["path"] = f"/{ids[7]}"
  listed[8]["subject_id"] = ""
  unlisted = listed.pop(9)["study_id"]
  corpus.write_tables(tmp_path, listed, measured)
  jobs, found = corpus.listed(tmp_path)
  details = _rejected(found, tmp_path)
  for i, text in {
    0: "is not in machine_measurements.csv",
    1: "and of 10009999 in machine_measurements.csv",
    2: "is in machine_measurements.csv repeatedly",
    3: "is in record_list.csv repeatedly",
    4: "has the path 'files/p1000/../",
    5: "has the path 'files/",
    7: "has the path '/",
    8: "subject ''",
  }.items():
    assert text in details[ids[i]]
  assert found.counts == {"bad_metadata": 9}  # both rows of the fourth study
  assert not jobs.keys() & details.keys()
  assert unlisted not in jobs.keys() | details.keys()
  assert jobs.keys() == {*ids[6:7], *ids[10:]}


def test_a_table_of_other_studies_fails_the_build(source, tmp_path):
  folder = shutil.copytree(source, tmp_path / "own")
  _, measured = corpus.rows()
  for row in measured[::2]:  # one record of each patient
    row["study_id"] = str(int(row["study_id"]) + 1)
  corpus.write_csv(folder / "machine_measurements.csv", measured)
  message = "9 of the first 9 of 18 records cannot be used .bad_metadata 9"
  with pytest.raises(UserError, match=message):
    corpus.read(folder, tmp_path / "d", "100hz")


@pytest.mark.parametrize(
  "name", ["record_list.csv", "machine_measurements.csv"]
)
def test_other_tables_are_an_error(tmp_path, name):
  listed, measured = corpus.rows()
  for content, message in (
    (None, f"no {name} in "),
    (b"", "has no column 'subject_id'"),
    (b"study_id,subject_id\n1,2\n", "has no column '(path|report_0)'"),
    (b"subject_id,study_id,\xff\n", "is not a table of MIMIC-IV-ECG"),
  ):
    corpus.write_tables(tmp_path, listed, measured)
    (tmp_path / name).unlink()
    if content is not None:
      (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as e:
      corpus.listed(tmp_path)
    assert "\n" not in str(e.value)


def test_equal_reports_and_labels_are_one_object(tmp_path):
  """800,035 records would not fit otherwise."""
  listed, measured = corpus.rows()
  for i, row in enumerate(measured):
    row["report_0"] = ("Sinus rhythm", "Atrial flutter")[i % 2]
    row["report_4"] = ("Low P waves", "Borderline ECG", "Abnormal ECG")[i % 3]
  corpus.write_tables(tmp_path, listed, measured)
  jobs, _ = corpus.listed(tmp_path)
  assert len({id(job.report) for job in jobs.values()}) == 6
  vectors = [job.labels["report_labels"] for job in jobs.values()]
  assert [*map(corpus.names_of, vectors)] == 9 * [{"SR"}, {"AFLT"}]
  assert len({*map(id, vectors)}) == 2


def test_stream_reads_columns_by_name(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text('\ufeff\nc,a,b\n1,"x, y",3\n\n4,5,\n', "utf-8")
  rows = list(tables.stream(path, ("b", "a"), "a test"))
  assert rows == [("3", "x, y"), ("", "5")]


@pytest.mark.parametrize("row", ["4,5", "6,7,8,9", '4,"5'])
def test_broken_rows_are_errors(tmp_path, row):
  path = tmp_path / "t.csv"
  path.write_text(f"c,a,b\n1,2,3\n{row}\n")
  with pytest.raises(
    UserError, match=r"row 2 of .*t.csv|not a table of a test"
  ):
    list(tables.stream(path, ("b", "a"), "a test"))


# Records that are left out.


def test_min_words_is_an_option(tmp_path):
  listed, measured = corpus.rows()
  texts = [[], ["Sinus rhythm"], ["Normal ECG", "Sinus rhythm"]]
  for i, row in enumerate(listed):
    ids = row["subject_id"], row["study_id"]
    measured[i] = corpus.measurement_row(*ids, texts[i % 3])
  corpus.write_tables(tmp_path, listed, measured)
  for min_words, expected in {0: 18, 1: 12, 2: 12, 3: 6, 5: 0}.items():
    config = mimic.MimicIvEcgConfig(
      name=f"w{min_words}", sampling_rate=100, min_words=min_words
    )
    jobs, found = corpus.listed(tmp_path, config)
    assert len(jobs) == expected
    assert found.left_out.total() == 18 - expected
    assert not found.counts
  assert {job.report for job in corpus.listed(tmp_path)[0].values()} == {
    "normal ecg. sinus rhythm."
  }


# Splits.


def test_shares_of_the_splits():
  splits = [mimic.split_of(str(10_000_000 + i)) for i in range(100_000)]
  for split in ("validation", "test"):
    # Five standard deviations of a binomial share.
    assert abs(splits.count(split) - 2000) < 5 * np.sqrt(2000 * 0.98)
  assert set(splits) == {"train", "validation", "test"}


def test_split_is_the_documented_hash():
  for i in range(10_000_000, 10_002_000):
    digest = hashlib.sha256(str(i).encode()).hexdigest()
    position = int(digest[:16], 16) / 16**16
    below = [
      s for s, x in (("validation", 0.02), ("test", 0.04)) if position < x
    ]
    assert mimic.split_of(str(i)) == (below or ["train"])[0]
  assert mimic.split_of("10000032") == "train"
  assert mimic.split_of("10000078") == "validation"
  assert mimic.split_of("10000041") == "test"


def test_patients_keep_their_split_when_the_corpus_grows(tmp_path):
  listed, measured = corpus.rows()
  corpus.write_tables(tmp_path, listed[:9], measured[:9])
  builder = mimic.Builder(config="100hz", data_dir=tmp_path / "d")
  few = builder._list_jobs(tmp_path)
  corpus.write_tables(tmp_path, listed[::-1], measured)
  many = builder._list_jobs(tmp_path)
  for split, jobs in few.items():
    assert {job.id for job in jobs} <= {job.id for job in many[split]}


def test_true_columns(real_data, tmp_path):
  for name in ("record_list.csv", "machine_measurements.csv"):
    shutil.copy(real_data / "mimic_iv_ecg" / name, tmp_path)
  with (tmp_path / "record_list.csv").open(newline="") as f:
    (row,) = csv.DictReader(f)
  jobs, _ = corpus.listed(tmp_path)
  job = jobs["40689238"]
  assert job.path == tmp_path / row["path"]
  assert job.subject_id == "10000032"
  assert job.report == (
    "sinus rhythm. possible right atrial abnormality. borderline ecg."
  )
  assert corpus.names_of(job.labels["report_labels"]) == {"SR"}
  own = corpus.record_row("10000032", "40689238")
  assert own == row
