"""Folders of recordings of any format, with a table and without one."""

import csv
import json

import numpy as np
import pytest

from cgdmer_jax.data.index import load_index
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from data_builders import build
from data_builders.folder import folder_dataset_builder as folder_lib
from tests.data_builders import cinc_corpus
from tests.recordings import clinic_files

NUMBERS = range(24)
SPLITS = {0: "train", 1: "validation", 2: "test"}


def microvolts(number, rate=100):
  rng = np.random.default_rng(number)
  return rng.integers(-900, 900, (12, 10 * rate))


def write_one(folder, number):
  """A recording in a format that depends on its number; returns its name."""
  kind, uv = number % 4, microvolts(number)
  name = f"ward/{number}"
  if kind == 0:
    np.savez(
      folder / f"{name}.npz",
      **{"ecg": uv, "leads": LEADS, "sampling_rate": 100, "unit": "uV"},
    )
    return f"{name}.npz"
  if kind == 1:  # without the leads that follow from others
    rows = [0, 1, *range(6, 12)]
    head = ";".join(f"{LEADS[i]} (uV)" for i in rows)
    lines = [";".join(map(str, x)) for x in uv[rows].T]
    text = "\n".join(["# sampling_rate = 100", head, *lines])
    (folder / f"{name}.csv").write_text(text)
    return name  # as a table may write it
  if kind == 2:
    clinic_files.edf(folder / f"{name}.edf", [*LEADS], uv, 100)
    return f"{name}.edf"
  mv = microvolts(number, 500).T / 1e3
  cinc_corpus.write_record(folder / "ward", str(number), mv)
  return f"{name}.dat"


def row(number, file, **changes):
  return {
    "file": file,
    "patient": f"p{number // 2}",
    "report": f"Line 1\n line {number}",
    "split": SPLITS[number // 2 % 3],
    "AFIB": number % 2,
    "wide QRS": 1 - number % 3 // 2,
    "sex": "F",
    "age": 40 + number,
    **changes,
  }


def write_table(path, rows, delimiter=",", encoding="utf-8"):
  with path.open("w", newline="", encoding=encoding) as file:
    writer = csv.DictWriter(file, [*rows[0]], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
  return path


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp("own")
  (folder / "ward").mkdir()
  (folder / "names.txt").write_text("These are recordings of one ward.\n")
  rows = [row(i, write_one(folder, i)) for i in NUMBERS]
  write_table(folder / "labels.csv", rows)
  return folder, rows


def build_set(source, data_dir, rows=None, name="clinic", **options):
  """Builds; `rows` take the place of the table."""
  folder, _ = source
  table = folder / "labels.csv"
  if rows is not None:
    table = write_table(data_dir / "other.csv", rows)
  options = {"table": table, "name": name, "manual_dir": folder, **options}
  return build.build("folder/100hz", data_dir=data_dir / "d", **options)


def records(final, split):
  name = "/".join(final.parts[-3:-1])
  return EcgSource(name, split, final.parents[2])


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
  return build_set(source, tmp_path_factory.mktemp("built"))


def test_every_format_is_read_and_matched_with_its_row(built, source):
  assert built.parts[-3:] == ("clinic", "100hz", "1.0.0")
  seen = {}
  for place, split in SPLITS.items():
    data = records(built, split)
    assert data.label_sets == {"clinic": ("AFIB", "wide QRS")}
    for i in range(len(data)):
      record = data[i]
      number = int(record["id"].split("/")[1].split(".")[0])
      assert number // 2 % 3 == place
      assert record["subject_id"] == f"p{number // 2}"
      assert record["report"] == f"Line 1 line {number}"
      expected = [number % 2, 1 - number % 3 // 2]
      assert record["labels"]["clinic"].tolist() == expected
      assert record["lead_valid"].all()
      seen[number] = record["ecg"]
  assert sorted(seen) == [*NUMBERS]
  for number in (0, 2):
    np.testing.assert_array_equal(seen[number], microvolts(number))
  uv = microvolts(1)
  np.testing.assert_array_equal(seen[1][6:], uv[6:])
  np.testing.assert_array_equal(seen[1][2], uv[1] - uv[0])  # III is II - I
  lines = (built / "rejected.jsonl").read_text().splitlines()
  assert [json.loads(x)["reason"] for x in lines] == ["not_in_table"]
  with (built / "groups.csv").open() as file:
    groups = {x["id"]: x for x in csv.DictReader(file)}
  assert groups["ward/0.npz"] == {"id": "ward/0.npz", "sex": "F", "age": "40"}


def test_two_names_live_in_one_data_dir(source, tmp_path):
  a = build_set(source, tmp_path, name="first")
  rows = [
    {"file": x["file"], "labels": "MI; old" if x["AFIB"] else ""}
    for x in source[1]
  ]
  b = build_set(source, tmp_path, rows, name="second")
  assert records(a, "test").label_sets == {"first": ("AFIB", "wide QRS")}
  assert records(b, "test").label_sets == {"second": ("MI", "old")}
  index = [load_index(records(b, s)) for s in SPLITS.values()]
  labels = np.concatenate([x.labels["second"] for x in index])
  assert labels.sum(axis=0).tolist() == [12, 12] and len(labels) == 24
  with pytest.raises(UserError, match="--name=ptb_xl; expected a-z"):
    build_set(source, tmp_path, name="ptb_xl")


def test_without_a_table_all_recordings_are_taken(source, tmp_path, capsys):
  names = {f"r{i}" for i in range(40)}
  (tmp_path / "in").mkdir()
  for i, name in enumerate(sorted(names)):
    np.save(tmp_path / f"in/{name}.npy", microvolts(i)[:3])
  (tmp_path / "in/notes.txt").write_text("Nothing here.")
  final = build.build(
    "folder/100hz",
    manual_dir=tmp_path / "in",
    data_dir=tmp_path / "d",
    **{"sampling_rate": 100.0, "unit": "uV", "leads": ["I", "II", "V2"]},
  )
  assert "left out 1: unknown_format 1" in capsys.readouterr().out
  data = {s: records(final, s) for s in SPLITS.values()}
  assert data["train"].label_sets == {}
  splits = {
    x["id"]: s for s, d in data.items() for x in (d[i] for i in range(len(d)))
  }
  assert {x.removesuffix(".npy") for x in splits} == names
  # The hash of the name alone decides.
  assert all(folder_lib.choose_split("", k) == v for k, v in splits.items())
  valid = data["test"][0]["lead_valid"]
  assert valid.tolist() == [True] * 6 + [False, True] + [False] * 4


def test_splits_are_by_patient_and_shared_out():
  chosen = [folder_lib.choose_split(str(i), "any") for i in range(3000)]
  shares = [chosen.count(s) / 3000 for s in SPLITS.values()]
  np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.03)
  assert folder_lib.choose_split("7", "a") == folder_lib.choose_split("7", "b")


def changed(**changes):
  return lambda rows: [{**rows[0], **changes}, *rows[1:]]


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda rows: [{"path": "a"}], "no column 'file'; expected a CSV table"),
    (changed(file="no/such.csv"), "missing_file 1.*--max_rejected"),
    (lambda rows: [{"file": "a"}, {"file": "b"}], "none of the 2 files of"),
    (changed(file=""), "row 1 of .* names no file"),
    (lambda rows: [*rows, rows[0]], "rows 1 and 25 .* same file 'ward/0.npz'"),
    (changed(file="ward/1.csv"), "two rows for 'ward/1.csv'"),
    (changed(AFIB="yes"), "AFIB is 'yes', but labels are 0 or 1"),
    (changed(AFIB=""), "AFIB is '', but labels are 0 or 1"),
    (changed(split="dev"), "split 'dev'; expected one of train, valid"),
    (changed(split="test"), "row 2 .* patient 'p0' is in train, and before"),
  ],
)
def test_tables_that_cannot_be_right(source, tmp_path, change, message):
  with pytest.raises(UserError, match=message) as error:
    build_set(source, tmp_path, change(source[1]))
  assert "\n" not in str(error.value)


