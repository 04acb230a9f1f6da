"""How many processes a build starts by default."""

import os
import subprocess
import sys

import pytest

from data_builders import processes

ROOT = processes.__file__.rsplit(os.sep, 2)[0]


@pytest.fixture
def groups(monkeypatch, tmp_path):
  """A machine of 64 CPUs; writes files of control groups."""
  monkeypatch.setattr(
    os, "sched_getaffinity", lambda _: set(range(64)), raising=False
  )
  monkeypatch.setattr(processes, "_CGROUPS", tmp_path / "groups")
  monkeypatch.setattr(processes, "_OWN_CGROUPS", tmp_path / "own")

  def write(own, **files):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
      path = tmp_path / "groups" / name
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_text(text)

  return write


def test_affinity(groups, monkeypatch):
  assert processes.num_cpus() == 64
  monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 7})
  assert processes.num_cpus() == 2
  monkeypatch.delattr(os, "sched_getaffinity")  # macOS
  assert processes.num_cpus() == os.cpu_count()


@pytest.mark.parametrize(
  ("quota", "number"),
  [("max 100000\n", 64), ("400000 100000\n", 4), ("150000 100000\n", 2)]
  + [("10000 100000\n", 1), ("9900000 100000\n", 64), ("", 64), ("x", 64)],
)
@pytest.mark.parametrize("folder", ["", "job/", "job/step/"])
def test_quota(groups, quota, number, folder):
  """Of the own group or of one above it; in a container, of the root."""
  groups("0::/job/step\n", **{f"{folder}cpu.max": quota})
  assert processes.num_cpus() == number


def test_smallest_quota(groups):
  files = {"cpu.max": "800000 100000", "job/cpu.max": "300000 100000"}
  groups("0::/job\n", **files)
  assert processes.num_cpus() == 3


@pytest.mark.parametrize(
  ("quota", "number"), [("-1\n", 64), ("250000\n", 3), ("", 64)]
)
@pytest.mark.parametrize("folder", ["cpu,cpuacct/", "cpu,cpuacct/slurm/job/"])
def test_quota_of_version_1(groups, quota, number, folder):
  groups(
    "3:cpuset:/\n2:cpu,cpuacct:/slurm/job\n0::/\n",
    **{
      f"{folder}cpu.cfs_quota_us": quota,
      f"{folder}cpu.cfs_period_us": "100000\n",
      "cpuset/cpu.cfs_quota_us": "1000",
    },
  )
  assert processes.num_cpus() == number


@pytest.mark.skipif(
  not hasattr(os, "sched_setaffinity"), reason="macOS has no affinity"
)
def test_build_on_one_cpu():
  """As under `taskset -c 0`."""
  code = """
import os, runpy, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.argv[1:] = ["--helpfull"]
runpy.run_module("data_builders.build", run_name="__main__")
"""
  result = subprocess.run(
    [sys.executable, "-c", code],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  _, text = result.stdout.split("--num_workers:")
  assert text.partition("(default: '")[2].startswith("1')")
