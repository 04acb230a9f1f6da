import collections
import csv
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from data_builders import build, codec, rejects, scp, wfdb_io
from data_builders.ptb_xl import ptb_xl_dataset_builder as ptb_xl
from tests.data_builders import ptb_xl_corpus

# Our label set -> folder and metadata columns of the published split files.
PUBLISHED = {
  "superclass": "super_class",
  "subclass": "sub_class",
  "form": "form",
  "rhythm": "rhythm",
}
NUM_METADATA_COLUMNS = 6
# The split files were made from other codes than PTB-XL has for these records:
# 3796 for instance has INJAL and INJAS with likelihood 100, there it has none.
OTHER_CODES = {"3796", "3797", "3799", "7783", "9822", "13803"}
SPLITS = {"train": "train", "validation": "val", "test": "test"}


def read_rows(path):
  with path.open(encoding="utf-8", newline="") as f:
    return list(csv.DictReader(f))


def published(real_data, label_set, split):
  """Rows of a published split file and its label columns in file order."""
  name = PUBLISHED[label_set]
  folder = real_data / "splits" / "ptbxl" / name
  rows = read_rows(folder / f"ptbxl_{name}_{SPLITS[split]}.csv")
  return rows, list(rows[0])[NUM_METADATA_COLUMNS:]


# What the label of a subclass column holds in validation and test when columns
# are read by position.
ROTATED = {"AVB": "ISC", "RAO/RAE": "AVB", "ISC": "RAO/RAE"}


def split_of(fold):
  return {"9": "validation", "10": "test"}.get(fold, "train")


@pytest.fixture(scope="module", params=[100, 500])
def built(request, real_data, tmp_path_factory):
  """(rate, source folder, split -> id -> example) of the real subset."""
  rate = request.param
  source = real_data / f"ptb_xl_{rate}hz"
  data_dir = tmp_path_factory.mktemp("data")
  dataset = f"ptb_xl/{rate}hz"
  build.build(dataset, manual_dir=source, data_dir=data_dir, max_rejected=0.0)
  builder = tfds.builder(dataset, data_dir=data_dir)
  examples = {
    split: {e["id"].decode(): e for e in builder.as_data_source(split)}
    for split in builder.info.splits
  }
  return rate, source, examples


def test_splits_are_the_official_folds(built):
  _, source, examples = built
  expected = {split: set() for split in SPLITS}
  for row in read_rows(source / "ptbxl_database.csv"):
    expected[split_of(row["strat_fold"])].add(row["ecg_id"])
  assert {k: set(v) for k, v in examples.items()} == expected


def test_patients_are_in_one_split(built):
  _, source, examples = built
  patients = {
    split: {e["subject_id"].decode() for e in members.values()}
    for split, members in examples.items()
  }
  train, validation, test = patients.values()
  assert not (train & validation or train & test or validation & test)
  rows = read_rows(source / "ptbxl_database.csv")
  numbers = {str(int(float(row["patient_id"]))) for row in rows}
  assert train | validation | test == numbers