def test_files_that_are_no_tables(source, tmp_path):
  path = tmp_path / "t.csv"
  path.write_bytes("file,patient\na,Müller\n".encode("latin-1"))
  with pytest.raises(UserError, match="t.csv is not UTF-8 .*save it as"):
    build_set(source, tmp_path, table=path)
  path.write_text("file,A,A\nx,0,1\n")
  with pytest.raises(UserError, match="several columns 'A'"):
    build_set(source, tmp_path, table=path)
  with pytest.raises(UserError, match="--table=.*none.csv: No such file"):
    build_set(source, tmp_path, table=tmp_path / "none.csv")


def test_options_that_do_not_apply(source, tmp_path):
  for message, options in (
    ("--label_columns: 'age' is no label", {"label_columns": ["age"]}),
    ("no column 'MI'", {"label_columns": ["MI"]}),
    ("--label_columns needs --table", {"label_columns": ["A"], "table": None}),
    ("--unit=kg; expected one of uV", {"unit": "kg"}),
    ("--manual_dir is missing. It is the folder", {"manual_dir": None}),
  ):
    with pytest.raises(UserError, match=message):
      build_set(source, tmp_path, **options)
  with pytest.raises(UserError, match="--table does not apply to synthetic"):
    build.build("synthetic_ecg/tiny", data_dir=tmp_path, table="labels.csv")


def test_chosen_labels_leave_other_columns_alone(source, tmp_path, capsys):
  rows = [{**x, "device": "A1"} for x in source[1]]
  final = build_set(source, tmp_path, rows, label_columns=["AFIB"])
  assert records(final, "test").label_sets == {"clinic": ("AFIB",)}
  printed = capsys.readouterr().out
  assert "columns that are not used: wide QRS, device" in printed
