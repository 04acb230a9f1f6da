"""What docs/extending.md tells to do is done in a copy, and works."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.train import metrics
from tests import pages

PAGE = "docs/extending.md"
ROOT = pathlib.Path(__file__).parents[1]
EVALUATION = (
  "--config.evaluation.min_positives=2",
  "--config.evaluation.num_bootstrap=20",
  "--config.evaluation.seeds=1",
  "--config.evaluation.fractions=(1.0,)",
)


# In place of the tracker: writes down how it is called.
WANDB = """
import json
Image = str
class _Run:
  def log(self, values, step):
    with open("wandb.jsonl", "a") as file:
      file.write(json.dumps({"step": step, **values}) + "\\n")
  def finish(self):
    self.log({"finished": True}, -1)
def init(name, config, resume):
  _Run().log({"name": name, "recipe": config["recipe"]}, 0)
  return _Run()
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
  """A copy of the repository with everything on the page added to it."""
  root = tmp_path_factory.mktemp("copy")
  for name in ("cgdmer_jax", "configs", "data_builders"):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / name, root / name, ignore=ignored)
  (root / "tests").mkdir()
  for name in ("__init__.py", "toy.py"):
    shutil.copy(ROOT / "tests" / name, root / "tests")
  for block in pages.blocks(PAGE, "diff"):
    pages.apply(root, block)
  for block in pages.blocks(PAGE, "python"):
    path = pages.write(root, block)
    if path.parts[-3:-2] == ("data_builders",):
      (path.parent / "__init__.py").touch()
      for name in ("README.md", "CITATIONS.bib", "TAGS.txt"):
        shutil.copy(ROOT / "data_builders/synthetic_ecg" / name, path.parent)
  (root / "wandb.py").write_text(WANDB)
  run(root, "-m", "data_builders.build", "--dataset=synthetic_ecg/tiny")
  return root


def run(root, *arguments):
  """Runs Python in the copy; returns what it prints."""
  environment = {
    **os.environ,
    "PYTHONPATH": str(root),
    "JAX_PLATFORMS": "cpu",
    "GLIBC_TUNABLES": "",
  }
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=root,
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


def main(root, *arguments):
  return run(root, "-m", "cgdmer_jax.main", *arguments)


def rows(workdir):
  with (workdir / "results/comparison.csv").open() as file:
    return list(csv.DictReader(file))


def test_every_example_is_short():
  for language in ("diff", "python"):
    for block in pages.blocks(PAGE, language):
      assert block.count("\n") <= 40, block


def test_a_loss_a_recipe_and_a_mask_kind(copy):
  code = """
import jax, numpy as np
from cgdmer_jax.config import presets
from cgdmer_jax.models import masking
on = [n for n in presets.RECIPES if "uniformity" in presets.RECIPES[n]]
assert on == ["uniform_clip"], on
pretrain = presets.load("configs/pretrain.py")
for name in presets.RECIPES:
  weight = pretrain.get_config(f"recipe={name}").loss.uniformity
  assert (weight > 0) == (name in on), name
mask = masking.sample_patch_mask(
  jax.random.key(0), np.ones((3, 12), bool), 8, "one_lead", 0.5, 0.5
)
assert mask.num_visible == 8 and (mask.hidden.sum((1, 2)) == 88).all()
"""
  run(copy, "-c", code)
  workdir = copy / "runs/uniform"
  main(
    copy,
    "--config=tests/toy.py:recipe=uniform_clip",
    f"--workdir={workdir}",
    "--config.train.steps=2",
    "--config.evaluation.tasks=()",
    "--config.mask.kind=one_lead",
  )
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  logged = json.loads(lines[0])
  assert np.isfinite(logged["train/uniformity"])
  text = (copy / "wandb.jsonl").read_text()
  tracked = [json.loads(line) for line in text.splitlines()]
  assert tracked[0]["name"] == "uniform"
  assert tracked[0]["recipe"] == "uniform_clip"
  assert tracked[1]["train/loss"] == logged["train/loss"]
  assert tracked[1]["speed/examples_per_second"] > 0
  assert any(line.get("loss", "").endswith("loss.png") for line in tracked)
  assert tracked[-1]["finished"]
  terms = logged["train/align"] + 0.1 * logged["train/uniformity"]
  assert logged["train/loss"] == pytest.approx(terms, rel=1e-5)