def test_signals_equal_wfdb(built):
  rate, source, examples = built
  column = {100: "filename_lr", 500: "filename_hr"}[rate]
  every = {i: e for members in examples.values() for i, e in members.items()}
  for row in read_rows(source / "ptbxl_database.csv")[:: rate // 50]:
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
  for row in read_rows(source / "ptbxl_database.csv"):
    report = every[row["ecg_id"]]["report"].decode()
    assert report.split() == row["report"].split()
    assert "  " not in report and report == report.strip()


@pytest.mark.parametrize("label_set", PUBLISHED)
def test_labels_equal_the_published_files(built, real_data, label_set):
  _, _, examples = built
  for split, members in examples.items():
    rows, names = published(real_data, label_set, split)
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


@pytest.mark.parametrize("label_set", PUBLISHED)
def test_labels_of_all_known_reports(real_data, label_set):
  """The published files again, for half of PTB-XL, without the signals."""
  files = {s: published(real_data, label_set, s)[0] for s in SPLITS}
  listed = {s: {r["ecg_id"]: r for r in rows} for s, rows in files.items()}
  rows = read_rows(real_data / "ptb_xl_reports.csv")
  assert len(rows) == 10_990
  differ = set()
  for row in rows:
    codes = ptb_xl.parse_codes(row["scp_codes"])
    vector = scp.labels(codes)[label_set]
    known = listed[split_of(row["strat_fold"])].get(row["ecg_id"])
    names = scp.LABEL_SETS[label_set]
    expected = [int(known[n]) for n in names] if known else [0] * len(names)
    if vector.tolist() != expected:
      differ.add(row["ecg_id"])
  assert differ <= OTHER_CODES


def by_position(real_data, label_set, split):
  """Id -> names of its labels, with the columns named as in train's file.

  Written after the published loaders, independently of the builder.
  """
  name = PUBLISHED[label_set]
  folder = real_data / "splits" / "ptbxl" / name
  with (folder / f"ptbxl_{name}_train.csv").open(newline="") as f:
    names = next(csv.reader(f))[NUM_METADATA_COLUMNS:]
  with (folder / f"ptbxl_{name}_{SPLITS[split]}.csv").open(newline="") as f:
    rows = list(csv.reader(f))[1:]
  return {
    row[0]: {
      n
      for n, v in zip(names, row[NUM_METADATA_COLUMNS:], strict=True)
      if v == "1"
    }
    for row in rows
  }


def named(label_set, vector):
  names = scp.LABEL_SETS[label_set]
  return {n for n, value in zip(names, vector, strict=True) if value}


def rotated(label_set, split, names):
  """What reading by position makes of labels, as it is documented."""
  if label_set != "subclass" or split == "train":
    return names
  changed = {label for label, holds in ROTATED.items() if holds in names}
  return names - ROTATED.keys() | changed


@pytest.fixture(scope="module")
def merl(built, real_data, tmp_path_factory):
  """(metadata, folder, split -> id -> example) of what is in `built`."""
  rate, source, _ = built
  data_dir = tmp_path_factory.mktemp("merl")
  dataset = f"ptb_xl/{rate}hz_merl_compat"
  final = build.build(
    dataset,
    manual_dir=source,
    splits_dir=real_data / "splits" / "ptbxl",
    data_dir=data_dir,
    max_rejected=1.0,
  )
  builder = tfds.builder(dataset, data_dir=data_dir)
  examples = {
    split: {e["id"].decode(): e for e in builder.as_data_source(split)}
    for split in builder.info.splits
  }
  return builder.info.metadata, final, examples


@pytest.fixture(scope="module")
def annotations(real_data, tmp_path_factory):
  """Id -> (split, labels) of all published tables, read by the builder."""
  return ptb_xl.Builder(
    config="500hz_merl_compat",
    data_dir=tmp_path_factory.mktemp("unused"),
    splits_dir=real_data / "splits" / "ptbxl",
  )._read_all_published()


def test_label_modes_are_in_the_metadata(built, merl, tmp_path):
  rate, *_ = built
  fixed = ptb_xl.Builder(config=f"{rate}hz", data_dir=tmp_path).info.metadata
  assert fixed["label_mode"] == "fixed"
  assert "subclass" not in fixed["cleaning"]
  metadata, _, _ = merl
  assert metadata["label_mode"] == "merl_compat"
  assert list(metadata["label_sets"]) == list(PUBLISHED)
  for label, holds in ROTATED.items():
    assert f"{label} is {holds}" in metadata["cleaning"]
    assert f"{label:<8} where they have {holds}\n" in ptb_xl.__doc__


def test_merl_compat_equals_the_published_files(built, merl, real_data):
  _, source, _ = built
  _, final, examples = merl
  rows = read_rows(source / "ptbxl_database.csv")
  present = {row["ecg_id"] for row in rows}
  for split, members in examples.items():
    listed = set()
    for label_set in PUBLISHED:
      expected = by_position(real_data, label_set, split)
      listed |= expected.keys()
      for record_id, example in members.items():
        vector = example["labels"][label_set]
        assert named(label_set, vector) == expected.get(record_id, set())
    assert members.keys() == present & listed
  assert sum(map(len, examples.values())) == len(present)
  rejected = (final / "rejected.jsonl").read_text().splitlines()
  assert len(rejected) == 21_799 - len(present)
  assert all("no row in ptbxl_database.csv" in line for line in rejected)


def test_merl_compat_changes_labels_only(built, merl):
  _, _, fixed = built
  _, _, examples = merl
  assert examples.keys() == fixed.keys()
  for split, members in fixed.items():
    assert members.keys() == examples[split].keys()
    for record_id, example in members.items():
      other = examples[split][record_id]
      for key in ("report", "subject_id"):
        assert other[key] == example[key]
      for key in ("ecg", "lead_valid"):
        np.testing.assert_array_equal(other[key], example[key])
      if record_id not in OTHER_CODES:
        for label_set in PUBLISHED:
          assert named(label_set, other["labels"][label_set]) == rotated(
            label_set, split, named(label_set, example["labels"][label_set])
          )


def test_all_published_rows_differ_from_their_names_by_the_rotation(
  annotations, real_data
):
  members = collections.Counter(split for split, _ in annotations.values())
  assert members == {"train": 17_418, "validation": 2183, "test": 2198}
  sizes, carriers = {}, {"validation": 0, "test": 0}
  for label_set in PUBLISHED:
    for split in SPLITS:
      rows, names = published(real_data, label_set, split)
      position = by_position(real_data, label_set, split)
      listed = {row["ecg_id"]: row for row in rows}
      sizes[label_set, split] = len(rows)
      for record_id, row in listed.items():
        true = {n for n in names if row[n] == "1"}
        ours = named(label_set, annotations[record_id][1][label_set])
        assert annotations[record_id][0] == split
        assert ours == position[record_id] == rotated(label_set, split, true)
        if label_set == "subclass" and split in carriers:
          carriers[split] += bool(true & ROTATED.keys())
          # None is right by luck.
          assert (ours != true) == bool(true & ROTATED.keys())
      for record_id in annotations.keys() - listed.keys():
        if annotations[record_id][0] == split:
          assert not annotations[record_id][1][label_set].any()
  both = [17_084, 2146, 2158]
  expected = [*both, *both, 7197, 901, 880, 16_832, 2100, 2098]
  assert list(sizes.values()) == expected
  assert carriers == {"validation": 208, "test": 214}


def test_merl_compat_differs_from_fixed_by_the_rotation(annotations, real_data):
  """For half of PTB-XL, without the signals."""
  differ = set()
  for row in read_rows(real_data / "ptb_xl_reports.csv"):
    split, labels = annotations[row["ecg_id"]]
    assert split == split_of(row["strat_fold"])
    fixed = scp.labels(ptb_xl.parse_codes(row["scp_codes"]))
    for label_set, vector in labels.items():
      expected = rotated(label_set, split, named(label_set, fixed[label_set]))
      if named(label_set, vector) != expected:
        differ.add(row["ecg_id"])
  assert differ == OTHER_CODES


def test_positives_of_the_rotated_labels(annotations):
  counts = {split: collections.Counter() for split in SPLITS}
  for split, labels in annotations.values():
    counts[split].update(named("subclass", labels["subclass"]))
  found = {
    label: tuple(counts[split][label] for split in SPLITS) for label in ROTATED
  }
  assert found == {
    "AVB": (658, 125, 128),
    "RAO/RAE": (79, 83, 82),
    "ISC": (1019, 10, 10),
  }


def test_page_lists_labels_and_differences(annotations):
  page = pathlib.Path(ptb_xl.__file__).with_name("README.md").read_text()
  counts = {split: collections.Counter() for split in SPLITS}
  for split, labels in annotations.values():
    counts[split].update(named("subclass", labels["subclass"]))
  for label, holds in ROTATED.items():
    found = ", ".join(str(counts[split][label]) for split in SPLITS)
    assert f"| `{label}` | `{label}` | `{holds}` | {found} |" in page
  for record_id in OTHER_CODES:
    assert record_id in page
  for label_set in ("form", "rhythm"):
    for name in scp.LABEL_SETS[label_set]:
      code = next(c for c in scp.BY_CODE if c.strip("_") == name)
      assert f"| `{name}` | {scp.BY_CODE[code].description} |" in page
  for name in scp.LABEL_SETS["subclass"]:
    (row,) = [
      r
      for r in page.splitlines()
      if r.startswith(f"| `{name}` | `") and r.count("|") == 5
    ]
    for s in scp.STATEMENTS:
      belongs = s.diagnostic_subclass.strip("_") == name
      assert (f"`{s.code.strip('_')}`" in row.split("|")[3]) == belongs


def write_tables(folder, **changes):
  """Published tables of a corpus with a record in each split."""
  folds = {"train": "1", "val": "2", "test": "3"}
  for label_set, name in PUBLISHED.items():
    (folder / name).mkdir(parents=True)
    for split, record_id in folds.items():
      row = {"ecg_id": changes.get(f"{name}_{split}", record_id)}
      row |= dict.fromkeys(scp.LABEL_SETS[label_set], "1")
      path = folder / name / f"ptbxl_{name}_{split}.csv"
      ptb_xl_corpus.write_csv(path, [row])


def test_tables_must_agree_on_a_split(tmp_path):
  def read(folder):
    return ptb_xl.Builder(
      config="100hz_merl_compat", data_dir=tmp_path, splits_dir=folder
    )._read_all_published()

  write_tables(tmp_path / "good")
  assert {i: split for i, (split, _) in read(tmp_path / "good").items()} == {
    "1": "train",
    "2": "validation",
    "3": "test",
  }
  for name, change in (("a", {"form_val": "1"}), ("b", {"form_test": "2"})):
    write_tables(tmp_path / name, **change)
    with pytest.raises(
      UserError, match="record '.' is in .* and, in form/ptbxl"
    ):
      read(tmp_path / name)


def test_mistakes_with_the_published_files(real_data, tmp_path):
  def fail(message, dataset="ptb_xl/100hz_merl_compat", **kwargs):
    with pytest.raises(UserError, match=message) as error:
      build.build(
        dataset,
        manual_dir=real_data / "ptb_xl_100hz",
        data_dir=tmp_path / "data",
        **kwargs,
      )
    assert "\n" not in str(error.value)

  splits = real_data / "splits"
  fail("--splits_dir is missing. Download .*data_split/ptbxl of")
  fail("no ptbxl_super_class_train.csv in .*; expected", splits_dir=splits)
  fail("--splits_dir does not", "ptb_xl/100hz", splits_dir=splits / "ptbxl")
  fail("bad_metadata 21311", splits_dir=splits / "ptbxl")


def test_both_versions_agree(real_data):
  """The 500 Hz files, resampled here, are the published 100 Hz files.

  Up to 0.2 s from the ends, where the published versions themselves differ by
  millivolts, and to the half sample at 500 Hz that they are shifted.
  """
  low, high = real_data / "ptb_xl_100hz", real_data / "ptb_xl_500hz"
  spec = codec.SignalSpec(100, 1000)
  known = {r["ecg_id"] for r in read_rows(low / "ptbxl_database.csv")}
  rows = read_rows(high / "ptbxl_database.csv")
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
    ptb_xl.check_statements(read_rows(path))


@pytest.mark.parametrize(
  ("column", "value"),
  [("diagnostic_class", "CD"), ("form", ""), ("rhythm", "1.0"), ("", "NEW")],
)
def test_other_statements_are_an_error(tmp_path, column, value):
  ptb_xl_corpus.write_statements(tmp_path)
  rows = read_rows(tmp_path / "scp_statements.csv")
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
    ("\xff", "no table"),
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
  with pytest.raises(rejects.WrongRate):
    codec.encode(wfdb_io.read(path), spec)
  assert wfdb_io.read(path).sampling_rate == 500
