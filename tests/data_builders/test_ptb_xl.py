"""PTB-XL: from its files to records."""

import numpy as np
import pytest
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, rejected, wfdb_io
from data_builders import build, scp
from data_builders.ptb_xl import ptb_xl_dataset_builder as ptb_xl
from tests.data_builders import ptb_xl_corpus, ptb_xl_files


@pytest.fixture(scope="module", params=[100, 500])
def built(request, real_data, tmp_path_factory):
  """(rate, source folder, split -> id -> example) of the real subset."""
  rate = request.param
  source = real_data / f"ptb_xl_{rate}hz"
  data_dir = tmp_path_factory.mktemp("data")
  return rate, source, ptb_xl_files.build_subset(rate, source, data_dir)


def test_splits_are_the_official_folds(built):
  _, source, examples = built
  expected = {split: set() for split in ptb_xl_files.SPLITS}
  for row in ptb_xl_files.read_rows(source / "ptbxl_database.csv"):
    expected[ptb_xl_files.split_of(row["strat_fold"])].add(row["ecg_id"])
  assert {k: set(v) for k, v in examples.items()} == expected


def test_patients_are_in_one_split(built):
  _, source, examples = built
  patients = {
    split: {e["subject_id"].decode() for e in members.values()}
    for split, members in examples.items()
  }
  train, validation, test = patients.values()
  assert not (train & validation or train & test or validation & test)
  rows = ptb_xl_files.read_rows(source / "ptbxl_database.csv")
  numbers = {str(int(float(row["patient_id"]))) for row in rows}
  assert train | validation | test == numbers


def test_signals_equal_wfdb(built):
  rate, source, examples = built
  column = {100: "filename_lr", 500: "filename_hr"}[rate]
  every = {i: e for members in examples.values() for i, e in members.items()}
  for row in ptb_xl_files.read_rows(source / "ptbxl_database.csv")[
    :: rate // 50
  ]:
    record = wfdb.rdrecord(str(source / row[column]))
    names = [n.upper() for n in record.sig_name]
    example = every[row["ecg_id"]]
    for i, lead in enumerate(LEADS):
      uv = 1e3 * record.p_signal[:, names.index(lead.upper())]
      assert np.abs(example["ecg"][i] - uv).max() <= 0.5 + 1e-9
    assert example["lead_valid"].all()


def test_limb_leads_obey_einthoven(built):
  """Would fail with any two limb leads swapped."""
  _, _, examples = built
  for example in examples["test"].values():
    i, ii, iii, avr, avl, avf = example["ecg"][:6].astype(int)
    for error in (
      i + iii - ii,
      i + ii + 2 * avr,
      i - iii - 2 * avl,
      ii + iii - 2 * avf,
    ):
      assert np.median(np.abs(error)) <= 6


def test_reports_are_kept(built):
  _, source, examples = built
  every = {i: e for members in examples.values() for i, e in members.items()}
  for row in ptb_xl_files.read_rows(source / "ptbxl_database.csv"):
    report = every[row["ecg_id"]]["report"].decode()
    assert report.split() == row["report"].split()
    assert "  " not in report and report == report.strip()


@pytest.mark.parametrize("label_set", ptb_xl_files.PUBLISHED)
def test_labels_equal_the_published_files(built, real_data, label_set):
  _, _, examples = built
  for split, members in examples.items():
    rows, names = ptb_xl_files.published(real_data, label_set, split)
    assert set(names) == set(scp.LABEL_SETS[label_set])
    listed = {row["ecg_id"]: row for row in rows}
    for record_id, example in members.items():
      vector = example["labels"][label_set]
      # A record without a label of the set is not in the file.
      assert bool(vector.any()) == (record_id in listed)
      if record_id in listed:
        row = listed[record_id]
        expected = [int(row[n]) for n in scp.LABEL_SETS[label_set]]
        assert vector.tolist() == expected


