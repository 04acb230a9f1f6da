"""The step: equal on every mesh, for every loss term; it learns."""

import functools
import re

import jax
import numpy as np
import optax
import pytest

from cgdmer_jax import sharding
from cgdmer_jax.data import augmentation
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import optim, setup, train_step
from cgdmer_jax.train.objective import Objective
from tests import small
from tests.steps import mesh_of, run_steps

TERMS = ("ecg", "mlm", "align", "disentangle")


@functools.lru_cache
def gradients(shape):
  """Every loss term and its gradient, at the initial parameters, on a mesh.

  One compilation serves all terms: their weights are an argument.
  """
  config = small.config()
  mesh = mesh_of(shape)
  model = setup.build_model(config, small.VOCABULARY)
  state = train_step.create_state(model, optax.identity(), mesh, config.seed)

  @jax.jit
  def run(params, batch, weights):
    def loss_fn(params):
      key = train_step.step_key(config.seed, 3)
      terms = small.objective(config).terms(params, batch, key)
      return sum(weights[k] * terms[k] for k in TERMS), terms

    return jax.grad(loss_fn, has_aux=True)(params)

  batch = sharding.put_batch(small.batch(), mesh)
  result = {}
  for term in TERMS:
    weights = {k: np.float32(k == term) for k in TERMS}
    gradient, terms = jax.device_get(run(state.params, batch, weights))
    result[term] = gradient, terms[term]
  return result


@pytest.mark.parametrize("term", TERMS)
def test_four_devices_equal_one(term):
  """More meshes, and the sigmoid alignment: test_meshes.py."""
  one, one_value = gradients((1, 1, 1))[term]
  four, four_value = gradients((2, 2, 1))[term]
  np.testing.assert_allclose(four_value, one_value, rtol=1e-5)
  scale = max(np.abs(x).max() for x in jax.tree.leaves(one))
  assert scale > 1e-3
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * max(1, scale)),
    four,
    one,
  )


@pytest.mark.parametrize(
  "forms",
  [
    {"alignment": "sigmoid", "disentangle_form": "hsic"},
    {"alignment": "infonce", "disentangle_form": "club"},
    {"disentangle_form": "cross_correlation"},
  ],
)
def test_no_term_mixes_types(strict_promotion, forms):
  config = small.config()
  with config.unlocked():
    config.loss.update(forms)
  objective = small.objective(config)
  params = jax.eval_shape(
    lambda: train_step.init_params(objective.forward.model, 0)
  )
  assert ("ecg_critic" in params) == (forms["disentangle_form"] == "club")
  with pytest.raises(jax.dtypes.TypePromotionError):
    jax.eval_shape(lambda x: x + jax.numpy.int32(1), np.float32(1))
  key = train_step.step_key(0, 0)
  jax.eval_shape(objective.terms, params, small.batch(), key)


def test_recordings_are_augmented_in_training_alone(monkeypatch):
  class Encoding(Exception):
    """What is handed to the model."""

  def encode(self, params, batch, mask, words, augment):
    raise Encoding(augment)

  monkeypatch.setattr(Objective, "_encode", encode)
  config = small.config()
  with config.unlocked():
    config.augment.noise = 0.1
  objective = small.objective(config)
  step = train_step.make_train_step(objective, optax.identity(), 0)
  state = train_step.TrainState(np.int32(0), {}, ())
  with pytest.raises(Encoding) as training:
    jax.eval_shape(step, state, small.batch())
  with pytest.raises(Encoding) as validation:
    key = jax.random.key(0)
    jax.eval_shape(objective.terms, {}, small.batch(), key)
  assert training.value.args[0].noise.shape == small.batch().ecg.shape
  assert validation.value.args[0] == augmentation.NONE


def test_it_learns():
  config = small.config()
  with config.unlocked():
    config.data.statements = (0,)
    # Each of them alone would be learned, so none may be drowned by another.
    config.loss.update(ecg=1.0, mlm=1.0, disentangle=1.0)
  state, one = run_steps(config, (1, 1, 1), 30)
  assert int(state.step) == 30
  for term in ("ecg", "mlm", "align", "disentangle"):
    first, last = (np.mean([m[term] for m in x]) for x in (one[:3], one[-3:]))
    assert last < 0.95 * first, term
  assert one[0]["ecg"] != one[1]["ecg"]  # another mask at every step


@pytest.mark.parametrize("statements", [(0,), (1,)])
def test_statements_are_drawn_as_configured(statements):
  config = small.config()
  with config.unlocked():
    config.data.statements = statements
  model = setup.build_model(config, small.VOCABULARY)
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
  batch = small.batch()
  key = train_step.step_key(0, 0)
  read = jax.jit(
    lambda batch: small.objective(config).draw(batch, key)[1].original
  )(batch)
  ordinary = (np.asarray(read) > 4).sum(1)
  whole = (batch.tokens > 4).sum(1)
  if statements == (0,):
    np.testing.assert_array_equal(ordinary, whole)
  else:  # no statement of these reports has more than five tokens
    assert (ordinary <= 5).all() and (whole > 5).any()


