"""Workers that hand over batches in shared memory, of which there is little."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from cgdmer_jax.data import pipeline
from cgdmer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
NAMESPACE = ["unshare", "--map-root-user", "--mount"]


class Source:
  """Records of zeros."""

  name = "zeros"
  sampling_rate = 500

  def __len__(self):
    return 64

  def signal(self, index):
    return {
      "ecg": np.zeros((12, 5000), np.int16),
      "lead_valid": np.ones(12, bool),
    }


def batches(num_workers, batch_size=16):
  return pipeline.train_batches(
    Source(),
    np.zeros(64, np.int32),
    lambda rows, every_row: {},
    batch_size=batch_size,
    seed=0,
    num_workers=num_workers,
  )


RUN = """
from absl import flags
from tests.data import test_shared_memory
from cgdmer_jax.data import pipeline
from cgdmer_jax.errors import UserError

flags.FLAGS.mark_as_parsed()
if __name__ == "__main__":
  {before}
  try:
    stream = test_shared_memory.batches(2)
    held = [next(stream) for _ in range(7)]
    stream.close()
  except UserError as e:
    print(e)
"""


def run(folder, *prefix, before="pass"):
  script = folder / "run.py"
  script.write_text(RUN.format(before=before))
  return subprocess.run(
    [*prefix, sys.executable, script],
    cwd=ROOT,
    env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    capture_output=True,
    text=True,
    check=True,
  )


def test_good_run_ends_without_a_word(tmp_path):
  """Though batches are held to the end, and others are being made."""
  result = run(tmp_path)
  assert (result.stdout, result.stderr) == ("", "")


@pytest.mark.parametrize(
  ("free", "num_workers", "fits"),
  [(64 << 20, 0, True), (1 << 20, 0, True), (1 << 20, 1, False)]
  + [(64 << 20, 4, True), (20 << 20, 4, False)],
)
def test_what_fits(monkeypatch, free, num_workers, fits):
  usage = shutil.disk_usage("/")._replace(free=free)
  monkeypatch.setattr(pipeline.shutil, "disk_usage", lambda _: usage)
  monkeypatch.setattr(pipeline, "_SHARED_MEMORY", pathlib.Path("/"))
  if fits:
    batches(num_workers).close()
    return
  message = (
    rf"^data.num_workers={num_workers} needs \d+ MB of shared memory, / has"
    rf" {free / 1e6:.0f} MB free; make it larger .* set data.num_workers=0$"
  )
  with pytest.raises(UserError, match=message):
    batches(num_workers)


@pytest.mark.parametrize(
  "before", ["pass", "pipeline._check_shared_memory = print"]
)
def test_one_megabyte(tmp_path, before):
  """Found before anything is read, or when a worker has died of it."""
  try:
    subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip("no namespaces here")
  mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
  result = run(tmp_path, *NAMESPACE, "sh", "-c", mount, "sh", before=before)
  *_, line = result.stdout.splitlines()
  assert line.startswith("data.num_workers=2")
  assert "shared memory" in line and line.endswith("set data.num_workers=0")
