"""Names of folders, runs and encoders with any characters."""

import pathlib
import shutil
import string
import subprocess
import sys

import numpy as np
import pytest

from cgdmer_jax import evaluate, export, pretrain, trained_model
from cgdmer_jax.config import presets
from cgdmer_jax.data.index import load_index
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checkpoint
from data_builders import build
from tests import toy

ROOT = pathlib.Path(__file__).parents[1]
# A comma separates encoders; a path that has one is found all the same.
PUNCTUATION = "".join(c for c in string.punctuation if c not in "/\\")
NAME = f"_$x_1$\n{PUNCTUATION} größe 心電図"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  build.build("synthetic_ecg/tiny", data_dir=path)
  return path


def features(path, data_dir):
  """Features of somebody's encoder."""
  ids, rows = [], []
  for split in ("train", "validation", "test"):
    source = EcgSource("synthetic_ecg/tiny", split, data_dir)
    ids += list(load_index(source).ids)
    rows += [source.signal(i)["ecg"].std(axis=1) for i in range(len(source))]
  np.savez(path, ids=np.array(ids), features=np.array(rows))


def test_a_run_and_all_that_is_done_with_it(built, tmp_path):
  name = NAME
  workdir, data_dir = tmp_path / name, tmp_path / f"data{name}"
  shutil.copytree(built, data_dir)
  config = toy.get_config("recipe=clip").unlock()
  config.train.update(steps=2, checkpoint_every=1, keep_checkpoints=2)
  config.evaluation.update(
    tasks=("zero_shot",), label_sets=("superclass",), datasets=""
  )
  assert pretrain.run(config, workdir, data_dir)
  # The last step is lost: the same command makes it again.
  before = trained_model.load(workdir, trained(workdir).mesh).params
  shutil.rmtree(workdir / "checkpoints" / "2")
  assert pretrain.run(config, workdir, data_dir)
  after = trained_model.load(workdir, trained(workdir).mesh).params
  np.testing.assert_array_equal(
    before["ecg_projection"]["kernel"], after["ecg_projection"]["kernel"]
  )
  others = tmp_path / f"{name[:60]}.npz"
  features(others, data_dir)
  evaluation = presets.evaluate(("linear_probe",), None).unlock()
  evaluation.encoders = f"{workdir},{others},random"
  evaluation.evaluation.update(config.evaluation.to_dict())
  evaluation.evaluation.tasks = ("linear_probe",)
  output = tmp_path / f"output{name}"
  assert evaluate.run(evaluation, output, data_dir)
  table = (output / "results/tables.md").read_text(encoding="utf-8")
  assert table.count("\n| ") >= 4  # a line for each encoder
  assert len([*(output / "figures").iterdir()]) == 2
  bert = tmp_path / f"bert{name}"
  export.export(str(workdir), str(bert))
  assert (bert / "model.safetensors").exists()


def trained(workdir):
  from cgdmer_jax import sharding

  return trained_model.load(workdir, sharding.make_mesh((-1, 1, 1)))


def test_a_backslash_is_refused_before_anything_is_made(built, tmp_path):
  with pytest.raises(UserError, match="backslash"):
    pretrain.run(toy.get_config(), tmp_path / "a\\b", built)
  assert not [*tmp_path.iterdir()]
  with pytest.raises(UserError, match="backslash"):
    checkpoint.steps(tmp_path / "a\\b")


@pytest.mark.parametrize(
  ("flag", "value"),
  [
    ("--workdir", "gs://bucket/run"),
    ("--data_dir", "s3://bucket/data"),
    ("--config.encoders", "gs://bucket/run"),
  ],
)
def test_addresses_are_no_folders(flag, value, built, tmp_path):
  known = "--config.evaluation.datasets=synthetic_ecg/tiny"
  done = main(tmp_path, known, f"--data_dir={built}", f"{flag}={value}")
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith(f"error: {flag}={value}")
  assert not [*tmp_path.iterdir()]


def main(folder, *arguments, **environment):
  import os

  return subprocess.run(
    [
      *(sys.executable, "-m", "cgdmer_jax.main"),
      f"--config={ROOT}/configs/linear_probe.py",
      *arguments,
    ],
    cwd=folder,
    env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    capture_output=True,
    text=True,
    check=False,
  )


def test_a_terminal_that_cannot_show_a_name(built, tmp_path):
  features(tmp_path / "größe.npz", built)
  done = main(
    tmp_path,
    "--config.encoders=größe.npz",
    "--config.evaluation.datasets=synthetic_ecg/tiny",
    "--config.evaluation.label_sets=('superclass',)",
    "--config.evaluation.min_positives=2",
    "--config.evaluation.num_bootstrap=20",
    f"--data_dir={built}",
    "--workdir=~/run",
    PYTHONIOENCODING="ascii",
    HOME=str(tmp_path / "home"),
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert "gr??e" in done.stdout
  results = tmp_path / "home/run/results"
  assert "größe" in (results / "tables.md").read_text(encoding="utf-8")
