"""The one rule for paths that users name."""

import os
import pathlib
import pwd
import subprocess
import sys

import hypothesis
import pytest

from cgdmer_jax import command, paths
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checkpoint
from tests import odd_names

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


@hypothesis.given(odd_names.TEXTS, odd_names.TEXTS)
@hypothesis.settings(max_examples=300, deadline=None)
def test_a_path_is_what_was_written_or_refused(name, other):
  """Each name alone, below a folder, and as a folder above another."""
  for text in (name, f"/x/{name}", f"{name}/{other}", f"./{name}"):
    too_long = any(len(part.encode()) > 255 for part in text.split("/"))
    special = text.startswith("~") or "://" in text
    try:
      path = paths.local(text, "--output")
    except UserError as error:
      assert too_long or special
      assert str(error).startswith("--output=")
      continue
    assert not too_long
    if not special:
      assert path.absolute() == pathlib.Path(text).absolute()
    assert paths.local(path, "--output") == path  # once is as good as twice


@pytest.mark.parametrize("folder", ["", "/run", "/a/b-1/c_2.d+e=f@g"])
def test_buckets_have_local_folders(folder, tmp_path, monkeypatch):
  address = f"gs://my-bucket.x_1{folder}"
  for text in (address, f"{address}/", pathlib.Path(address)):
    path = paths.anywhere(text, "--workdir")
    assert paths.address(path) == paths.address(str(path)) == address
    assert paths.address(path / "checkpoints") == f"{address}/checkpoints"
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path))
  other = paths.anywhere(address, "--workdir")
  assert other == tmp_path / f"gs/my-bucket.x_1{folder}"
  assert not paths.address(path)
  assert paths.with_addresses(f"no {other}/a: b") == f"no {address}/a: b"
  assert paths.anywhere("a/gs://b", "x") == pathlib.Path("a/gs:/b")


@pytest.mark.parametrize(
  "text",
  ["gs://", "gs:/", "gs://b", "gs://Bucket/a"]
  + [
    "gs://abc/a b",
    "gs://abc/a*",
    "gs://abc/../d",
    "gs://abc//d",
    "gs://abc/é",
  ],
)
def test_names_that_a_bucket_does_not_take(text):
  with pytest.raises(UserError, match="^--workdir=gs://.*: expected gs://BUCK"):
    paths.anywhere(text, "--workdir")


def test_a_line_is_a_line(capsys):
  with pytest.raises(SystemExit):
    command.stop("no folder a\nb\x1b[2J\udcc3 größe")
  assert capsys.readouterr().err == (
    "error: no folder a\\nb\\x1b[2J\\udcc3 größe\n"
  )


def test_names_that_are_no_text(tmp_path):
  name = os.fsdecode(b"gr\xf6\xdfe")
  match = "is not read as UTF-8; rename the folder"
  (tmp_path / name).mkdir()
  with pytest.raises(UserError, match=match):
    checkpoint.steps(tmp_path / name)
  with pytest.raises(UserError, match=match):
    EcgSource("synthetic_ecg/tiny", "train", tmp_path / name)


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
  monkeypatch.setenv(paths.ENVIRONMENT_VARIABLE, "gs://b")
  with pytest.raises(UserError, match=r"^\$CGDMER_DATA_DIR=gs://b: expected "):
    paths.data_dir()
  with pytest.raises(UserError, match="^--data_dir=s3://b is no path"):
    paths.data_dir("s3://b")
  monkeypatch.setenv(paths.ENVIRONMENT_VARIABLE, "~/a")
  monkeypatch.setenv("HOME", "/my/home")
  assert paths.data_dir() == pathlib.Path("/my/home/a")


def test_training_refuses_addresses(tmp_path):
  result = subprocess.run(
    [sys.executable, "-m", "cgdmer_jax.main", "--data_dir=s3://b"]
    + [f"--config={ROOT}/configs/pretrain.py", f"--workdir={tmp_path}/run"],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 2
  assert result.stderr.splitlines()[-1] == (
    "error: --data_dir=s3://b is no path; mount it and give its path"
  )
  assert not list(tmp_path.iterdir())
