"""Builds where machines differ from ours."""

import os
import subprocess
import sys

import pytest

from data_builders import build
from tests.data_builders import cinc_corpus

ROOT = build.__file__.rsplit(os.sep, 2)[0]
# What a process does before the build.
SET_UPS = {
  "256 descriptors": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
""",
  "one CPU": """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
""",
  "no locks": """
import fcntl
def flock(*_):
  raise OSError(38, "Function not implemented")
fcntl.flock = fcntl.lockf = flock
""",
  "C": "",
  "no home": """
import pwd
def unknown(*_):
  raise KeyError
pwd.getpwuid = pwd.getpwnam = unknown
""",
}
CODE = """
import os, runpy, sys
{}
runpy.run_module("data_builders.build", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """Linked folders that are only read; a name that is not ASCII."""
  disk = tmp_path_factory.mktemp("disk")
  cinc_corpus.write(
    disk, "csn", {i: cinc_corpus.signal(i) for i in range(1, 21)}
  )
  folder = tmp_path_factory.mktemp("Größe")
  (folder / "Aufnahmen é").symlink_to(disk)
  (disk / "back").symlink_to(folder)
  for path in (disk, folder):
    path.chmod(0o555)
  return folder


def files(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def expected(source, tmp_path_factory):
  return files(
    cinc_corpus.build_set(source, tmp_path_factory.mktemp("expected"))
  )


@pytest.mark.parametrize("name", SET_UPS)
def test_same_bytes_everywhere(source, expected, tmp_path, name):
  env = {"C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}}
  environment = dict(os.environ) | env.get(name, {})
  if name == "no home":
    environment.pop("HOME", None)
  result = subprocess.run(
    [sys.executable, "-c", CODE.format(SET_UPS[name]), "--dataset=csn/100hz"]
    + [f"--manual_dir={source}", f"--data_dir={tmp_path}"],
    cwd=tmp_path,
    env={**environment, "PYTHONPATH": ROOT},
    capture_output=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  assert result.stdout.startswith(b"built ")
  folder = tmp_path / "csn" / "100hz"
  assert files(folder / "1.0.0") == expected
  assert [p.name for p in folder.iterdir()] == ["1.0.0"]


@pytest.mark.parametrize(
  ("flags", "env", "named"),
  [
    (["--data_dir=s3://b/data"], {}, "--data_dir=s3://b/data"),
    ([], {"CGDMER_DATA_DIR": "s3://b"}, "$CGDMER_DATA_DIR=s3://b"),
    (["--manual_dir=gs://b"], {}, "--manual_dir=gs://b"),
    (["--splits_dir=https://x.org/a"], {}, "--splits_dir=https://x.org/a"),
  ],
)
def test_addresses_are_refused(tmp_path, flags, env, named):
  dataset = "csn/500hz_merl_compat"
  result = subprocess.run(
    [sys.executable, "-m", "data_builders.build", f"--dataset={dataset}"]
    + flags,
    cwd=tmp_path,
    env={**os.environ, "PYTHONPATH": ROOT, **env},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (result.returncode, result.stdout) == (2, "")
  assert result.stderr == (
    f"error: {named} is no path; mount it and give its path\n"
  )
  assert list(tmp_path.iterdir()) == []


def test_tilde(source, expected, tmp_path, monkeypatch):
  """Behind `=` no shell expands it."""
  home = tmp_path / "home"
  home.mkdir()
  (home / "source").symlink_to(source)
  result = subprocess.run(
    [sys.executable, "-m", "data_builders.build", "--dataset=csn/100hz"]
    + ["--manual_dir=~/source"],
    cwd=tmp_path,
    env={
      **os.environ, "PYTHONPATH": ROOT, "HOME": str(home),
      "CGDMER_DATA_DIR": "~/data",
    },
    capture_output=True,
    check=False,
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  assert files(home / "data" / "csn" / "100hz" / "1.0.0") == expected
  assert [p.name for p in tmp_path.iterdir()] == ["home"]
