"""Two real processes on one machine, and flags that do not go together."""

import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

from cgdmer_jax import distributed, experiment, pretrain, sharding
from cgdmer_jax.errors import UserError
from data_builders import build
from tests import toy

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = "--config=tests/toy.py:recipe=clip", "--config.evaluation.tasks=()"


def free_port():
  with socket.socket() as s:
    s.bind(("localhost", 0))
    return s.getsockname()[1]


def start(*flags):
  return subprocess.Popen(
    [sys.executable, "-m", "cgdmer_jax.main", *CONFIG, *flags],
    cwd=ROOT,
    env=dict(os.environ, JAX_PLATFORMS="cpu"),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def parameters(workdir):
  mesh = sharding.make_mesh((-1, 1, 1))
  loaded = experiment.load(str(workdir), 1000, mesh)
  assert loaded.step == 7
  leaves = jax.tree_util.tree_leaves_with_path(loaded.params)
  arrays = {jax.tree_util.keystr(k): np.array(v) for k, v in leaves}
  for name, x in arrays.items():
    if "qkv" in name and "bias" in name:
      # Softmax does not feel the bias of keys: its gradient is rounding error,
      # which Adam makes as large as any other.
      x[1] = 0
  return arrays


def test_two_processes_are_one(tmp_path):
  data_dir = tmp_path / "data"
  build.build("synthetic_ecg/tiny", data_dir=data_dir)
  address = f"localhost:{free_port()}"
  processes = [
    start(
      *(f"--data_dir={data_dir}", f"--workdir={tmp_path / 'two'}"),
      *(f"--coordinator={address}", "--num_processes=2", f"--process_id={i}"),
    )
    for i in range(2)
  ]
  outputs = [p.communicate(timeout=300)[0] for p in processes]
  assert [p.returncode for p in processes] == [0, 0], outputs
  assert all("'data': 2" in output for output in outputs)
  config = toy.get_config("recipe=clip")
  with config.unlocked():
    config.evaluation.tasks = ()
    config.mesh = (2, 2, 1)
  pretrain.run(config, tmp_path / "one", data_dir)
  one, two = parameters(tmp_path / "one"), parameters(tmp_path / "two")
  assert one.keys() == two.keys() and len(one) > 30
  for name, value in one.items():
    np.testing.assert_allclose(
      two[name], value, rtol=1e-5, atol=2e-6, err_msg=name
    )
  rows = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
  steps = [r for r in rows if "train/loss" in r]
  assert len(steps) == len(set(steps))  # one process writes


@pytest.mark.parametrize(
  ("values", "message"),
  [
    ({"coordinator": "localhost:1"}, "--process_id together"),
    (
      {"multihost": True, "num_processes": 2, "process_id": 0},
      "or --multihost alone",
    ),
    (
      {"coordinator": "localhost:1", "num_processes": 2, "process_id": 2},
      "--process_id=2 of --num_processes=2",
    ),
    (
      {"coordinator": "here", "num_processes": 2, "process_id": 1},
      "--coordinator=here; expected HOST:PORT",
    ),
    (
      {"coordinator": "localhost:1", "num_processes": 2, "process_id": 1},
      "nobody answers at --coordinator=localhost:1 .*process 0 running",
    ),
  ],
)
def test_flags_that_lead_nowhere(values, message):
  with (
    flagsaver.flagsaver(start_timeout=1, **values),
    pytest.raises(UserError, match=message) as e,
  ):
    distributed.initialize()
  assert "\n" not in str(e.value)
