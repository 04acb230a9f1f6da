"""Which layers train, how fast, and what is computed once."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cgdmer_jax import sharding
from cgdmer_jax.data import report_table
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import (
  frozen_reports,
  optim,
  setup,
  train_step,
)
from tests import small
from tests.tiny_bert import SIZES, config_of, named, random_params


def build_model(config):
  return setup.build_model(config, small.VOCABULARY)


def split_of(path):
  return types.SimpleNamespace(
    path=epath.Path(path), split="train", fingerprint="x"
  )


def one_mesh():
  devices = np.array(jax.devices()[:1]).reshape(1, 1, 1)
  return jax.sharding.Mesh(devices, sharding.AXES)


TRAINED_BLOCKS = {"frozen": (), "last_1": (2,), "last_2": (1, 2), "full": None}


@pytest.mark.parametrize("train", TRAINED_BLOCKS)
def test_exactly_the_named_layers_train(train):
  config = config_of(train, lr=1e-3)
  model = build_model(config)
  optimizer = small.optimizer(config, 10)
  mesh = one_mesh()
  state = train_step.create_state(model, optimizer, mesh, config.seed)
  before = named(state.params)
  step = jax.jit(
    train_step.make_train_step(
      small.objective(config, mesh), optimizer, config.seed
    )
  )
  after, metrics = step(state, sharding.put_batch(small.batch(), mesh))
  after = after.replace(opt_state=jax.device_get(after.opt_state))
  assert metrics["false_negatives_avoided"] == 2  # records 0 and 1

  def trains(name):
    if not name.startswith("report_encoder/") or train == "full":
      return True
    return name.startswith(
      tuple(f"report_encoder/blocks_{i}/" for i in TRAINED_BLOCKS[train])
    )

  for name, x in named(after.params).items():
    if trains(name):
      assert (x != before[name]).any(), name
    else:
      np.testing.assert_array_equal(x, before[name], err_msg=name)
  # Two moments for each parameter that trains, and none for the others.
  moments = [
    name
    for name, x in named(after.opt_state).items()
    if x.ndim or name.endswith(("log_scale", "bias"))
  ]
  assert len(moments) == 2 * sum(map(trains, before))
  for name in moments:
    ending = name.partition("report_encoder/")
    assert not ending[1] or trains(ending[1] + ending[2]), name


def test_split_and_merge():
  params = {"report_encoder": random_params(SIZES), "other": {"bias": 1.0}}
  for count in (None, 0, 2, 3):
    trained, frozen = optim.split(params, count)
    assert named(trained).keys() | named(frozen).keys() == named(params).keys()
    jax.tree.map(
      np.testing.assert_array_equal, optim.merge(trained, frozen), params
    )
  assert not optim.split(params, None)[1]
  # No block frozen, but the embeddings.
  assert set(optim.split(params, 0)[1]["report_encoder"]) == {
    *("word", "position", "token_type", "norm")
  }


def test_layer_wise_decay_by_hand():
  """Adam's first step is the learning rate, whatever the gradient."""
  config = config_of("full", lr=1e-3, layer_decay=0.5)
  with config.unlocked():
    config.optim.update(weight_decay=0.0, clip_norm=1e9, lr=1e-2)
  tower = random_params(SIZES)
  params = {"report_encoder": tower, "other": {"bias": np.ones(3)}}
  optimizer = small.optimizer(config, 100)
  updates, _ = jax.jit(
    lambda params: optimizer.update(params, optimizer.init(params), params)
  )(params)
  expected = {
    "blocks_2": 1e-3,
    "blocks_1": 5e-4,
    "blocks_0": 2.5e-4,
    **dict.fromkeys(("word", "position", "token_type", "norm"), 1.25e-4),
  }
  for name, x in named(updates).items():
    module = name.split("/")[1]
    rate = 1e-2 if name == "other/bias" else expected[module]
    np.testing.assert_allclose(np.abs(x), rate, rtol=1e-3, err_msg=name)


@functools.lru_cache
def batch_and_table():
  """A batch, and the table that its reports come from."""
  batch = small.batch()
  tokens = batch.tokens[1:]  # the first two records share a report
  length = (tokens != 0).sum(1).astype(np.int32)
  table = report_table.ReportTable(
    tokens=tokens,
    statement=batch.statement[1:],
    length=length,
    whole_length=length,
    identity=np.arange(1, 8, dtype=np.int32),
    has_text=np.ones(7, bool),
    report_ids=np.array([0, 0, 1, 2, 3, 4, 5, 6], np.int32),
    key="the table",
  )
  return batch, table


