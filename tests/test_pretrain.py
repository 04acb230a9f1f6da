"""Whole runs: every recipe, kill -9 and resume, stops, and users' mistakes."""

import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from cgdmer_jax import evaluate, pretrain, sharding, trained_model
from cgdmer_jax.config import saved
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import features, parse
from cgdmer_jax.train import checkpoint, metrics
from configs import zero_shot as zero_shot_config
from data_builders import build
from tests import toy

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  build.build("synthetic_ecg/tiny", data_dir=path)
  return path


def start(data_dir, workdir, *flags):
  """`main` with the toy configuration, in another process."""
  return subprocess.Popen(
    [
      *(sys.executable, "-m", "cgdmer_jax.main", *flags),
      *(f"--data_dir={data_dir}", f"--workdir={workdir}"),
    ],
    cwd=ROOT,
    env=dict(os.environ, JAX_PLATFORMS="cpu"),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
  """Workdir of a CG-DMER run that nothing disturbed; one for all workers."""
  base = tmp_path_factory.getbasetemp()
  base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
  workdir = base / "whole"
  with (base / "whole.lock").open("w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not workdir.exists():
      partial = tmp_path_factory.mktemp("run") / "whole"
      run = start(data_dir, partial, "--config=tests/toy.py")
      output, _ = run.communicate(timeout=400)
      assert run.returncode == 0, output
      partial.rename(workdir)
  return workdir


def arrays(workdir, step):
  """Every array of a checkpoint, by path."""
  directory = checkpoint.find_checkpoint(workdir / "checkpoints" / str(step))
  import orbax.checkpoint as ocp

  with ocp.StandardCheckpointer() as reader:
    tree = reader.restore(directory / "default")
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves}


def test_kill_and_resume_is_bit_exact(request, data_dir, tmp_path):
  flags = "--config=tests/toy.py", "--config.evaluation.tasks=()"
  killed = start(data_dir, tmp_path, *flags)
  first = tmp_path / "checkpoints" / "3"
  deadline = time.monotonic() + 240
  while not first.exists() and killed.poll() is None:
    assert time.monotonic() < deadline
    time.sleep(0.01)
  killed.send_signal(signal.SIGKILL)
  killed.communicate()
  assert killed.returncode == -signal.SIGKILL
  assert not (tmp_path / "checkpoints" / "7").exists()
  again = start(data_dir, tmp_path, *flags)
  output, _ = again.communicate(timeout=240)
  assert again.returncode == 0, output
  assert "at step 3" in output
  # Asked for late: meanwhile another worker may have made it.
  whole = request.getfixturevalue("whole")
  expected, got = (arrays(d, 7) for d in (whole, tmp_path))
  assert expected.keys() == got.keys() and len(expected) > 100
  for name, value in expected.items():
    np.testing.assert_array_equal(got[name], value, err_msg=name)
  lines = [(d / "metrics.jsonl").read_text() for d in (whole, tmp_path)]
  last = [json.loads(text.splitlines()[-1]) for text in lines]
  assert last[0] == last[1]


def comparison(workdir):
  return json.loads((workdir / "results" / "comparison.json").read_text())


def macro(workdir, task, label_set, encoder):
  """Macro AUROC of the first setting of a task."""
  for row in comparison(workdir)["rows"]:
    topic = row["task"], row["label_set"], row["label"], row["encoder"]
    if topic == (task, label_set, "macro", encoder):
      return row["value"]


def check_results(recipe, workdir):
  document = comparison(workdir)
  encoders = ["random"] if recipe == "random" else [recipe, "random"]
  rows = document["rows"]
  assert {row["encoder"] for row in rows} == set(encoders)
  tasks = {row["task"] for row in rows}
  assert tasks == {"linear_probe"} | (
    set() if recipe == "mae" else {"zero_shot"}
  )
  assert all("report encoder" in n["reason"] for n in document["not_done"])
  assert len(document["not_done"]) == (4 if recipe == "mae" else 0)
  figures = {p.name for p in (workdir / "figures").iterdir()}
  assert "auroc-synthetic_ecg-tiny-rhythm.png" in figures
  assert "macro-synthetic_ecg-tiny-superclass.png" in figures
  assert ("tracing-1.png" in figures) == (
    recipe in ("mae", "masked_clip", "cg_dmer")
  )


@pytest.mark.parametrize("recipe", ["random", "mae"])
def test_every_recipe_trains_and_is_evaluated(recipe, data_dir, tmp_path):
  pretrain.run(toy.get_config(f"recipe={recipe}"), tmp_path, data_dir)
  check_results(recipe, tmp_path)


def test_what_a_run_leaves_is_good_for(whole, data_dir, tmp_path, caplog):
  check_results("cg_dmer", whole)
  config = toy.get_config()
  mesh = sharding.make_mesh(config.mesh)
  loaded = trained_model.load(whole, mesh)
  assert loaded.step == 7 and loaded.name == "cg_dmer"
  # Another mesh scores the same.
  found = parse.parse(f"{whole},random", mesh, config.evaluation.batch_size)
  every = evaluate.open_data_sets(config.evaluation, data_dir)
  evaluate.evaluate(found, every, config.evaluation, tmp_path)
  first, second = (
    macro(d, "zero_shot", "rhythm", "cg_dmer") for d in (whole, tmp_path)
  )
  assert first == pytest.approx(second, abs=1e-3)
  # Padding never counts: any batch size gives the same features. Every
  # parameter stays bit-identical.
  before = jax.tree.map(np.array, jax.device_get(loaded.params))
  source = EcgSource("synthetic_ecg/tiny", "test[:21]", data_dir)
  eight, twelve = (
    features.extract(loaded.embed, source, n, mesh) for n in (8, 12)
  )
  assert eight.shared.shape == (21, 16)
  jax.tree.map(np.testing.assert_array_equal, before, loaded.params)
  np.testing.assert_allclose(eight.shared, twelve.shared, atol=1e-5)
  caplog.clear()
  loaded.encode_report(["sinus rhythm"])
  assert not caplog.records
  loaded.encode_report(["sinus rhythm", "atrial fibrillation " * 20])
  assert "50.0 % of 2 texts are longer" in caplog.text
  # The same workdir with another configuration is refused, nothing is lost.
  message = f"holds a run with optim.lr={config.optim.lr}, not 0.5"
  with config.unlocked():
    config.optim.lr = 0.5
  with pytest.raises(UserError, match=re.escape(message)):
    pretrain.run(config, whole, data_dir)
  # A checkpoint of another architecture.
  other = tmp_path / "other"
  shutil.copytree(whole, other)
  text = (other / "config.json").read_text()
  (other / "config.json").write_text(
    text.replace('"mlp_dim": 24', '"mlp_dim": 32')
  )
  with pytest.raises(UserError, match="another architecture|this config"):
    trained_model.load(other, mesh)


@pytest.mark.parametrize(
  ("preset", "source", "splits"),
  [
    ("cpsc2018", "cinc2021/CPSC2018", None),
    ("ptb_xl_merl_compat", "ptb_xl_100hz", "splits/ptbxl"),
  ],
)
def test_recorded_data_sets_are_evaluated(
  preset, source, splits, whole, real_data, tmp_path
):
  config = zero_shot_config.get_config(preset).evaluation.unlock()
  label_set = "cpsc2018" if preset == "cpsc2018" else "superclass"
  config.update(
    toy.get_config().evaluation,
    datasets=config.datasets,
    label_sets=(label_set,),
    min_positives=1,
  )
  build.build(
    config.datasets,
    manual_dir=real_data / source,
    splits_dir=splits and real_data / splits,
    data_dir=tmp_path,
    max_rejected=1.0,
  )
  mesh = sharding.make_mesh((-1, 1, 1))
  found = parse.parse(str(whole), mesh, config.batch_size)
  every = evaluate.open_data_sets(config, tmp_path)
  evaluate.evaluate(found, every, config, tmp_path)
  mode = "merl_compat" if splits else "fixed"
  files = [
    json.loads(path.read_text())
    for path in (tmp_path / "results").glob("*/*.json")
  ]
  assert len(files) == len(config.tasks)
  for document in files:
    assert document["label_mode"] == mode
    unknown = 0 if splits else document["num_records"]
    assert document["num_without_subject"] == unknown
    assert document["settings"][0]["evaluation"]["macro_auroc"]["value"]
  text = (tmp_path / "results" / "tables.md").read_text()
  assert ("merl_compat labels: macro" in text) == bool(splits)


def test_nan_stops_and_names_step_and_term(data_dir, tmp_path):
  config = toy.get_config("recipe=clip")
  with config.unlocked():
    config.optim.lr = 1e38
    config.optim.warmup_ratio = 0.0
    config.train.checkpoint_every = 1
  with pytest.raises(metrics.Diverged, match=r"step 2: \w+ is nan"):
    pretrain.run(config, tmp_path, data_dir)
  steps = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
  assert "2" not in steps


def test_sigterm_saves_and_ends_well(data_dir, tmp_path):
  """From without, and of several processes: tests/launch/test_local.py."""
  config = toy.get_config("recipe=clip")
  with config.unlocked():
    config.train.update(steps=100_000, checkpoint_every=100_000)

  def ask():
    while not (tmp_path / "metrics.jsonl").exists():
      time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

  before = signal.getsignal(signal.SIGTERM)
  threading.Thread(target=ask).start()
  assert not pretrain.run(config, tmp_path, data_dir)
  assert signal.getsignal(signal.SIGTERM) is before
  (step,) = checkpoint.steps(tmp_path)
  assert 0 < step < 100_000


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    (
      ["--config=tests/toy.py", "--config.data.dataset=ptb_xl/100hz"],
      "python -m data_builders.build",
    ),
    (["--config=tests/toy.py", "--config.data.datset=x"], "datset"),
    (["--config=configs/pretrain.py:recipe=moco"], "recipe='moco'"),
    (["--config=configs/nothing.py"], "nothing.py"),
  ],
)
def test_mistakes_end_in_one_line(flags, message, data_dir, tmp_path):
  run = start(data_dir, tmp_path / "run", *flags)
  output, _ = run.communicate(timeout=120)
  assert run.returncode == 2, output
  assert message in output.strip().splitlines()[-1]
  assert "Traceback" not in output
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
  ("field", "value", "message"),
  [
    ("train.log_every", 0, "train.log_every=0; expected at least 1"),
    ("data.statements", (-1,), "data.statements=(-1,); expected at least 0"),
  ],
)
def test_wrong_values_leave_nothing(field, value, message, data_dir, tmp_path):
  config = toy.get_config().unlock()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(UserError, match=re.escape(message)):
    pretrain.run(config, tmp_path / "run", data_dir)
  assert not (tmp_path / "run").exists()


def test_evaluation_of_data_that_are_not_built(data_dir, tmp_path):
  config = zero_shot_config.get_config()
  with pytest.raises(UserError, match="no data set 'synthetic_ecg/demo'"):
    evaluate.run(config, tmp_path / "run", data_dir)
  assert not (tmp_path / "run").exists()


def test_a_run_without_a_checkpoint_may_be_configured_anew(tmp_path):
  config = toy.get_config()
  assert not saved.write(tmp_path, config, is_begun=False)
  assert not saved.write(tmp_path, config, is_begun=False)
  with config.unlocked():
    config.data.vocab_size = 200
  # What was left belongs to other data, perhaps.
  assert saved.write(tmp_path, config, is_begun=False)
  assert '"vocab_size": 200' in (tmp_path / "config.json").read_text()


def test_no_run_where_a_checkpoint_is_asked_for(tmp_path):
  with pytest.raises(UserError, match="no run in .*: expected config.json"):
    trained_model.load(tmp_path, sharding.make_mesh((-1, 1, 1)))
