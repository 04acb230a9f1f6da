"""local.sh with real processes."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from cgdmer_jax.train import checkpoint
from data_builders import build

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  build.build("synthetic_ecg/tiny", data_dir=path)
  return path


def start(data_dir, workdir, *flags, python=sys.executable):
  return subprocess.Popen(
    [
      *("bash", "launch/local.sh", "-n", "2"),
      *("--config=tests/toy.py:recipe=clip", "--config.evaluation.tasks=()"),
      *(f"--data_dir={data_dir}", f"--workdir={workdir}", *flags),
    ],
    cwd=ROOT,
    env=dict(os.environ, JAX_PLATFORMS="cpu", PYTHON=str(python)),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


def test_two_processes_run_and_stop_together(data_dir, tmp_path):
  process = start(data_dir, tmp_path, "--config.train.steps=2000")
  deadline = time.monotonic() + 200
  while not checkpoint.steps(tmp_path) and process.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)  # to the script alone
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 0, output
  step = max(checkpoint.steps(tmp_path))
  for i in range(2):
    said = [s for s in output.splitlines() if s.startswith(f"[{i}] ")]
    assert any(f"stopped at step {step};" in s for s in said), output
  assert not (tmp_path / "complete").exists()
  assert not orphans(process.pid)


def test_one_that_fails_ends_the_others(tmp_path, monkeypatch):
  monkeypatch.setenv("PORT", "1")
  stub = tmp_path / "python"
  stub.write_text(
    """#!/bin/sh
case "$*" in
  *--process_id=1*) echo "error: a mistake"; exit 2 ;;
  *) exec sleep 1000 ;;
esac
"""
  )
  stub.chmod(0o755)
  process = start(tmp_path, tmp_path, python=stub)
  output, _ = process.communicate(timeout=60)
  assert process.returncode == 2, output
  assert output == "[1] error: a mistake\n"
  assert not orphans(process.pid)


def orphans(session):
  """What still runs of it; nobody may have collected those that have ended."""
  found = subprocess.run(
    ["ps", "--sid", str(session), "-o", "stat=,args="],
    capture_output=True,
    text=True,
  )
  return [s for s in found.stdout.splitlines() if not s.startswith("Z")]
