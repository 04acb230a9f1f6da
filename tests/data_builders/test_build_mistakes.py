"""What `build` refuses, and how it says so."""

import os
import shutil
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from cgdmer_jax import paths
from cgdmer_jax.errors import UserError
from data_builders import build
from tests.data_builders import ptb_xl_corpus

ROOT = build.__file__.rsplit(os.sep, 2)[0]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  ptb_xl_corpus.write(folder)
  return folder


@pytest.fixture
def own_corpus(corpus, tmp_path):
  """A copy that a test may damage."""
  return shutil.copytree(corpus, tmp_path / "own")


def _command(*flags):
  return [sys.executable, "-m", "data_builders.build", *flags]


def test_leaking_patient_is_an_error(own_corpus, tmp_path):
  rows = [ptb_xl_corpus.row(i) for i in ptb_xl_corpus.FOLDS]
  rows[0]["patient_id"] = rows[-1]["patient_id"]
  rows[0]["strat_fold"] = "10"
  ptb_xl_corpus.write_csv(own_corpus / "ptbxl_database.csv", rows)
  with pytest.raises(UserError, match="patient '30' is in the splits"):
    ptb_xl_corpus.build_set(own_corpus, tmp_path / "data")


def test_duplicate_record_is_an_error(own_corpus, tmp_path):
  rows = [ptb_xl_corpus.row(i) for i in ptb_xl_corpus.FOLDS]
  ptb_xl_corpus.write_csv(own_corpus / "ptbxl_database.csv", rows + rows[:1])
  with pytest.raises(UserError, match="record '2' is listed twice"):
    ptb_xl_corpus.build_set(own_corpus, tmp_path / "data")


@pytest.mark.parametrize(
  ("dataset", "message"),
  [
    ("ptbxl/100hz", "unknown data set 'ptbxl'; choose one of .*ptb_xl"),
    ("ptb_xl/250hz", "choose one of ptb_xl/100hz, ptb_xl/500hz"),
    ("ptb_xl", "choose one of ptb_xl/100hz, ptb_xl/500hz"),
  ],
)
def test_unknown_data_set(tmp_path, dataset, message):
  with pytest.raises(UserError, match=message):
    build.build(dataset, data_dir=tmp_path)


def test_sizes_are_for_simulated_data_sets(corpus, tmp_path):
  with pytest.raises(UserError, match="--num_train does not apply to ptb_xl"):
    ptb_xl_corpus.build_set(corpus, tmp_path, sizes={"train": 10})


def test_sizes_of_a_simulated_data_set(tmp_path):
  sizes = {"train": 5, "validation": 3, "test": 2}
  final = build.build("synthetic_ecg/tiny", data_dir=tmp_path, sizes=sizes)
  name = "tiny_train5_validation3_test2"
  assert final == tmp_path / "synthetic_ecg" / name / "3.0.0"
  info = tfds.builder(f"synthetic_ecg/{name}", data_dir=tmp_path).info
  assert {k: v.num_examples for k, v in info.splits.items()} == sizes


def test_manual_dir(own_corpus, tmp_path):
  data_dir = tmp_path / "data"
  with pytest.raises(UserError, match="absent is not a folder, or is empty"):
    ptb_xl_corpus.build_set(tmp_path / "absent", data_dir)
  with pytest.raises(UserError, match="--manual_dir='' is no path"):
    ptb_xl_corpus.build_set("", data_dir)
  (tmp_path / "empty").mkdir()
  with pytest.raises(UserError, match="not a folder, or is empty"):
    ptb_xl_corpus.build_set(tmp_path / "empty", data_dir)
  with pytest.raises(UserError, match="no ptbxl_database.csv in"):
    ptb_xl_corpus.build_set(tmp_path, data_dir)
  with pytest.raises(UserError, match="no records500 in"):
    build.build("ptb_xl/500hz", manual_dir=own_corpus, data_dir=data_dir)


def test_data_dir_that_cannot_be_written(corpus, tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="cannot write to --data_dir: .*Not a"):
    ptb_xl_corpus.build_set(corpus, tmp_path / "file")


def test_user_mistake_is_one_line(tmp_path):
  (tmp_path / "other.csv").touch()
  result = subprocess.run(
    _command(
      "--dataset=ptb_xl/100hz",
      f"--manual_dir={tmp_path}",
      f"--data_dir={tmp_path}/d",
    ),
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2
  assert result.stdout == ""
  assert result.stderr.startswith("error: no ptbxl_database.csv in")
  assert result.stderr.count("\n") == 1


def test_start_up_imports_neither_jax_nor_tensorflow():
  code = (
    "import sys, data_builders.build;"
    "sys.exit(any(m in sys.modules for m in ('jax', 'tensorflow', 'torch')))"
  )
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_default_data_dir(monkeypatch):
  monkeypatch.delenv(paths.ENVIRONMENT_VARIABLE, raising=False)
  assert str(paths.data_dir()) == "data"
  monkeypatch.setenv(paths.ENVIRONMENT_VARIABLE, "/somewhere")
  assert str(paths.data_dir()) == "/somewhere"
  assert str(paths.data_dir("here")) == "here"
