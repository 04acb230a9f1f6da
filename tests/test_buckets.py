"""Runs and data sets in a bucket, of an emulator on this machine."""

import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import tensorstore
from absl.testing import flagsaver

from cgdmer_jax import (
  buckets,
  evaluate,
  objects,
  paths,
  pretrain,
  sharding,
  trained_model,
)
from cgdmer_jax.config import presets
from cgdmer_jax.data import index
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import parse
from cgdmer_jax.exchange import directory
from cgdmer_jax.train import checkpoint
from data_builders import build
from tests import emulator, runs, toy, traces

ROOT = pathlib.Path(__file__).parents[1]
STEPS, EVERY = 20, 6
DATA = f"gs://{emulator.BUCKET}/data"
# A program that ends in the middle of its second save: all arrays are written,
# and only the mark is missing that makes a checkpoint of them.
KILLED = """
import os, signal, sys
from orbax.checkpoint._src.path import async_path
write_text = async_path.write_text
async def end_there(path, *rest, **options):
  if str(path).endswith("checkpoints/12/commit_success.txt"):
    os.kill(os.getpid(), signal.SIGKILL)
  return await write_text(path, *rest, **options)
async_path.write_text = end_there
from absl import flags
from cgdmer_jax import buckets, paths, pretrain
from tests import conftest, test_buckets
flags.FLAGS.mark_as_parsed()
workdir = paths.anywhere(sys.argv[1], "--workdir")
with buckets.opened(workdir):
  pretrain.run(test_buckets.config(), workdir, paths.data_dir(sys.argv[2]))
"""


def config(keep=2):
  c = toy.get_config("recipe=clip").unlock()
  c.train.update(steps=STEPS, checkpoint_every=EVERY, keep_checkpoints=keep)
  c.train.update(log_every=1, validate_every=100)
  c.evaluation.tasks = ()
  return c


@pytest.fixture(scope="module", autouse=True)
def server():
  """One emulator; nothing but its address is set."""
  with emulator.running() as url, pytest.MonkeyPatch.context() as patch:
    for name in ("TENSORSTORE_GCS_HTTP_URL", "GOOGLE_CLOUD_PROJECT"):
      patch.delenv(name, raising=False)
    patch.setenv("STORAGE_EMULATOR_HOST", url)
    yield url


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
  """Each test begins on a machine that has copied nothing yet."""
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "copies"))
  buckets.fetch_run.cache_clear()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  """A data set on disk, and the same one in the bucket."""
  folder = tmp_path_factory.mktemp("data")
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv(paths.BUCKETS_VARIABLE, str(folder / "copies"))
    build.build("synthetic_ecg/tiny", data_dir=DATA)
    local = paths.anywhere(DATA, "--data_dir")
    shutil.copytree(local / "synthetic_ecg", folder / "disk/synthetic_ecg")
  return folder / "disk"


def parameters(run, step):
  mesh = sharding.make_mesh((-1, 1, 1))
  loaded = trained_model.load(f"{run}/checkpoints/{step}", mesh)
  return jax.device_get(loaded.params)


def equal(a, b):
  return jax.tree.all(jax.tree.map(np.array_equal, a, b))


def names(address):
  return set(objects.list_all(address))


def test_killed_in_a_save_and_resumed_elsewhere(built, tmp_path, monkeypatch):
  """The end is, bit for bit, that of a run on disk that was never stopped."""
  whole = tmp_path / "whole"
  assert pretrain.run(config(keep=9), whole, built)
  address = f"gs://{emulator.BUCKET}/run"
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "first"))
  done = subprocess.run(
    [sys.executable, "-c", KILLED, address, DATA],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == -9, done.stderr[-3000:]
  left = names(address)
  assert any(name.startswith("checkpoints/12/default/d/") for name in left)
  assert "checkpoints/12/commit_success.txt" not in left
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "second"))
  workdir = paths.anywhere(address, "--workdir")
  assert checkpoint.steps(workdir) == [6]
  assert equal(parameters(address, 6), parameters(whole, 6))
  data_dir = paths.data_dir(DATA)
  with buckets.opened(workdir), flagsaver.as_parsed(profile="8:2"):
    assert pretrain.run(config(), workdir, data_dir)
    (workdir / "complete").touch()
  assert equal(parameters(address, STEPS), parameters(whole, STEPS))
  left = names(address)
  assert {"config.json", "complete", "figures/loss.png"} <= left
  metrics = objects.read(f"{address}/metrics.jsonl").decode()
  assert metrics == (whole / "metrics.jsonl").read_text()
  assert not [name for name in left if name.startswith("checkpoints/6/")]
  (trace,) = [name for name in left if name.endswith(".xplane.pb")]
  assert trace.startswith("profile/steps-8-9/plugins/profile/")
  assert traces.steps(objects.read(f"{address}/{trace}")) == [8, 9]
  (encoder,) = parse.parse(address, sharding.make_mesh((-1, 1, 1)), 16)
  assert encoder.identity.path == address


