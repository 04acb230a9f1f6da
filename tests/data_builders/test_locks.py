"""Locks between processes, with and without the help of the file system."""

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

from data_builders import locks

ROOT = locks.__file__.rsplit(os.sep, 2)[0]
HOLD = """
import {setup}
import pathlib, sys, time
from data_builders import locks
with locks.hold(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep({seconds})
"""
WITHOUT = """fcntl
def flock(*_):
  raise OSError(38, "")
fcntl.flock = flock"""


def other(path, seconds=60, setup="os"):
  """A process that holds the lock for some time."""
  code = HOLD.format(seconds=seconds, setup=setup)
  process = subprocess.Popen(
    [sys.executable, "-c", code, str(path)],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  assert process.stdout.readline() == "held\n"
  return process


@pytest.fixture(params=[None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def setup(request, monkeypatch):
  """What a process does first: nothing, or lose the locks of its files."""
  if request.param is None:
    return "os"

  def flock(*_):
    raise OSError(request.param, os.strerror(request.param))

  monkeypatch.setattr(fcntl, "flock", flock)
  return WITHOUT


def test_one_at_a_time_and_nothing_is_left(tmp_path, setup, capsys):
  path = tmp_path / ".lock"
  process = other(path, setup=setup)
  with pytest.raises(BlockingIOError), locks.hold(path):
    pass
  assert path.exists()
  process.kill()
  process.wait()
  with locks.hold(path):  # a killed process leaves no lock
    assert path.exists()
  assert list(tmp_path.iterdir()) == []
  warned = capsys.readouterr().err.splitlines()
  assert len(warned) == (0 if setup == "os" else 2)
  assert all(f"remove {path} by hand" in line for line in warned)


def test_waiting(tmp_path, setup, capsys):
  path = tmp_path / ".lock"
  process = other(path, seconds=2, setup=setup)
  start = time.monotonic()
  with locks.hold(path, "waiting for it"):
    assert 0.3 < time.monotonic() - start < 20
  assert capsys.readouterr().err.endswith("waiting for it\n")
  process.wait()
  assert list(tmp_path.iterdir()) == []


def test_errors_leave_the_lock(tmp_path, setup):
  path = tmp_path / ".lock"
  with pytest.raises(KeyError), locks.hold(path):
    raise KeyError
  with locks.hold(path):
    pass
  with pytest.raises(FileNotFoundError), locks.hold(tmp_path / "no" / ".lock"):
    pass


def test_other_errors_are_raised(tmp_path, monkeypatch):
  def flock(*_):
    raise OSError(errno.EIO, "broken")

  monkeypatch.setattr(fcntl, "flock", flock)
  with pytest.raises(OSError, match="broken"), locks.hold(tmp_path / ".lock"):
    pass