def test_a_data_set_is_in_the_benchmark_without_being_listed(copy):
  source = copy / "ward"
  source.mkdir()
  rng = np.random.default_rng(0)
  for patient in range(60):
    ecg = rng.normal(size=(1000, 12)).cumsum(0) / 50
    wfdb.wrsamp(
      f"{patient}_1",
      *(100, ["mV"] * 12, list(LEADS), ecg),
      fmt=["16"] * 12,
      comments=[f"Dx: {('NORM', 'MI')[patient // 10 % 2]}"],
      write_dir=str(source),
    )
  run(
    *(copy, "-m", "data_builders.build", "--dataset=ward/100hz"),
    f"--manual_dir={source}",
  )
  workdir = copy / "runs/built"
  main(
    copy,
    "--config=configs/linear_probe.py:built",
    "--config.encoders=random_convolutions",
    "--config.evaluation.label_sets=('superclass','infarction')",
    f"--workdir={workdir}",
    *EVALUATION,
  )
  assert {r["dataset"] for r in rows(workdir)} == {
    *("synthetic_ecg/tiny", "ward/100hz")
  }


def test_a_task_needs_its_file_and_its_configuration(copy):
  workdir = copy / "runs/task"
  main(
    copy,
    "--config=configs/nearest_record.py:labels=superclass",
    "--config.encoders=random_convolutions",
    "--config.evaluation.datasets=synthetic_ecg/tiny",
    f"--workdir={workdir}",
    *EVALUATION,
  )
  assert {r["task"] for r in rows(workdir)} == {"nearest_record"}
  tables = (workdir / "results/tables.md").read_text()
  assert "| encoder | nearest |" in tables
  names = {path.name for path in (workdir / "figures").iterdir()}
  assert "macro-synthetic_ecg-tiny-superclass.png" in names
  code = """
from cgdmer_jax.config import presets
from cgdmer_jax.evaluators import tasks
from cgdmer_jax.evaluators.task import Options, UndeclaredOption
evaluation = presets.load("configs/nearest_record.py").get_config().evaluation
options = Options(tasks.TASKS["nearest_record"], evaluation, None)
assert options.min_positives == 10
try:
  options.seeds
except UndeclaredOption as error:
  assert "nearest_record" in str(error) and "seeds" in str(error)
else:
  raise SystemExit("an undeclared option was read")
"""
  run(copy, "-c", code)


def test_an_encoder_of_ones_own(copy):
  run(copy, "own_encoder.py", "data", "own.npz")
  workdir = copy / "runs/own"
  main(
    copy,
    "--config=configs/linear_probe.py",
    "--config.encoders=own.npz,random_convolutions",
    "--config.evaluation.datasets=synthetic_ecg/tiny",
    "--config.evaluation.label_sets=('superclass',)",
    f"--workdir={workdir}",
    *EVALUATION,
  )
  assert {r["encoder"] for r in rows(workdir)} == {"own", "random convolutions"}


# The recipe of that commit, where ours has become another.
OLD = (
  "--config=tests/toy.py",
  "--config.mask.kind=spatial_temporal",
  "--config.mask.lead_ratio=0.5",
  "--config.mask.time_ratio=0.5",
  "--config.mask.whole_ratio=0.0",
  "--config.model.ecg_target=patch",
  "--config.model.ecg.stem_pool=False",
)


def test_a_run_of_before_goes_on_after_a_field_was_added(copy):
  """A run of commit f22598d, whose configuration lacks the new field.

  It was made of the records of `synthetic_ecg/tiny` 3.0.0.
  """
  fixture = ROOT / "tests/fixtures/run_f22598d.tar.xz"
  shutil.unpack_archive(fixture, copy / "runs", filter="data")
  workdir = copy / "runs/run_f22598d"
  before = metrics.read_metrics(workdir)
  config = json.loads((workdir / "config.json").read_text())
  assert "format" not in config and "uniformity" not in config["loss"]
  old = (workdir / "results/tables.md").read_text()
  main(
    copy,
    *OLD,
    f"--workdir={workdir}",
    "--config.evaluation.label_sets=('superclass',)",
  )
  after = metrics.read_metrics(workdir)
  assert before[:-2] == after[:-2]  # nothing was trained again
  for old_line, new_line in zip(before[-2:], after[-2:], strict=True):
    same = {name: new_line[name] for name in old_line}
    assert old_line == pytest.approx(same, rel=1e-3)
  config = json.loads((workdir / "config.json").read_text())
  assert config["format"] == 2 and config["loss"]["uniformity"] == 0
  assert (workdir / "complete").exists()
  new = (workdir / "results/tables.md").read_text()
  assert new.splitlines()[0] == old.splitlines()[0]
  # A field that was changed is still refused by its name.
  with pytest.raises(AssertionError, match="holds a run with optim.lr"):
    main(
      copy,
      *OLD,
      f"--workdir={workdir}",
      "--config.optim.lr=0.5",
    )
