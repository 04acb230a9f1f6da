"""Drills: what the pages on extending the code promise, done on a copy."""

import csv
import os
import pathlib
import shutil
import subprocess
import sys

from data_builders import build

ROOT = pathlib.Path(__file__).parents[1]

TASK = '''
"""Nearest record: the labels of the most similar training record."""

import numpy as np

from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Task
from cgdmer_jax.figures import results as figures


def run(inputs, options):
  data = inputs.data
  x, z = (
    inputs.store.ecg(data.source(split)).shared for split in ("train", "test")
  )
  nearest = np.stack([((x - row) ** 2).sum(axis=1).argmin() for row in z])
  labels, index = data.labels(inputs.label_set), data.index("test")
  test, belongs = scoring.make_test_set(
    index.subject_ids, labels["test"], inputs.label_names, index.ids
  )
  outcome = scoring.evaluate(
    test,
    "nearest_record",
    labels["train"][nearest][belongs].astype(np.float32),
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )
  return Findings(test, (outcome,))


def draw(rows, encoders, title):
  return figures.auroc_per_label(rows[:1], encoders, title)


TASK = Task(
  name="dummy",
  run=run,
  order=90,
  labels="first",
  options=("min_positives",),
  own_table=True,
  heading=lambda setting: "the nearest",
  figure=draw,
)
'''

CONFIG = '''
"""A drill: --config=configs/dummy.py."""

from cgdmer_jax.config import presets


def get_config(arg=None):
  return presets.evaluate(("dummy",), arg)
'''


def copy_package(tmp_path):
  """A copy of the package and its configurations, to be changed."""
  for name in ("cgdmer_jax", "configs"):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
  return tmp_path


def test_a_new_task(tmp_path):
  """One file and one configuration; it is in tables, numbers and figures."""
  code = copy_package(tmp_path / "code")
  (code / "cgdmer_jax/evaluators/tasks/dummy.py").write_text(TASK)
  (code / "configs/dummy.py").write_text(CONFIG)
  build.build("synthetic_ecg/tiny", data_dir=tmp_path / "data")
  done = subprocess.run(
    [
      *(sys.executable, "-m", "cgdmer_jax.main", "--config=configs/dummy.py"),
      "--config.encoders=random_convolutions",
      "--config.evaluation.datasets=synthetic_ecg/tiny",
      *("--config.evaluation.num_bootstrap=20", f"--workdir={tmp_path}/run"),
      f"--data_dir={tmp_path}/data",
    ],
    cwd=code,
    env=dict(os.environ, JAX_PLATFORMS="cpu", PYTHONPATH=str(code)),
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  results = tmp_path / "run" / "results"
  tables = (results / "tables.md").read_text()
  assert "synthetic_ecg/tiny, superclass, dummy: macro AUROC" in tables
  assert "| encoder | the nearest |" in tables
  with (results / "comparison.csv").open() as file:
    rows = list(csv.DictReader(file))
  assert {row["task"] for row in rows} == {"dummy"}
  figures = [path.name for path in (tmp_path / "run" / "figures").iterdir()]
  assert figures == ["dummy-synthetic_ecg-tiny-superclass.png"]
