"""Names of folders, runs and encoders with any characters."""

import pathlib
import shutil
import string
import subprocess
import sys

import numpy as np
import pytest

from cgdmer_jax import evaluate, pretrain, sharding, trained_model
from cgdmer_jax.config import presets
from cgdmer_jax.data.index import load_index
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import parse
from cgdmer_jax.exchange import directory
from cgdmer_jax.train import checkpoint, setup
from tests import odd_names, toy
from tests.data_builders import cinc_corpus

ROOT = pathlib.Path(__file__).parents[1]
# A comma separates encoders; a path that has one is found all the same.
PUNCTUATION = "".join(c for c in string.punctuation if c not in "/\\")
NAME = f"_$x_1$\n{PUNCTUATION} größe 心電図"


def features(path, data_dir):
  """Features of somebody's encoder."""
  ids, rows = [], []
  for split in ("train", "validation", "test"):
    source = EcgSource("synthetic_ecg/tiny", split, data_dir)
    ids += list(load_index(source).ids)
    rows += [source.signal(i)["ecg"].std(axis=1) for i in range(len(source))]
  np.savez(path, ids=np.array(ids), features=np.array(rows))


@pytest.fixture(scope="module")
def compiled_once():
  """Runs of one configuration share their programs; nothing is validated."""
  kept = {}
  assemble = setup.assemble

  def shared(config, vocabulary):
    key = config.to_json()
    if key not in kept:
      kept[key] = assemble(config, vocabulary)
    return kept[key]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setup, "assemble", shared)
    patch.setattr(pretrain, "_validator", lambda *_: lambda params: {})
    yield


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_all_that_is_done_with_names(tiny_data, compiled_once, tmp_path, seed):
  """One that holds all of ASCII punctuation, and random ones."""
  names = [NAME] * 7
  if seed is not None:
    names = [odd_names.make([seed, i]) for i in range(7)]
  data, workdir, theirs, output, bert, manual, records = (
    tmp_path / str(i) / name for i, name in enumerate(names)
  )
  data.parent.mkdir()
  shutil.copytree(tiny_data, data)
  config = toy.get_config("recipe=clip").unlock()
  config.train.update(steps=2, checkpoint_every=1, keep_checkpoints=2)
  config.evaluation.update(tasks=(), label_sets=("superclass",), datasets="")
  if "\\" in workdir.name:
    with pytest.raises(UserError, match="backslash"):
      pretrain.run(config, workdir, data)
    assert not workdir.parent.exists()
    workdir = workdir.with_name(workdir.name.replace("\\", "!"))
  assert pretrain.run(config, workdir, data)
  # The last step is lost: the same command makes it again.
  before = projection(workdir)
  shutil.rmtree(workdir / "checkpoints" / "2")
  assert pretrain.run(config, workdir, data)
  np.testing.assert_array_equal(before, projection(workdir))
  theirs = theirs.with_name(f"{theirs.name}.npz")
  theirs.parent.mkdir()
  features(theirs, data)
  evaluation = presets.evaluate(("linear_probe",), None).unlock()
  evaluation.encoders = f"{workdir},{theirs},random"
  evaluation.evaluation.update(config.evaluation.to_dict())
  evaluation.evaluation.tasks = ("linear_probe",)
  assert evaluate.run(evaluation, output, data)
  table = (output / "results/tables.md").read_text(encoding="utf-8")
  assert table.count("\n| ") >= 4  # a line for each encoder
  assert len([*(output / "figures").iterdir()]) == 2
  directory.export_report_encoder(str(workdir), bert)
  assert (bert / "model.safetensors").exists()
  signals = {i: cinc_corpus.signal(i) for i in range(1, 21)}
  cinc_corpus.write(manual, "csn", signals)
  assert cinc_corpus.build_set(manual, records).is_relative_to(records)


def projection(workdir):
  mesh = sharding.make_mesh((-1, 1, 1))
  return trained_model.load(workdir, mesh).params["ecg_projection"]["kernel"]


def test_a_backslash_is_refused_before_anything_is_made(tiny_data, tmp_path):
  with pytest.raises(UserError, match="backslash"):
    pretrain.run(toy.get_config(), tmp_path / "a\\b", tiny_data)
  assert not [*tmp_path.iterdir()]
  with pytest.raises(UserError, match="backslash"):
    checkpoint.steps(tmp_path / "a\\b")


def test_addresses_are_no_folders(tiny_data, tmp_path):
  known = "--config.evaluation.datasets=synthetic_ecg/tiny"
  given = "--workdir=s3://bucket/run"
  done = main(tmp_path, known, f"--data_dir={tiny_data}", given)
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith(f"error: {given} is no path")
  assert not [*tmp_path.iterdir()]
  with pytest.raises(UserError, match="^--config.encoders=s3://b/run is no pa"):
    parse.parse("s3://b/run", sharding.make_mesh((-1, 1, 1)), 16)


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


def test_a_terminal_that_cannot_show_a_name(tiny_data, tmp_path):
  features(tmp_path / "größe.npz", tiny_data)
  done = main(
    tmp_path,
    "--config.encoders=größe.npz",
    "--config.evaluation.datasets=synthetic_ecg/tiny",
    "--config.evaluation.label_sets=('superclass',)",
    "--config.evaluation.min_positives=2",
    "--config.evaluation.num_bootstrap=20",
    f"--data_dir={tiny_data}",
    "--workdir=~/run",
    PYTHONIOENCODING="ascii",
    HOME=str(tmp_path / "home"),
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert "gr??e" in done.stdout
  results = tmp_path / "home/run/results"
  assert "größe" in (results / "tables.md").read_text(encoding="utf-8")