def test_a_data_set_is_copied_once(built, monkeypatch):
  data_dir = paths.data_dir(DATA)
  copied = []
  download = objects.download
  monkeypatch.setattr(
    objects, "download", lambda *a: (copied.append(a[1].name), download(*a))
  )
  source = EcgSource("synthetic_ecg/tiny", "train", data_dir)
  here = EcgSource("synthetic_ecg/tiny", "train", built)
  assert source.fingerprint == here.fingerprint
  assert index.load_index(source).reports == index.load_index(here).reports
  assert len(copied) > 3
  copied.clear()
  EcgSource("synthetic_ecg/tiny", "test", data_dir)
  assert not copied
  (damaged,) = source.path.glob("*train.array_record*")
  content = bytearray(damaged.read_bytes())
  content[500] ^= 1
  damaged.write_bytes(content)
  EcgSource("synthetic_ecg/tiny", "test", data_dir)
  assert copied == [damaged.name]


def test_a_data_set_that_is_not_there(built):
  with pytest.raises(UserError, match="found: synthetic_ecg/tiny"):
    EcgSource("synthetic_ecg/none", "train", paths.data_dir(DATA))


def test_a_build_sends_what_a_stopped_one_did_not(capsys, monkeypatch):
  address = f"gs://{emulator.BUCKET}/stopped"
  send, sent = objects.send, []

  def fail(path, target):
    if sent:
      raise UserError("stopped")
    sent.append(path)
    send(path, target)

  monkeypatch.setattr(objects, "send", fail)
  with pytest.raises(UserError, match="stopped"):
    build.build("synthetic_ecg/tiny", data_dir=address)
  assert names(address)
  assert not [x for x in names(address) if x.endswith("dataset_info.json")]
  monkeypatch.setattr(objects, "send", send)
  final = build.build("synthetic_ecg/tiny", data_dir=address)
  below = paths.address(final).removeprefix(f"{address}/")
  assert f"{below}/dataset_info.json" in names(address)
  assert capsys.readouterr().out.splitlines()[-1] == (
    f"already built at {paths.address(final)}"
  )


def test_the_last_program_that_begins_may_write(tmp_path, monkeypatch):
  address = f"gs://{emulator.BUCKET}/shared"
  workdir = paths.anywhere(address, "--workdir")
  superseded = pytest.raises(buckets.Superseded, match="another program has")
  with superseded:  # noqa: SIM117
    with buckets.opened(workdir):
      buckets.upload(workdir)
      assert not names(address)  # nothing is there, nothing is written
      workdir.mkdir(parents=True)
      (workdir / "a").write_text("first")
      buckets.upload(workdir)
      monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "other"))
      other = paths.anywhere(address, "--workdir")
      with buckets.opened(other):
        assert (other / "a").read_text() == "first"
        (other / "a").write_text("second")
        buckets.upload(other)
      monkeypatch.undo()
      monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "copies"))
      (workdir / "a").write_text("third")
  assert objects.read(f"{address}/a") == b"second"


def test_a_refused_program_leaves_the_other_alone():
  """Its log is not sent: the other may be writing there."""
  address = f"gs://{emulator.BUCKET}/busy"
  objects.write(f"{address}/run.log", b"theirs")
  workdir = paths.anywhere(address, "--workdir")
  with pytest.raises(UserError, match="refused"), buckets.opened(workdir):
    (workdir / "run.log").write_text("ours")
    raise UserError("refused")
  assert names(address) == {"run.log"}
  assert objects.read(f"{address}/run.log") == b"theirs"


