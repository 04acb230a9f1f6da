"""The one rule for paths that users name."""

import os
import pathlib
import pwd
import subprocess
import sys

import pytest

from cgdmer_jax import paths
from cgdmer_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.parametrize(
  "text",
  ["a", "./a b", "/x/[1]/$HOME", "a:b", "d/gs://x", "gs", "x~", "é\n"],
)
def test_other_paths_stay_as_they_are(text):
  assert paths.local(text, "--output") == pathlib.Path(text)


def test_tilde(monkeypatch):
  monkeypatch.setenv("HOME", "/my/home")
  assert paths.local("~", "--output") == pathlib.Path("/my/home")
  assert paths.local("~/a/~", "--output") == pathlib.Path("/my/home/a/~")
  assert paths.local(pathlib.Path("~/a"), "x") == pathlib.Path("/my/home/a")
  here = pathlib.Path.cwd() / "~"  # whoever expands it again
  assert paths.local("./~/a", "--output") == here / "a"
  monkeypatch.delenv("HOME")
  home = pwd.getpwuid(os.getuid()).pw_dir
  assert paths.local("~/a", "--output") == pathlib.Path(home, "a")


@pytest.mark.parametrize(
  "text",
  ["gs://b/x", "s3://b", "GS://b", "https://x.org/a", "file:///x", "a+b://c"]
  + [pathlib.Path("gs://b/x")],
)
def test_addresses_are_refused(text):
  with pytest.raises(UserError) as error:
    paths.local(text, "--output")
  assert str(error.value) == (
    f"--output={text} is no path; mount it and give its path"
  )


@pytest.mark.parametrize("text", ["", "a\0b"])
def test_no_paths(text):
  with pytest.raises(UserError, match="^--output='.* is no path$"):
    paths.local(text, "--output")


def test_no_home(monkeypatch):
  with pytest.raises(UserError, match="^--output=~nobody-here/a: there is no "):
    paths.local("~nobody-here/a", "--output")

  def unknown(uid):
    raise KeyError(uid)

  monkeypatch.delenv("HOME")
  monkeypatch.setattr(pwd, "getpwuid", unknown)  # as in many containers
  with pytest.raises(UserError, match="^--output=~/a: there is no home folder"):
    paths.local("~/a", "--output")
  assert paths.local("a", "--output") == pathlib.Path("a")


def test_data_dir(monkeypatch):
  monkeypatch.setenv(paths.ENVIRONMENT_VARIABLE, "gs://b/x")
  with pytest.raises(UserError, match=r"^\$CGDMER_DATA_DIR=gs://b/x is no pa"):
    paths.data_dir()
  with pytest.raises(UserError, match="^--data_dir=s3://b is no path"):
    paths.data_dir("s3://b")
  monkeypatch.setenv(paths.ENVIRONMENT_VARIABLE, "~/a")
  monkeypatch.setenv("HOME", "/my/home")
  assert paths.data_dir() == pathlib.Path("/my/home/a")


def test_training_refuses_addresses(tmp_path):
  result = subprocess.run(
    [sys.executable, "-m", "cgdmer_jax.main", "--data_dir=gs://b"]
    + [f"--config={ROOT}/configs/pretrain.py", f"--workdir={tmp_path}/run"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2
  assert result.stderr.splitlines()[-1] == (
    "error: --data_dir=gs://b is no path; mount it and give its path"
  )
  assert not list(tmp_path.iterdir())