@pytest.mark.parametrize("label_set", ptb_xl_files.PUBLISHED)
def test_labels_of_all_known_reports(real_data, label_set):
  """The published files again, for half of PTB-XL, without the signals."""
  files = {
    s: ptb_xl_files.published(real_data, label_set, s)[0]
    for s in ptb_xl_files.SPLITS
  }
  listed = {s: {r["ecg_id"]: r for r in rows} for s, rows in files.items()}
  rows = ptb_xl_files.read_rows(real_data / "ptb_xl_reports.csv")
  assert len(rows) == 10_990
  differ = set()
  for row in rows:
    codes = ptb_xl.parse_codes(row["scp_codes"])
    vector = scp.labels(codes)[label_set]
    known = listed[ptb_xl_files.split_of(row["strat_fold"])].get(row["ecg_id"])
    names = scp.LABEL_SETS[label_set]
    expected = [int(known[n]) for n in names] if known else [0] * len(names)
    if vector.tolist() != expected:
      differ.add(row["ecg_id"])
  assert differ <= ptb_xl_files.OTHER_CODES


def test_both_versions_agree(real_data):
  """The 500 Hz files, resampled here, are the published 100 Hz files.

  Up to 0.2 s from the ends, where the published versions themselves differ by
  millivolts, and to the half sample at 500 Hz that they are shifted.
  """
  low, high = real_data / "ptb_xl_100hz", real_data / "ptb_xl_500hz"
  spec = codec.SignalSpec(100, 1000)
  known = {
    r["ecg_id"] for r in ptb_xl_files.read_rows(low / "ptbxl_database.csv")
  }
  rows = ptb_xl_files.read_rows(high / "ptbxl_database.csv")
  correlations = []
  for row in (r for r in rows if r["ecg_id"] in known):
    a, b = (
      codec.encode(wfdb_io.read(path), spec)[0][:, 20:-20]
      for path in (low / row["filename_lr"], high / row["filename_hr"])
    )
    correlations += [np.corrcoef(x, y)[0, 1] for x, y in zip(a, b, strict=True)]
  assert len(correlations) >= 100 * 12
  assert min(correlations) > 0.9 and np.median(correlations) > 0.995


def test_statements_are_those_of_the_data_set(real_data):
  for rate in (100, 500):
    path = real_data / f"ptb_xl_{rate}hz" / "scp_statements.csv"
    ptb_xl.check_statements(ptb_xl_files.read_rows(path))


@pytest.mark.parametrize(
  ("column", "value"),
  [("diagnostic_class", "CD"), ("form", ""), ("rhythm", "1.0"), ("", "NEW")],
)
def test_other_statements_are_an_error(tmp_path, column, value):
  ptb_xl_corpus.write_statements(tmp_path)
  rows = ptb_xl_files.read_rows(tmp_path / "scp_statements.csv")
  ptb_xl.check_statements(rows)
  rows[1][column] = value
  with pytest.raises(UserError, match="statement 'N(ST_|EW)'"):
    ptb_xl.check_statements(rows)


@pytest.mark.parametrize("table", ["ptbxl_database.csv", "scp_statements.csv"])
def test_other_tables_are_an_error(tmp_path, table):
  (tmp_path / "records100").mkdir()
  ptb_xl_corpus.write_statements(tmp_path)
  rows = [ptb_xl_corpus.row(2)]
  ptb_xl_corpus.write_csv(tmp_path / "ptbxl_database.csv", rows)
  for content, message in (
    ("a,b\n1,2\n", "has no column"),
    ("\xff", "not a table"),
  ):
    (tmp_path / table).write_bytes(content.encode("latin-1"))
    with pytest.raises(
      UserError, match=f"{table} {message}|{table} is {message}"
    ):
      build.build("ptb_xl/100hz", manual_dir=tmp_path, data_dir=tmp_path / "d")


def test_reports_keep_everything_but_white_space():
  text = "  Sinusrhythmus\n\n linkstyp   4.46 unbestÄtigter\tbefund "
  cleaned = "Sinusrhythmus linkstyp 4.46 unbestÄtigter befund"
  assert ptb_xl.clean_report(text) == cleaned
  assert ptb_xl.clean_report(cleaned) == cleaned
  assert ptb_xl.clean_report(" \n") == ""


def test_wrong_rate_is_rejected(tmp_path):
  """A 500 Hz file in the place of a 100 Hz file is not resampled silently."""
  path = tmp_path / "r"
  ptb_xl_corpus.write_record(path, ptb_xl_corpus.signal(1, 500), 500)
  spec = ptb_xl.Builder(config="100hz", data_dir=tmp_path)._signal_spec()
  with pytest.raises(rejected.WrongRate):
    codec.encode(wfdb_io.read(path), spec)
  assert wfdb_io.read(path).sampling_rate == 500
