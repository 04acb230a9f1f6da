"""A training where machines differ from ours, all of it at once."""

import json
import os
import subprocess
import sys

import pytest

from data_builders import build
from tests.data.test_shared_memory import NAMESPACE
from tests.data_builders.test_environments import ROOT, SET_UPS

# 1 MB of shared memory, and data that can only be read.
MOUNTS = """
set -e
mount -t tmpfs -o size=1m tmpfs /dev/shm
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
shift
exec "$@"
"""
CODE = """
import os, pathlib, sys
{set_ups}
from absl import flags
from cgdmer_jax import errors, pretrain
from cgdmer_jax.exchange import directory
from tests import toy

flags.FLAGS.mark_as_parsed()
config = toy.get_config("recipe=clip").unlock()
config.train.update(steps=2, checkpoint_every=1, log_every=1)
config.evaluation.tasks = ()
data_dir, workdir = map(pathlib.Path, sys.argv[1:])
if __name__ == "__main__":
  config.data.num_workers = 1
  try:
    pretrain.run(config, workdir, data_dir)
  except errors.UserError as e:
    print(e)
  config.data.num_workers = 0
  assert pretrain.run(config, workdir, data_dir)
  directory.export_report_encoder(str(workdir), workdir / "bert")
"""


def test_two_steps_and_an_export(tmp_path):
  try:
    subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("no namespaces here")
  disk, data_dir = tmp_path / "disk", tmp_path / "Größe"
  build.build("synthetic_ecg/tiny", data_dir=disk)
  data_dir.mkdir()
  (data_dir / "synthetic_ecg").symlink_to(disk / "synthetic_ecg")
  script, workdir = tmp_path / "run.py", tmp_path / "心電図"
  script.write_text(CODE.format(set_ups="".join(SET_UPS.values())))
  environment = {k: v for k, v in os.environ.items() if k != "HOME"}
  environment["LC_ALL"] = "C"
  done = subprocess.run(
    [*NAMESPACE, "sh", "-c", MOUNTS, "sh", disk]
    + [sys.executable, script, data_dir, workdir],
    cwd=tmp_path,
    env={**environment, "PYTHONPATH": ROOT},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  (line,) = done.stdout.splitlines()
  assert line.startswith("data.num_workers=1 needs")
  assert line.endswith("set data.num_workers=0")
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(x)["step"] for x in lines if "train/loss" in x] == [1, 2]
  assert (workdir / "bert/model.safetensors").exists()
  assert not [*disk.rglob("cgdmer_index")]
