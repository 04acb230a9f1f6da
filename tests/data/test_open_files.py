"""Data sets of more shards than a process may have files open."""

import subprocess
import sys

import pytest

from data_builders import build, shards

READ = """
import resource, sys
soft, hard = map(int, sys.argv[2:4])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from cgdmer_jax.data import source
from cgdmer_jax.errors import UserError
try:
  sources = [
    source.EcgSource(sys.argv[4], split, sys.argv[1])
    for split in ("train", "train[:10]+test")
  ]
except UserError as e:
  sys.exit(str(e))
numbers = [len([one.signal(i) for i in range(len(one))]) for one in sources]
print(*numbers, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
SIZES = {"train": 150, "validation": 2, "test": 3}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  with pytest.MonkeyPatch.context() as m:
    m.setattr(shards, "SHARD_BYTES", 1)
    build.build("synthetic_ecg/tiny", data_dir=folder, sizes=SIZES)
  return folder


def read(data_dir, soft, hard):
  dataset = "synthetic_ecg/tiny_train150_validation2_test3"
  return subprocess.run(
    [sys.executable, "-c", READ, str(data_dir), str(soft), str(hard), dataset],
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  ("soft", "hard", "after"),
  [(100, 1000, 675), (100, 320, 320), (900, 1000, 900), (675, 675, 675)],
)
def test_soft_limit_is_raised_where_needed(data_dir, soft, hard, after):
  result = read(data_dir, soft, hard)
  assert result.stdout.split() == ["150", "13", str(after), str(hard)]


def test_hard_limit_that_is_too_low(data_dir):
  result = read(data_dir, 100, 200)
  assert result.returncode == 1 and result.stderr.count("\n") == 1
  assert (
    "have 150 files, too many to be open at once: `ulimit -n` is 200; raise its"
    " hard limit to 662"
  ) in result.stderr