def test_what_was_removed_is_removed():
  address = f"gs://{emulator.BUCKET}/results"
  workdir = paths.anywhere(address, "--workdir")
  workdir.mkdir(parents=True)
  with buckets.opened(workdir):
    workdir.mkdir()
    (workdir / "old").touch()
    buckets.upload(workdir)
    objects.remove(f"{address}/old")  # by someone else
    (workdir / "old").rename(workdir / "new")
  assert names(address) == {"new", "owner.json"}


def test_what_the_bucket_lost_is_no_longer_here(tmp_path):
  address = f"gs://{emulator.BUCKET}/prolonged"
  workdir = paths.anywhere(address, "--workdir")
  with buckets.opened(workdir):
    workdir.mkdir(parents=True)
    (workdir / "run.log").write_text("a")
    (workdir / "complete").touch()
  (workdir / "metrics.jsonl").write_text("never uploaded")
  with buckets.opened(workdir):
    assert not (workdir / "metrics.jsonl").exists()
    (workdir / "complete").unlink()
  assert names(address) == {"owner.json", "run.log"}


@pytest.fixture(scope="module")
def stored(built, tmp_path_factory):
  """Address of a run that another program has left in the bucket."""
  run = runs.make_run(built, tmp_path_factory.mktemp("run") / "run", "clip")
  address = f"gs://{emulator.BUCKET}/stored"
  for path in run.rglob("*"):
    if path.is_file():
      objects.send(path, f"{address}/{path.relative_to(run)}")
  objects.write(f"{address}/checkpoints/7/commit_success.txt", b"a")
  objects.write(f"{address}/checkpoints/7/default/commit_success.txt", b"a")
  return address


def test_a_run_is_evaluated_and_exported(stored, tmp_path, monkeypatch):
  address = f"gs://{emulator.BUCKET}/scores"
  c = presets.evaluate(("retrieval",), None).unlock()
  c.encoders, c.evaluation.num_bootstrap = stored, 20
  c.evaluation.datasets = "synthetic_ecg/tiny"

  def run():
    workdir = paths.anywhere(address, "--workdir")
    with buckets.opened(workdir):
      assert evaluate.run(c, workdir, paths.data_dir(DATA))

  run()
  left = names(address)
  (result,) = [x for x in left if "retrieval-" in x and x.endswith(".json")]
  assert {"results/comparison.json", "report.html", "owner.json"} <= left
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "other"))
  buckets.fetch_run.cache_clear()
  with monkeypatch.context() as patch:
    patch.delattr(evaluate, "_run")  # nothing is done again
    run()
  assert result in names(address)
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "third"))
  buckets.fetch_run.cache_clear()
  scores = paths.anywhere(address, "--results")
  choices = directory.Choices(
    label_sets=("rhythm",), results=scores, small=True
  )
  target = tmp_path / "export"
  directory.export(stored, target, paths.data_dir(DATA), choices)
  assert (target / "README.md").exists()  # no error: it has found results


def test_damaged_checkpoints_in_a_bucket_are_not_read(stored):
  address, workdir = stored, paths.anywhere(stored, "--workdir")
  assert checkpoint.steps(workdir) == [7]
  parameters(address, 7)
  store = tensorstore.KvStore.open(f"{address}/checkpoints/7/default/").result()
  (data,) = {k for k in store.list().result() if k.startswith(b"d/")} or {b""}
  store.write(data, b"no array").result()
  with pytest.raises(UserError, match="checkpoint gs://.*/7 is damaged"):
    parameters(address, 7)


def test_no_such_bucket():
  workdir = paths.anywhere("gs://no-such-bucket/run", "--workdir")
  workdir.mkdir(parents=True)
  missing = pytest.raises(UserError, match="no such bucket or object")
  with missing:  # noqa: SIM117
    with buckets.opened(workdir):
      workdir.mkdir(parents=True, exist_ok=True)
      (workdir / "a").touch()


def test_tensorstore_gives_up_after_a_minute():
  from orbax.checkpoint._src.serialization import tensorstore_utils

  checkpoint.steps(paths.anywhere(f"gs://{emulator.BUCKET}/no-run", "x"))
  for use_ocdbt in (True, False):
    context = tensorstore_utils.get_ts_context(use_ocdbt=use_ocdbt)
    retries = context["gcs_request_retries"].to_json()
    assert retries["max_retries"] == 7
