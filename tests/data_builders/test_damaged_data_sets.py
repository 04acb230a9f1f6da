"""Damaged tables and folders fail a build, or cost the records they are of.

Damage changes the tables, as bytes by name, and the folder; it returns the ids
of the records that must then be rejected.
"""

import csv
import io
import json
import pathlib
import shutil
import tempfile

import hypothesis
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import strategies as st

from cgdmer_jax.errors import UserError
from data_builders import build
from tests.data_builders import ptb_xl_corpus, wfdb_packer

IDS = [str(i) for i in ptb_xl_corpus.FOLDS][:20]  # two of every fold
DATABASE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"


class Failure(Exception):
  """The build must end with a `UserError`."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """20 records in the layout of PTB-XL."""
  folder = tmp_path_factory.mktemp("corpus")
  ptb_xl_corpus.write_statements(folder)
  rows = [ptb_xl_corpus.row(int(i)) for i in IDS]
  ptb_xl_corpus.write_csv(folder / DATABASE, rows)
  for row in rows:
    mv = ptb_xl_corpus.signal(int(row["ecg_id"]), 100)
    ptb_xl_corpus.write_record(folder / row["filename_lr"], mv, 100)
  return folder


def read_table(content):
  """Rows of a table, the header first."""
  return list(csv.reader(io.StringIO(content.decode(), newline="")))


def write_table(rows):
  text = io.StringIO(newline="")
  csv.writer(text).writerows(rows)
  return text.getvalue().encode()


def other_ways(draw, folder, tables):
  """Columns in another order, more of them, BOM, blank lines, line ends."""
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  rows = [[*row, str(i)] for i, row in enumerate(read_table(tables[name]))]
  order = draw(st.permutations(range(len(rows[0]))))
  content = write_table([[row[i] for i in order] for row in rows])
  if draw(st.booleans()):
    content = content.replace(b"\r\n", b"\n")
  start = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\n \r\n"]))
  tables[name] = start + content + draw(st.sampled_from([b"", b"\n\n"]))
  return set()


def columns_that_are_not_needed(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  at = rows[0].index("filename_hr")
  tables[DATABASE] = write_table([row[:at] + row[at + 1 :] for row in rows])
  return set()


def missing_column(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  at = draw(st.integers(0, rows[0].index("filename_lr")))
  renamed = draw(st.booleans())
  for row in rows:
    row[at : at + 1] = [row[at] + "?"] if renamed else []
  tables[DATABASE] = write_table(rows)
  raise Failure


def repeated_column(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  at = draw(st.integers(0, rows[0].index("filename_lr")))
  other = draw(st.permutations(range(1, len(rows))))
  rows = [
    [*row, rows[i][at] if i else row[at]]
    for row, i in zip(rows, [0, *other], strict=True)
  ]
  tables[DATABASE] = write_table(rows)
  raise Failure


def repeated_row(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  rows.append(draw(st.sampled_from(rows[1:])))
  tables[DATABASE] = write_table(rows)
  raise Failure


def cut_table(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  content = tables[name]
  cut = content[: draw(st.integers(0, len(content) - 3))]
  if name == DATABASE:
    # Nothing tells that whole rows are missing from the end, or a part of the
    # last column.
    last = (read_table(cut) or [[]])[-1]
    hypothesis.assume(len(last) < len(read_table(content)[0]))
  tables[name] = cut
  raise Failure


def broken_text(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  content = tables[name]
  at = draw(st.integers(0, len(content)))
  bad = draw(st.sampled_from([b"\xff", b"\xc3(", b"\xed\xa0\x80"]))
  tables[name] = content[:at] + bad + content[at:]
  raise Failure


def other_content(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  content = tables[name]
  tables[name] = draw(
    st.sampled_from(
      [
        b"", b"\n", b"\0" * 500, b"\xef\xbb\xbf", content.split(b"\n")[0],
        content.decode().encode("utf-16"), content.replace(b",", b";"),
        content + b'"', content + b"1\n", content.replace(b"\n", b",x\n"),
      ]
    )
    | st.binary()
  )  # fmt: skip
  raise Failure


def no_table(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  del tables[name]
  if draw(st.booleans()):
    (folder / name).mkdir()
  raise Failure


def bad_cells(draw, folder, tables):
  """Cells that cannot be right in one to three rows."""
  rubbish = st.sampled_from(
    ["", " ", "x", "-1", "nan", "\0", "\u0661", "{}x", "{[]: 1}", "-" * 10**5]
  )
  bad = {
    "patient_id": rubbish,
    "report": st.sampled_from(["a\0b", "\x1b[2J", "\ufffdPNG", "\x7fELF"]),
    "scp_codes": rubbish | st.just("{'NORM': 100.0, 'UNHEARD': 0.0}"),
    "strat_fold": rubbish | st.sampled_from(["0", "11", "1.0"]),
    "filename_lr": rubbish
    | st.sampled_from(["/", "..", "y" * 5000, "records100/00000/00061_lr"]),
  }
  rows = read_table(tables[DATABASE])
  chosen = draw(st.permutations(range(1, len(rows))))[: draw(st.integers(1, 3))]
  for row in chosen:
    column = draw(st.sampled_from(sorted(bad)))
    rows[row][rows[0].index(column)] = draw(bad[column])
  tables[DATABASE] = write_table(rows)
  return {rows[row][0] for row in chosen}


def bad_id(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  row = draw(st.sampled_from(rows[1:]))
  row[0] = draw(st.sampled_from(["", "x", "1\n2", "\0", "-3", "99", "../1"]))
  tables[DATABASE] = write_table(rows)
  return {row[0]}


def exchanged_files(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  first, second = draw(st.permutations(rows[1:]))[:2]
  at = rows[0].index("filename_lr")
  first[at], second[at] = second[at], first[at]
  tables[DATABASE] = write_table(rows)
  return {first[0], second[0]}


def long_field(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  row = draw(st.sampled_from(rows[1:]))
  row[2] = "x" * (csv.field_size_limit() + 1)
  tables[DATABASE] = write_table(rows)
  raise Failure


def open_quote(draw, folder, tables):
  """A quote that nothing closes would swallow the rest of the table."""
  rows = read_table(tables[DATABASE])
  lines = [write_table([row]) for row in rows]
  at = draw(st.integers(1, len(lines) - 1))
  before, comma, last = lines[at].rpartition(b",")
  # In the last column it leaves the number of fields as it is.
  first = draw(st.booleans())
  lines[at] = b'"' + lines[at] if first else before + comma + b'"' + last
  tables[DATABASE] = b"".join(lines)
  raise Failure


def damaged_signals(draw, folder, tables):
  chosen = draw(st.permutations(IDS))[: draw(st.integers(1, 4))]
  for record_id in chosen:
    path = folder / "records100" / "00000" / f"{int(record_id):05d}_lr"
    header, data = path.with_suffix(".hea"), path.with_suffix(".dat")
    match draw(st.integers(0, 5)):
      case 0:
        data.write_bytes(data.read_bytes()[: -draw(st.integers(1, 24000))])
      case 1:
        header.write_bytes(draw(st.binary()))
      case 2:
        header.unlink()
      case 3:
        data.write_bytes(data.read_bytes()[::-1])
      case 4:
        text = header.read_text().replace(" 100 1000", " 500 1000")
        header.write_text(text)
      case 5:
        other = folder / "records100" / "00000" / "00061_lr"
        ptb_xl_corpus.write_record(other, np.zeros((1000, 12)), 100)
        shutil.copy(other.with_suffix(".hea"), header)
  return set(chosen)


TABLE_DAMAGE = (
  other_ways, columns_that_are_not_needed, missing_column, repeated_column,
  repeated_row, cut_table, broken_text, other_content, no_table, bad_cells,
  bad_id, exchanged_files, long_field, open_quote, damaged_signals,
)  # fmt: skip


@pytest.mark.parametrize("damage", TABLE_DAMAGE, ids=lambda f: f.__name__)
@wfdb_packer.examples(4)
@hypothesis.given(data=st.data())
def test_damaged_data_sets(corpus, damage, data):
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary, "corpus")
    shutil.copytree(corpus, folder)
    tables = {n: (folder / n).read_bytes() for n in (DATABASE, STATEMENTS)}
    for name in tables:
      (folder / name).unlink()
    try:
      rejected = damage(data.draw, folder, tables)
    except Failure:
      rejected = None
    for name, content in tables.items():
      (folder / name).write_bytes(content)
    data_dir = pathlib.Path(temporary, "data")
    if rejected is None:
      assert_fails(folder, data_dir)
    else:
      assert_builds(folder, data_dir, rejected)


def build_corpus(folder, data_dir):
  return build.build(
    "ptb_xl/100hz", manual_dir=folder, data_dir=data_dir, max_rejected=0.9
  )


def assert_fails(folder, data_dir):
  with pytest.raises(UserError) as error:
    build_corpus(folder, data_dir)
  assert str(error.value).isprintable()  # one line
  left = {path.name for path in data_dir.rglob("*") if path.is_file()}
  assert left <= {"rejected.jsonl"}


def assert_builds(folder, data_dir, rejected):
  final = build_corpus(folder, data_dir)
  lines = (final / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
  listed = [json.loads(line) for line in lines]
  assert {entry["id"] for entry in listed} == rejected
  assert all(entry["reason"] and entry["detail"] for entry in listed)
  builder = tfds.builder("ptb_xl/100hz", data_dir=data_dir)
  found = {}
  for split in builder.info.splits:
    for example in builder.as_data_source(split):
      found[example["id"].decode()] = example
      i = int(example["id"])
      truth = np.rint(1e3 * ptb_xl_corpus.signal(i, 100).T)
      np.testing.assert_array_equal(example["ecg"], truth)
      assert example["report"].decode() == f"Bericht {i} \u00fcberdreht"
  assert len(found) + len(rejected) == len(IDS)
  assert not found.keys() & rejected
