"""Real processes on one machine, what happens to them, and their flags."""

import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

from cgdmer_jax import distributed, pretrain, sharding, trained_model
from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_bert
from cgdmer_jax.train import checkpoint
from data_builders import build
from tests import toy
from tests.tiny_bert import SIZES, random_params

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 20


def settings(shared):
  """Of all runs: alignment with a frozen report encoder, computed once."""
  return {
    "evaluation.tasks": (),
    "data.statements": (0,),
    "data.validation": "train",  # the split itself has fewer than a batch
    "report.checkpoint": str(shared / "bert"),
    "report.train": "frozen",
    "report.max_length": 40,
    "train.steps": STEPS,
    "train.batch_size": 128,  # a step takes long enough to be disturbed
    "train.checkpoint_every": 5,
    "train.validate_every": STEPS,
  }


class Processes:
  """Several that run side by side."""

  def __init__(self, commands):
    self.all = [
      subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(os.environ, JAX_PLATFORMS="cpu"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
      for command in commands
    ]

  def end(self, *codes, timeout=300):
    """Waits for all; returns what they wrote."""
    outputs = [p.communicate(timeout=timeout)[0] for p in self.all]
    assert [p.returncode for p in self.all] == list(codes), outputs
    return outputs


def start(count, shared, workdir):
  """The same run in `count` processes."""
  with socket.socket() as s:
    s.bind(("localhost", 0))
    port = s.getsockname()[1]
  flags = [f"--config.{k}={v}" for k, v in settings(shared).items()]
  return Processes(
    [
      *(sys.executable, "-m", "cgdmer_jax.main"),
      *("--config=tests/toy.py:recipe=clip", *flags),
      *(f"--data_dir={shared / 'data'}", f"--workdir={workdir}"),
      *(f"--coordinator=localhost:{port}", f"--num_processes={count}"),
      *(f"--process_id={i}", "--heartbeat_timeout=10"),
    ]
    for i in range(count)
  )


def wait_for_step(workdir, step):
  deadline = time.monotonic() + 200
  while step not in checkpoint.steps(workdir):
    assert time.monotonic() < deadline
    time.sleep(0.01)


def parameters(workdir):
  mesh = sharding.make_mesh((-1, 1, 1))
  loaded = trained_model.load(workdir, mesh)
  assert loaded.step == STEPS
  leaves = jax.tree_util.tree_leaves_with_path(loaded.params)
  arrays = {jax.tree_util.keystr(k): np.array(v) for k, v in leaves}
  for name, x in arrays.items():
    if "qkv" in name and "bias" in name:
      # Softmax does not feel the bias of keys: its gradient is rounding error,
      # which Adam makes as large as any other.
      x[1] = 0
  return arrays


def losses(workdir):
  rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
  found = [(r["step"], r["train/loss"]) for r in rows if "train/loss" in r]
  steps = [step for step, _ in found]
  assert steps == sorted(set(steps))  # one process writes, each step once
  return dict(found)


def assert_close(workdir, reference):
  a, b = parameters(workdir), parameters(reference)
  assert a.keys() == b.keys() and len(a) > 30
  for name, value in a.items():
    np.testing.assert_allclose(
      b[name], value, rtol=1e-5, atol=4e-6, err_msg=name
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
  """Data, report encoder, and a run of two processes that nobody disturbed."""
  base = tmp_path_factory.getbasetemp()
  base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
  with (base / "several.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    path = base / "several"
    if not path.exists():
      partial = tmp_path_factory.mktemp("several")
      _make_shared(partial)
      partial.rename(path)
  return path


def _make_shared(path):
  build.build("synthetic_ecg/tiny", data_dir=path / "data")
  source = pretrain.EcgSource("synthetic_ecg/tiny", "train", path / "data")
  texts = [source[i]["report"] for i in range(200)]
  sizes = dataclasses.replace(SIZES, vocab_size=300, num_positions=64)
  tokenizer = reports.train_tokenizer(texts, 290)
  hf_bert.save(path / "bert", random_params(sizes), sizes, tokenizer)
  outputs = start(2, path, path / "two").end(0, 0)
  assert all("'data': 2" in output for output in outputs)
  once = "running the frozen layers of the report encoder once"
  assert once in outputs[0] and once not in outputs[1]


def run_alone(shared, workdir):
  config = toy.get_config("recipe=clip")
  with config.unlocked():
    config.update_from_flattened_dict(settings(shared))
    config.mesh = (2, 2, 1)
  pretrain.run(config, workdir, shared / "data")


def test_two_processes_are_one(shared, tmp_path):
  run_alone(shared, tmp_path)
  assert_close(tmp_path, shared / "two")


def test_one_of_two_is_killed(shared, tmp_path):
  """A stop of both: tests/launch/test_local.py."""
  run, alone = tmp_path / "run", tmp_path / "alone"
  processes = start(2, shared, run)
  wait_for_step(run, 5)
  processes.all[1].kill()
  output = processes.all[0].communicate(timeout=60)[0]
  # JAX itself ends a process that waits for another one, not for its data.
  code = processes.all[0].wait()
  told = {1: "process 0 of 2 has lost another process", -6: "another task died"}
  assert code in told and told[code] in output, output
  assert max(checkpoint.steps(run)) < STEPS

  # One process goes on like two.
  shutil.copytree(run, alone)
  run_alone(shared, alone)
  assert_close(alone, shared / "two")
  np.testing.assert_allclose(
    losses(alone)[STEPS], losses(shared / "two")[STEPS], rtol=1e-5
  )

  # Two processes go on bit for bit.
  start(2, shared, run).end(0, 0)
  found, expected = parameters(run), parameters(shared / "two")
  for name, value in found.items():
    np.testing.assert_array_equal(value, expected[name], err_msg=name)
  assert losses(run)[STEPS] == losses(shared / "two")[STEPS]


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
      "no process answers at --coordinator=localhost:1 .*process 0 runs",
    ),
  ],
)
def test_flags_that_lead_nowhere(values, message):
  with (
    flagsaver.flagsaver(start_timeout=1, **values),
    pytest.raises((UserError, distributed.NotTogether), match=message) as e,
  ):
    distributed.initialize()
  assert "\n" not in str(e.value)