def losses_and_gradients(config, params, batch, mesh):
  model = build_model(config)
  trained, frozen = optim.split(params, model.num_frozen)

  @jax.jit
  def run(trained, frozen, batch):
    def loss_fn(trained):
      params = optim.merge(trained, frozen)
      key = train_step.step_key(0, 3)
      terms = small.objective(config).terms(params, batch, key)
      return terms["loss"], terms

    return jax.grad(loss_fn, has_aux=True)(trained)

  whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  trained, frozen = jax.device_put((trained, frozen), whole)
  return jax.device_get(run(trained, frozen, batch))


@pytest.mark.parametrize("train", ["frozen", "last_1"])
def test_cached_frozen_layers_give_the_same(train, tmp_path):
  config = config_of(train)
  model = build_model(config)
  batch, table = batch_and_table()
  params = jax.jit(lambda: train_step.init_params(model, config.seed))()
  params = {**params, "report_encoder": random_params(SIZES)}
  source = split_of(tmp_path)
  states = frozen_reports.frozen_states(model, params, table, source)
  assert states.shape == (table.length.sum(), 16)
  mesh = sharding.make_mesh((2, 2, 1))
  lengths = (8, 16)
  on_disk = frozen_reports.Reports(table, lengths, states)
  on_devices = frozen_reports.Reports(
    table,
    lengths,
    resident={"state_table": frozen_reports.place(states, mesh, 1)},
  )
  assert frozen_reports.place(states, mesh, 0) is None
  rows = table.report_ids
  signals = {"ecg": batch.ecg, "lead_valid": batch.lead_valid}

  def run(reports_, mesh):
    host = signals | reports_.rows(rows, rows)
    global_batch = Batch(**sharding.put_batch(host, mesh), **reports_.resident)
    return losses_and_gradients(config, params, global_batch, mesh)

  expected = run(frozen_reports.Reports(table, lengths), one_mesh())
  assert "states" in on_disk.rows(rows)
  assert np.abs(expected[0]["report_projection"]["kernel"]).max() > 1e-3
  for reports_, mesh_ in (
    (on_disk, one_mesh()),
    (on_devices, mesh),
  ):
    got = run(reports_, mesh_)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(
        a, b, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(b).max())
      ),
      got,
      expected,
    )


def _raise(error):
  def function(*_):
    raise error

  return function


def test_frozen_states_are_kept_until_something_changes(tmp_path, monkeypatch):
  batch, table = batch_and_table()
  source = split_of(tmp_path)
  tower = random_params(SIZES)
  calls = []
  real = frozen_reports._compute
  monkeypatch.setattr(
    frozen_reports, "_compute", lambda *a: calls.append(0) or real(*a)
  )

  def states(train="last_1", dtype="float32", table=table, tower=tower):
    config = config_of(train)
    with config.unlocked():
      config.compute.dtype = dtype
    return frozen_reports.frozen_states(
      build_model(config), {"report_encoder": tower}, table, source
    )

  first = states()
  np.testing.assert_array_equal(states(), first)
  assert len(calls) == 1
  # Against the encoder itself, on all reports at once.
  valid = table.tokens != 0
  expected = jax.jit(
    lambda tower: SIZES.build().apply(
      {"params": tower}, table.tokens, valid, 2, method="lower"
    )
  )(tower)
  np.testing.assert_allclose(first, np.asarray(expected)[valid], atol=2e-6)
  # The last block trains: it may change, its input does not.
  other_top = {**tower, "blocks_2": random_params(SIZES, 1)["blocks_2"]}
  states(tower=other_top)
  assert len(calls) == 1
  other_word = {**tower, "word": random_params(SIZES, 1)["word"]}
  assert (states(tower=other_word) != first).any()
  half = states(dtype="bfloat16")
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(half.astype(np.float32), first, atol=0.1)
  states("frozen")
  states(table=dataclasses.replace(table, key="other"))
  assert len(calls) == 5
  # Nothing partial stays, and a full disk is told in one line.
  monkeypatch.setattr(
    frozen_reports,
    "_compute",
    _raise(OSError(28, "No space left on device")),
  )
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
  files = {p.name for p in tmp_path.rglob("*.npy*")}
  with pytest.raises(UserError, match="No space left.*make room") as e:
    states(tower=random_params(SIZES, 2))
  assert "\n" not in str(e.value)
  assert {p.name for p in tmp_path.rglob("*.npy*")} == files