def test_parameters_and_moments_are_cut_alike():
  config = small.config()
  mesh = mesh_of((1, 2, 2))
  model = setup.build_model(config, small.VOCABULARY)
  optimizer = small.optimizer(config, 10)
  state = train_step.create_state(model, optimizer, mesh, config.seed)
  specs = {}
  for path, x in jax.tree_util.tree_leaves_with_path(state):
    specs[sharding.path_name(path)] = x.sharding.spec
  kernel = "ecg_encoder/blocks/block_0/mlp/up/kernel"
  found = {k: v for k, v in specs.items() if k.endswith(kernel)}
  assert len(found) == 2  # parameter and Muon's momentum
  assert set(found.values()) == {jax.sharding.PartitionSpec("fsdp", "tensor")}
  shard = state.params["ecg_encoder"]["blocks"]["block_0"]["mlp"]["up"]
  assert shard["kernel"].addressable_shards[0].data.shape == (8, 12)


def test_every_rule_matches_something():
  config = small.config()
  model = setup.build_model(config, small.VOCABULARY)
  shapes = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  paths = [
    "/" + sharding.path_name(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(shapes)
  ]
  left = paths
  for rule, _ in sharding.RULES:
    rest = [p for p in left if not re.search(rule, p)]
    assert len(rest) < len(left), f"rule {rule!r} matches no parameter"
    left = rest
  assert not left


def test_decay_mask_spares_norms_biases_and_embeddings():
  config = small.config()
  model = setup.build_model(config, small.VOCABULARY)
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  for path, decayed in jax.tree_util.tree_leaves_with_path(
    optim.decay_mask(params)
  ):
    name = sharding.path_name(path)
    kernel = name.endswith("/kernel") and "lead_embedding" not in name
    assert decayed == kernel, name


def test_meshes_that_do_not_fit():
  with pytest.raises(UserError, match=r"does not fit 4 devices"):
    sharding.make_mesh((3, 1, 1))
  with pytest.raises(UserError, match="not divisible by the 'fsdp' axis"):
    sharding.spec_for("x/kernel", (4, 6), mesh_of((1, 4, 1)))
  assert sharding.make_mesh((-1, 2, 1)).shape["data"] == 2


def test_muon_updates_matrices_by_their_orthogonal_factor():
  config = small.config()
  with config.unlocked():
    config.optim.update(weight_decay=0.0, warmup_ratio=0.0, clip_norm=1e9)
  model = setup.build_model(config, small.VOCABULARY)
  shapes = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  params = {k: shapes[k] for k in ("ecg_encoder", "log_scale")}
  rng = np.random.default_rng(0)
  gradient = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32), params
  )
  optimizer = small.optimizer(config, 100)
  state = optimizer.init(gradient)
  updates, _ = jax.jit(optimizer.update)(gradient, state, gradient)
  updates = jax.device_get(updates)
  checked = 0
  for (path, is_matrix), u, g in zip(
    jax.tree_util.tree_leaves_with_path(optim.decay_mask(gradient)),
    jax.tree.leaves(updates),
    jax.tree.leaves(gradient),
    strict=True,
  ):
    name = sharding.path_name(path)
    if not is_matrix:  # AdamW's first step, with Nesterov momentum.
      ratio = u / (-config.optim.lr * np.sign(g))
      np.testing.assert_allclose(ratio, ratio.flat[0], rtol=1e-3, err_msg=name)
      assert 1.0 <= ratio.flat[0] < 1.6
      continue
    if "/qkv/" in name:
      parts = [
        (u[:, i].reshape(16, 16), g[:, i].reshape(16, 16)) for i in range(3)
      ]
    else:
      parts = [(x.reshape(-1, x.shape[-1]) for x in (u, g))]
    for a, b in parts:
      left, _, right = np.linalg.svd(b, full_matrices=False)
      scale = -config.optim.muon_lr * 0.2 * np.sqrt(max(a.shape))
      core = left.T @ (a / scale) @ right.T
      # Five Newton-Schulz steps leave singular values between 0.7 and 1.2,
      # less where the gradient's own are tiny.
      assert np.median(np.diag(core)) > 0.6, name
      assert np.diag(core).max() < 1.3, name
      assert np.abs(core - np.diag(np.diag(core))).max() < 0.02, name
      checked += 1
  assert checked == 3 + 1 + 3 + 1 + 2  # stem, qkv, out, mlp


def test_muon_is_the_same_on_a_mesh():
  config = small.config()
  model = setup.build_model(config, small.VOCABULARY)
  optimizer = small.optimizer(config, 10)
  shapes = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  shapes = {"ecg_encoder": shapes["ecg_encoder"]}
  rng = np.random.default_rng(0)
  gradient = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(np.float32), shapes
  )
  results = []
  for shape in ((1, 1, 1), (1, 2, 2)):
    cuts = sharding.state_shardings(shapes, mesh_of(shape))
    cut = jax.device_put(gradient, cuts)
    update = jax.jit(optimizer.update)
    _, state = update(cut, jax.jit(optimizer.init)(cut), cut)
    updates, _ = update(cut, state, cut)
    results.append(jax.device_get(updates))
  assert max(np.abs(x).max() for x in jax.tree.leaves(results[0])) > 1e-4
  # Newton-Schulz steps magnify rounding.
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      b, a, rtol=0, atol=5e-5 * np.abs(a).max()
    ),
    *results,
  )
