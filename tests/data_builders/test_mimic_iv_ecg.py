"""MIMIC-IV-ECG: from its files to records."""

import json
import shutil

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from data_builders import tables
from data_builders.mimic_iv_ecg import mimic_iv_ecg_dataset_builder as mimic
from data_builders.mimic_iv_ecg import report_labels
from tests.data_builders import data_sets
from tests.data_builders import mimic_iv_ecg_corpus as corpus


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp("source")
  corpus.write(folder)
  return folder


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
  """Split -> id -> example at 500 Hz."""
  return corpus.read(source, tmp_path_factory.mktemp("data"), "500hz")


def test_signals_are_found_by_study_and_lead(built):
  """Tables in other orders, aVF before aVL in the files, 5 uV steps."""
  found = data_sets.every(built)
  assert found.keys() == {study for _, study in corpus.studies()}
  order = [corpus.LEADS.index(lead) for lead in LEADS]
  assert order != sorted(order)
  for study, example in found.items():
    uv = 5 * np.rint(200 * corpus.signal(study)).T[order]
    np.testing.assert_array_equal(example["ecg"], uv)
    assert example["lead_valid"].all()


def test_frequencies_of_the_leads_at_100_hz(source, tmp_path):
  """The k-th lead of the files is a sine of k Hz."""
  for example in data_sets.every(
    corpus.read(source, tmp_path, "100hz")
  ).values():
    assert example["ecg"].shape == (12, 1000)
    peaks = np.abs(np.fft.rfft(example["ecg"])).argmax(axis=1) / 10
    assert peaks.tolist() == [1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11, 12]


def test_reports_and_labels_belong_to_the_study(built):
  """Both tables are shuffled; a join by row would mix them up."""
  for study, example in data_sets.every(built).items():
    (rhythm, _), label = corpus.statements(study)
    report = f"{rhythm.lower()}. borderline ecg."
    assert example["report"].decode() == report
    assert corpus.names_of(example["labels"]["report_labels"]) == {label}


def test_tables_in_true_order_do_not_agree_by_row(source):
  """The corpus would catch a join by row."""
  columns = ("study_id", "subject_id")
  files = ("record_list.csv", "machine_measurements.csv")
  a, b = ([*tables.stream(source / f, columns, "")] for f in files)
  assert sorted(a) == sorted(b)
  assert sum(x == y for x, y in zip(a, b, strict=True)) < 5


def test_patients_are_in_the_split_of_their_hash(built):
  for split, members in built.items():
    assert len(members) == 2 * corpus.NUM_PATIENTS[split]
    for example in members.values():
      assert mimic.split_of(example["subject_id"].decode()) == split
  assert {
    (e["subject_id"].decode(), i) for i, e in data_sets.every(built).items()
  } == set(corpus.studies())


def test_case_is_kept_on_demand(source, tmp_path):
  found = data_sets.every(corpus.read(source, tmp_path, "100hz_keep_case"))
  for study, example in found.items():
    (rhythm, _), label = corpus.statements(study)
    assert example["report"].decode() == f"{rhythm}. Borderline ECG."
    assert corpus.names_of(example["labels"]["report_labels"]) == {label}


def test_metadata_says_how_to_read_the_records(source, tmp_path):
  metadata = mimic.Builder(config="100hz", data_dir=tmp_path).info.metadata
  assert metadata["sampling_rate"] == 100
  assert metadata["label_sets"]["report_labels"] == list(report_labels.NAMES)
  assert "fewer than 4 words" in metadata["cleaning"]
  assert "lower case" in metadata["cleaning"]
  assert {*mimic.Builder.builder_configs} == {
    "100hz",
    "500hz",
    "100hz_keep_case",
    "500hz_keep_case",
  }


def test_gaps_are_repaired_within_their_lead(source, tmp_path):
  """Gaps far behind the first 12 samples, each in one lead only."""
  folder = shutil.copytree(source, tmp_path / "own")
  subject, study = corpus.studies()[0]
  mv = corpus.signal(study)
  short, long = corpus.LEADS.index("aVF"), corpus.LEADS.index("V6")
  mv[3000:3050, short] = np.nan
  mv[4000:4101, long] = np.nan
  corpus.write_record(folder / corpus.record_row(subject, study)["path"], mv)
  splits = corpus.read(folder, tmp_path / "d", "500hz", max_rejected=0.0)
  example = data_sets.every(splits)[study]
  ecg = dict(zip(LEADS, example["ecg"].astype(float), strict=True))
  valid = dict(zip(LEADS, example["lead_valid"], strict=True))
  assert [lead for lead in LEADS if not valid[lead]] == ["V6"]
  assert not ecg["V6"].any()
  for i, lead in enumerate(corpus.LEADS):
    expected = 5 * np.rint(200 * corpus.signal(study)[:, i])
    if lead == "aVF":
      ends = expected[[2999, 3050]]
      expected[3000:3050] = np.interp(range(3000, 3050), [2999, 3050], ends)
    if lead != "V6":
      np.testing.assert_allclose(ecg[lead], expected, atol=0.5)


def test_short_reports_are_left_out_and_listed(source, tmp_path, capsys):
  folder = shutil.copytree(source, tmp_path / "own")
  listed, measured = corpus.rows()
  short = {0: [], 2: ["--- ---", " "], 4: ["Sinus rhythm"], 6: ["A b - c"]}
  for i, texts in short.items():
    measured[i] = corpus.measurement_row(*corpus.studies()[i], texts)
  corpus.write_tables(folder, listed, measured)
  found = data_sets.every(
    corpus.read(folder, tmp_path / "d", "100hz", max_rejected=0.0)
  )
  ids = [study for _, study in corpus.studies()]
  assert found.keys() == {*ids} - {ids[i] for i in short}
  out = capsys.readouterr().out
  assert "rejected 0 of 14: none\nleft out 4: short_report 4\n" in out
  (path,) = (tmp_path / "d").rglob("rejected.jsonl")
  entries = list(map(json.loads, path.read_text().splitlines()))
  assert entries == [
    {"id": ids[i], "reason": "short_report", "detail": text}
    for i, text in {0: "", 2: "", 4: "sinus rhythm.", 6: "a b - c."}.items()
  ]
