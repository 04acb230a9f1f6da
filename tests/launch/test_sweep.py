"""Sweeps: their points fit, and run wherever they are sent."""

import os
import pathlib
import subprocess
import sys

import pytest
import yaml

from cgdmer_jax.config import presets
from cgdmer_jax.train import checks
from configs import pretrain
from tests.launch.test_scripts import calls, record_calls

ROOT = pathlib.Path(__file__).parents[2]
JOBSET = {
  **{"IMAGE": "image:1", "BUCKET": "data", "TPU": "tpu-v5-lite-podslice"},
  **{"TOPOLOGY": "4x4", "HOSTS": "4", "CHIPS": "4"},
}


def sweep(*flags, cwd=ROOT, path="", **variables):
  return subprocess.run(
    [sys.executable, str(ROOT / "launch" / "sweep.py"), *flags],
    cwd=cwd,
    env=os.environ
    | variables
    | {"PATH": f"{path}{os.pathsep}{os.environ['PATH']}"},
    capture_output=True,
    text=True,
    timeout=100,
  )


@pytest.mark.parametrize("name", ["recipes", "masking", "seeds"])
def test_every_point_is_a_configuration_that_fits(name):
  found = {}
  for point, option, overrides in getattr(pretrain, f"sweep_{name}")():
    config = pretrain.get_config(option)
    with config.unlocked():
      config.update_from_flattened_dict(overrides)
    checks.check(config, 1000)
    found[point] = config.to_json()
  assert len(set(found.values())) == len(found) >= 3
  if name == "recipes":
    assert {point[:-2] for point in found} == set(presets.RECIPES)


# A configuration file whose points end well, badly, or have ended already.
CONFIG = """
import pretrain_like


def sweep_ends():
  yield "good", "well", {}
  yield "bad", "badly", {}
  yield "late", "well", {"seed": 3}
"""


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "sweeps.py").write_text(CONFIG)
  (tmp_path / "pretrain_like.py").write_text("")
  package = tmp_path / "cgdmer_jax"  # in place of ours, for `python -m`
  package.mkdir()
  (package / "__init__.py").touch()
  (package / "main.py").write_text(
    """
import pathlib, sys
print('ran', *sys.argv[1:])
if 'stopped' in sys.argv[1]:
  sys.exit()
if 'badly' in sys.argv[1]:
  sys.exit(1)
folder = pathlib.Path(sys.argv[-1].partition('=')[2])
folder.mkdir(parents=True)
(folder / 'complete').touch()
"""
  )
  return tmp_path


def test_here_a_point_that_fails_stops_no_other(folder):
  (folder / "runs" / "late").mkdir(parents=True)
  (folder / "runs" / "late" / "complete").touch()
  flags = "--config=sweeps.py:x", "--sweep=ends", "--workdir=runs"
  done = sweep(*flags, "--", "--a=b", cwd=folder)
  assert done.returncode == 1
  lines = [s for s in done.stdout.splitlines() if s.startswith("ran")]
  assert lines == [
    "ran --config=sweeps.py:x,well --a=b --workdir=runs/good",
    "ran --config=sweeps.py:x,badly --a=b --workdir=runs/bad",
  ]
  assert "1 of 3 points are complete" in done.stdout
  assert "1 of 2 points succeeded" in done.stdout
  assert "failed: bad (status 1)" in done.stderr
  shown = sweep(*flags, "--dry_run", cwd=folder)
  assert shown.returncode == 0
  assert not any(s.startswith("ran") for s in shown.stdout.splitlines())
  assert shown.stdout.count("--config=sweeps.py:x,badly") == 1


def test_a_point_that_is_stopped_stops_the_sweep(folder):
  flags = "--config=sweeps.py:stopped", "--sweep=ends", "--workdir=runs"
  done = sweep(*flags, cwd=folder)
  assert done.returncode == 143
  assert "good was stopped; the same command continues" in done.stderr
  assert done.stdout.count("ran ") == 1


def test_a_slurm_array(folder):
  program = record_calls(folder) / "sbatch"
  program.write_text((folder / "srun").read_text().replace("srun", "sbatch"))
  program.chmod(0o755)
  (folder / "runs" / "bad").mkdir(parents=True)
  (folder / "runs" / "bad" / "complete").touch()
  done = sweep(
    *("--config=sweeps.py", "--sweep=ends", "--workdir=runs", "--where=slurm"),
    cwd=folder,
    path=folder,
  )
  assert done.returncode == 0, done.stderr
  points = folder / "runs" / "ends.points"
  assert calls(folder) == [
    [
      *("sbatch", "--array=0,2", f"--export=ALL,SWEEP={points}"),
      str(ROOT / "launch" / "slurm.sbatch"),
    ]
  ]
  assert points.read_text().splitlines()[2] == (
    "--config=sweeps.py:well --config.seed=3 --workdir=runs/late"
  )


def test_jobsets(folder):
  flags = (
    *("--config=sweeps.py", "--sweep=ends", "--workdir=/bucket/x"),
    *("--where=jobset", "--dry_run"),
  )
  done = sweep(*flags, cwd=folder, **JOBSET)
  assert done.returncode == 0, done.stderr
  documents = [d for d in yaml.safe_load_all(done.stdout) if d]
  names = [d["metadata"]["name"] for d in documents]
  assert names == ["ends-good", "ends-bad", "ends-late"]
  done = sweep(*flags, cwd=folder)
  assert done.returncode == 2
  assert done.stderr.startswith("error: set ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
  ("flags", "said"),
  [
    (("--sweep=ends", "--workdir=x"), "--config is needed"),
    (("--config=no.py", "--sweep=a", "--workdir=x"), "no file no.py"),
    (
      ("--config=sweeps.py", "--sweep=a", "--workdir=x"),
      "sweeps.py has no sweep 'a'; it has ends",
    ),
    (("--config=sweeps.py", "--where=moon"), "moon"),
  ],
)
def test_mistakes(folder, flags, said):
  done = sweep(*flags, cwd=folder)
  assert done.returncode == 2 and said in done.stderr
  assert done.stderr.count("\n") == 1
