import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from data_builders import splits


def make_records(seed=0, n=3000, num_groups=None):
  """Ids, labels from half of the records down to a handful, and patients."""
  rng = np.random.default_rng(seed)
  ids = [f"r{i}" for i in range(n)]
  shares = np.array([0.5, 0.2, 0.05, 0.02, 0.008, 0.004, 0.002])
  labels = (rng.random((n, len(shares))) < shares).astype(np.uint8)
  labels[:, 6] &= 1 - labels[:, 0]
  groups = [""] * n
  if num_groups:
    groups = [f"p{g}" for g in rng.integers(0, num_groups, n)]
  return ids, labels, groups


def split_array(ids, assigned):
  return np.array([assigned[i] for i in ids])


@pytest.mark.parametrize("num_groups", [None, 1200])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_label_is_shared_out_like_the_records(seed, num_groups):
  ids, labels, groups = make_records(seed, num_groups=num_groups)
  found = split_array(ids, splits.stratified(ids, labels, groups))
  for split, share in splits.FRACTIONS.items():
    chosen = found == split
    assert abs(chosen.mean() - share) < 0.005
    for column in labels.T:
      expected = share * column.sum()
      assert abs(column[chosen].sum() - expected) <= max(2, 0.02 * expected)
    # Those without a label are no dumping ground of one split.
    rest = ~labels.any(axis=1)
    assert abs((chosen & rest).sum() / rest.sum() - share) < 0.02


def test_patients_stay_together():
  ids, labels, groups = make_records(num_groups=1000)
  found = splits.stratified(ids, labels, groups)
  split_of = {}
  for record_id, group in zip(ids, groups, strict=True):
    assert split_of.setdefault(group, found[record_id]) == found[record_id]
  assert set(split_of.values()) == set(splits.FRACTIONS)


@pytest.mark.parametrize("seed", range(20))
def test_every_label_of_three_patients_is_in_each_split(seed):
  """Rare labels that often come together, several records a patient."""
  rng = np.random.default_rng(seed)
  n, num_labels = 300, 12
  labels = np.zeros((n, num_labels), np.uint8)
  for label in range(num_labels):
    labels[rng.integers(0, 60, rng.integers(3, 9)), label] = 1
  groups = [f"p{g}" for g in rng.integers(0, 150, n)]
  ids = [f"r{i}" for i in range(n)]
  found = split_array(ids, splits.stratified(ids, labels, groups))
  groups = np.array(groups)
  for label in range(num_labels):
    positive = labels[:, label] == 1
    num = len(set(groups[positive]))
    expected = set(splits.FRACTIONS) if num >= 3 else {"train", "test"}
    assert expected <= set(found[positive]) or num == 1


@pytest.mark.parametrize("num_groups", [None, 700])
def test_order_of_the_records_does_not_matter(num_groups):
  ids, labels, groups = make_records(num_groups=num_groups)
  found = splits.stratified(ids, labels, groups)
  order = np.random.default_rng(1).permutation(len(ids))
  again = splits.stratified(
    [ids[i] for i in order], labels[order], [groups[i] for i in order]
  )
  assert again == found


def test_seed_and_fractions_count():
  ids, labels, groups = make_records()
  found = splits.stratified(ids, labels, groups)
  assert found != splits.stratified(ids, labels, groups, seed=1)
  halves = splits.stratified(ids, labels, groups, {"a": 0.5, "b": 0.5})
  assert abs(list(halves.values()).count("a") - 1500) < 15


def test_known_split():
  """The split of a data set must never change under the feet of its users."""
  labels = np.array([[i % 3 == 0, i % 5 == 0] for i in range(20)], np.uint8)
  ids = [f"r{i}" for i in range(20)]
  found = splits.stratified(ids, labels, [""] * 20)
  members = {
    s: " ".join(i for i in ids if found[i] == s) for s in splits.FRACTIONS
  }
  assert members == {
    "train": "r0 r1 r6 r8 r9 r11 r13 r14 r15 r16 r17 r18 r19",
    "validation": "r3 r4 r5",
    "test": "r2 r7 r10 r12",
  }


FILES = {"train": "a.csv", "test": "b.csv"}


def write(folder, **files):
  for name, text in files.items():
    (folder / f"{name}.csv").write_text(text)


def read(folder, names=("X", "Y")):
  published = splits.Published(FILES, "file", "the tables")
  return splits.read_published(folder, published, names)


def test_published_columns_are_read_by_position(tmp_path):
  write(
    tmp_path,
    a="file,age,X,Y\n/some/where/r1.mat,12,1,0\nr2,12,0,0\n",
    b="\nage,file,Y,X\n12,r3,0,1\n",  # a blank line, and in another order
  )
  found = read(tmp_path)
  assert list(found) == ["train", "test"]
  found = {
    split: {i: v.tolist() for i, v in members.items()}
    for split, members in found.items()
  }
  assert found == {
    "train": {"r1": [1, 0], "r2": [0, 0]},
    "test": {"r3": [0, 1]},
  }


@pytest.mark.parametrize(
  ("b", "message"),
  [
    (None, "no b.csv in .*; expected the tables"),
    ("file,X\nr3,1\n", "b.csv has no column 'Y'; expected the tables"),
    ("name,X,Y\nr3,1,0\n", "b.csv has no column 'file'"),
    ("", "b.csv has no column 'file'"),
    ("file,X,Y\nr3,1,0.5\n", "b.csv: Y of 'r3' is '0.5', expected 0 or 1"),
    ("file,X,Y\nr3,1,\n", "b.csv: Y of 'r3' is '', expected 0 or 1"),
    ("file,X,Y\nr3,1\n", "row 1 of .*b.csv has 2 fields instead of 3"),
    ('file,X,Y\nr3,1,"0\nr4,1,1\n', "b.csv is not a table of the tables: un"),
    ("file,X,Y,X\nr3,1,0,0\n", "b.csv has several columns 'X'"),
    ("file,Z,X,Y\nr3,1,0,0\n", "b.csv: 'r3' has 4 columns, expected 3"),
    ("file,X,Y\nr3,1,0\nr3,1,0\n", "b.csv lists 'r3' twice"),
    ('file,X,Y\n"a\nb",1,2\n', r"Y of 'a\\nb' is '2', expected 0 or 1"),
  ],
)
def test_other_tables_are_an_error(tmp_path, b, message):
  write(tmp_path, a="file,X,Y\nr1,1,0\n")
  if b is not None:
    write(tmp_path, b=b)
  with pytest.raises(UserError, match=message) as error:
    read(tmp_path)
  assert "\n" not in str(error.value)
