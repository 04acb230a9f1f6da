"""Runs that are prolonged, and runs that start from others."""

import json

import jax
import numpy as np
import pytest

from cgdmer_jax import pretrain, sharding, trained_model
from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import bundle
from cgdmer_jax.train import checkpoint, metrics
from tests import toy


def config(steps, **changes):
  c = toy.get_config("recipe=clip").unlock()
  c.train.update(steps=steps, checkpoint_every=1, keep_checkpoints=9)
  c.evaluation.tasks = ()
  c.update_from_flattened_dict(changes)
  return c


@pytest.fixture(scope="module")
def start(tiny_data, tmp_path_factory):
  """A run of two steps, prolonged to three."""
  workdir = tmp_path_factory.mktemp("start")
  assert pretrain.run(config(2), workdir, tiny_data)
  (workdir / "complete").touch()
  before = (workdir / "checkpoints/2/default/manifest.ocdbt").read_bytes()
  assert pretrain.run(config(3), workdir, tiny_data)
  after = (workdir / "checkpoints/2/default/manifest.ocdbt").read_bytes()
  assert before == after
  return workdir


def params(workdir):
  mesh = sharding.make_mesh((-1, 1, 1))
  return jax.device_get(trained_model.load(workdir, mesh).params)


def test_a_finished_run_is_prolonged(start, tiny_data):
  assert sorted(checkpoint.steps(start)) == [1, 2, 3]
  steps = [row["step"] for row in metrics.read_metrics(start)]
  assert steps == sorted(steps) and steps[-1] == 3
  assert json.loads((start / "config.json").read_text())["train"]["steps"] == 3
  assert not (start / "complete").exists()  # main makes it at the end
  with pytest.raises(UserError, match="holds a run with train.steps=3, not 2"):
    pretrain.run(config(2), start, tiny_data)


def first_params(c, workdir, tiny_data):
  """Parameters before the first step."""
  prepared, c = pretrain.prepare(c, workdir, tiny_data)
  with checkpoint.Checkpointer(workdir, keep=1) as checkpointer:
    state = pretrain._first_state(prepared.training, checkpointer, c)
  assert int(state.step) == 0
  return jax.device_get(state.params)


def test_a_run_is_the_start_of_another(start, tiny_data, tmp_path):
  c = config(3, seed=5, init_from=str(start))
  c.data.train = "train[:64]"  # other words, were they learnt
  old = params(start)
  new = first_params(c, tmp_path / "run", tiny_data)
  jax.tree.map(np.testing.assert_array_equal, old, new)
  first, second, third = (tmp_path / "run", start, tmp_path / "part")
  # The ECG side alone, with other words.
  c.init_parts = ("ecg_encoder",)
  new = first_params(c, third, tiny_data)
  jax.tree.map(
    np.testing.assert_array_equal, old["ecg_encoder"], new["ecg_encoder"]
  )
  kernels = (x["ecg_projection"]["kernel"] for x in (old, new))
  assert not np.array_equal(*kernels)
  words = [
    (path / "tokenizer/tokenizer.json").read_bytes()
    for path in (first, second, third)
  ]
  assert words[0] == words[1] != words[2]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    (
      {"model.ecg.mlp_dim": 32},
      r"init_from: ecg_encoder/.* is \(.*24.*\) there and \(.*32.*\) in this"
      r" .*--config.init_parts=\('.*report_encoder'",
    ),
    ({"init_parts": ("head",)}, "has no module head; it has bias, ecg_en"),
    ({"init_from": "nowhere"}, "init_from: no model 'nowhere'.*simulated"),
    ({"init_from": "s3://b/x"}, "--config.init_from=s3://b/x is no path"),
  ],
)
def test_a_start_that_does_not_fit(
  changes, message, start, tiny_data, tmp_path
):
  c = config(1, **({"init_from": str(start)} | changes))
  with pytest.raises(UserError, match=message):
    first_params(c, tmp_path / "run", tiny_data)


def test_an_export_is_the_start_of_a_run(start, tiny_data, tmp_path, caplog):
  mesh = sharding.make_mesh((-1, 1, 1))
  trained = trained_model.load(start, mesh)
  folder = tmp_path / "export"
  folder.mkdir()
  bundle.write(folder, trained, None)
  c = config(3, init_from=str(folder))
  new = first_params(c, tmp_path / "run", tiny_data)
  jax.tree.map(
    lambda x, y: np.testing.assert_array_equal(
      np.asarray(x, np.float16), np.asarray(y, np.float16)
    ),
    params(start),
    new,
  )
  words = [
    (path / "tokenizer/tokenizer.json").read_bytes()
    for path in (start, tmp_path / "run")
  ]
  assert words[0] == words[1]
  assert "was trained with" not in caplog.text  # settings are the same


def test_a_missing_data_set_of_the_evaluation_is_told_first(
  tiny_data, tmp_path
):
  c = config(1)
  c.evaluation.tasks, c.evaluation.datasets = ("zero_shot",), "ptb_xl/100hz"
  with pytest.raises(UserError, match="no data set 'ptb_xl/100hz'"):
    pretrain.run(c, tmp_path / "run", tiny_data)
  assert not (tmp_path / "run").exists()


def test_a_wrong_value_is_told_before_a_missing_data_set(tmp_path):
  c = config(1)
  c.mask.lead_ratio = 1.5
  with pytest.raises(UserError, match="mask.lead_ratio=1.5"):
    pretrain.run(c, tmp_path / "run", tmp_path / "no data")
  assert not (tmp_path / "run").exists()
