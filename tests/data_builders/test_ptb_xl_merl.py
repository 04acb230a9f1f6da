"""PTB-XL with the labels and splits that MERL published."""

import collections
import csv
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError
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


# What the label of a subclass column holds in validation and test when columns
# are read by position.
ROTATED = {"AVB": "ISC", "RAO/RAE": "AVB", "ISC": "RAO/RAE"}


def by_position(real_data, label_set, split):
  """Id -> names of its labels, with the columns named as in train's file.

  Written after the published loaders, independently of the builder.
  """
  name = ptb_xl_files.PUBLISHED[label_set]
  folder = real_data / "splits" / "ptbxl" / name
  with (folder / f"ptbxl_{name}_train.csv").open(newline="") as f:
    names = next(csv.reader(f))[ptb_xl_files.NUM_METADATA_COLUMNS :]
  with (folder / f"ptbxl_{name}_{ptb_xl_files.SPLITS[split]}.csv").open(
    newline=""
  ) as f:
    rows = list(csv.reader(f))[1:]
  return {
    row[0]: {
      n
      for n, v in zip(
        names, row[ptb_xl_files.NUM_METADATA_COLUMNS :], strict=True
      )
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
  assert list(metadata["label_sets"]) == list(ptb_xl_files.PUBLISHED)
  for label, holds in ROTATED.items():
    assert f"{label} is {holds}" in metadata["cleaning"]
    assert f"{label:<8} where they have {holds}\n" in ptb_xl.__doc__


def test_merl_compat_equals_the_published_files(built, merl, real_data):
  _, source, _ = built
  _, final, examples = merl
  rows = ptb_xl_files.read_rows(source / "ptbxl_database.csv")
  present = {row["ecg_id"] for row in rows}
  for split, members in examples.items():
    listed = set()
    for label_set in ptb_xl_files.PUBLISHED:
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
      if record_id not in ptb_xl_files.OTHER_CODES:
        for label_set in ptb_xl_files.PUBLISHED:
          assert named(label_set, other["labels"][label_set]) == rotated(
            label_set, split, named(label_set, example["labels"][label_set])
          )


def test_all_published_rows_differ_from_their_names_by_the_rotation(
  annotations, real_data
):
  members = collections.Counter(split for split, _ in annotations.values())
  assert members == {"train": 17_418, "validation": 2183, "test": 2198}
  sizes, carriers = {}, {"validation": 0, "test": 0}
  for label_set in ptb_xl_files.PUBLISHED:
    for split in ptb_xl_files.SPLITS:
      rows, names = ptb_xl_files.published(real_data, label_set, split)
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
  for row in ptb_xl_files.read_rows(real_data / "ptb_xl_reports.csv"):
    split, labels = annotations[row["ecg_id"]]
    assert split == ptb_xl_files.split_of(row["strat_fold"])
    fixed = scp.labels(ptb_xl.parse_codes(row["scp_codes"]))
    for label_set, vector in labels.items():
      expected = rotated(label_set, split, named(label_set, fixed[label_set]))
      if named(label_set, vector) != expected:
        differ.add(row["ecg_id"])
  assert differ == ptb_xl_files.OTHER_CODES


def test_positives_of_the_rotated_labels(annotations):
  counts = {split: collections.Counter() for split in ptb_xl_files.SPLITS}
  for split, labels in annotations.values():
    counts[split].update(named("subclass", labels["subclass"]))
  found = {
    label: tuple(counts[split][label] for split in ptb_xl_files.SPLITS)
    for label in ROTATED
  }
  assert found == {
    "AVB": (658, 125, 128),
    "RAO/RAE": (79, 83, 82),
    "ISC": (1019, 10, 10),
  }


def test_page_lists_labels_and_differences(annotations):
  page = pathlib.Path(ptb_xl.__file__).with_name("README.md").read_text()
  counts = {split: collections.Counter() for split in ptb_xl_files.SPLITS}
  for split, labels in annotations.values():
    counts[split].update(named("subclass", labels["subclass"]))
  for label, holds in ROTATED.items():
    found = ", ".join(
      str(counts[split][label]) for split in ptb_xl_files.SPLITS
    )
    assert f"| `{label}` | `{label}` | `{holds}` | {found} |" in page
  for record_id in ptb_xl_files.OTHER_CODES:
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
  for label_set, name in ptb_xl_files.PUBLISHED.items():
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
