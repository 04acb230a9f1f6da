"""Building with Apache Beam."""

import os
import subprocess
import sys

import pytest

from cgdmer_jax.errors import UserError
from data_builders import build, shards
from tests.data_builders import ptb_xl_corpus

ROOT = build.__file__.rsplit(os.sep, 2)[0]
RUNNER = {
  "beam_runner": "DirectRunner",
  "beam_options": [
    "direct_num_workers=2", "direct_running_mode=multi_processing",
  ],
}  # fmt: skip


def files(folder):
  return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  ptb_xl_corpus.write(folder)
  (folder / "records100" / "00000" / "00010_lr.dat").unlink()
  return folder


def test_two_workers_write_the_same_bytes(corpus, tmp_path, monkeypatch):
  monkeypatch.setattr(shards, "SHARD_BYTES", 5 * 24_000)
  arguments = {"manual_dir": corpus, "max_rejected": 0.1}
  alone = build.build("ptb_xl/100hz", data_dir=tmp_path / "a", **arguments)
  beam = build.build(
    "ptb_xl/100hz", data_dir=tmp_path / "b", **arguments, **RUNNER
  )
  assert files(beam) == files(alone)
  assert sum("array_record" in name for name in files(beam)) == 14
  assert b"missing_file" in files(beam)["rejected.jsonl"]


def test_rejects_are_limited(corpus, tmp_path):
  with pytest.raises(UserError, match="missing_file 1.*max_rejected=0.01"):
    build.build(
      "ptb_xl/100hz",
      manual_dir=corpus,
      data_dir=tmp_path,
      beam_runner="DirectRunner",
    )
  folder = tmp_path / "ptb_xl" / "100hz"
  assert {p.name for p in folder.iterdir()} == {"rejected.jsonl"}


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (
      {"beam_runner": "WarpRunner"},
      "--beam_runner=WarpRunner: Unexpected pipeline",
    ),
    ({"beam_options": ["direct_num_workers=2"]}, "needs --beam_runner"),
    (
      {"beam_runner": "DirectRunner", "beam_options": ["direct_num_worker=2"]},
      "Beam has no direct_num_worker",
    ),
  ],
)
def test_user_mistakes(corpus, tmp_path, arguments, message):
  with pytest.raises(UserError, match=message):
    build.build(
      "ptb_xl/100hz",
      manual_dir=corpus,
      data_dir=tmp_path,
      max_rejected=0.1,
      **arguments,
    )


def test_what_workers_tell_the_user(corpus, tmp_path, monkeypatch):
  def full(*_):
    raise UserError("cannot write the data set: the disk is full; make room")

  monkeypatch.setattr(shards.Writer, "_write", full)
  with pytest.raises(UserError, match="the disk is full; make room$") as error:
    build.build(
      "ptb_xl/100hz",
      manual_dir=corpus,
      data_dir=tmp_path,
      beam_runner="DirectRunner",
    )
  assert "\n" not in str(error.value)


def run(*flags, code="from data_builders import build"):
  return subprocess.run(
    [sys.executable, "-c", f"{code}\nbuild.app.run(build.main)", *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )


def test_without_beam(tmp_path):
  """As on a machine without the extra."""
  result = run(
    "--dataset=synthetic_ecg/tiny",
    f"--data_dir={tmp_path}",
    "--beam_runner=DirectRunner",
    code="import sys; sys.modules['apache_beam'] = None\n"
    "from data_builders import build",
  )
  assert result.returncode == 2
  assert result.stderr.endswith(
    "error: --beam_runner needs Apache Beam: pip install 'cgdmer-jax[beam]'\n"
  )
