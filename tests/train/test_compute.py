"""How the model computes changes nothing of what it computes."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax import sharding
from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import products
from cgdmer_jax.train import checks, setup, step_program, train_step
from tests import small
from tests.steps import mesh_of


def make(mesh=None, microbatches=1, recipe="cg_dmer", **compute):
  """Model, and the jitted gradient of everything, of two blocks a stack."""
  config = small.config(f"recipe={recipe}")
  with config.unlocked():
    config.model.ecg.depth = config.model.ecg_decoder.depth = 2
    config.train.microbatches = microbatches
    config.compute.update(compute)
  checks.check(config, small.NUM_SAMPLES)
  model = setup.build_model(config, small.VOCABULARY)

  def loss_fn(params, batch):
    key = train_step.step_key(config.seed, 3)
    terms = small.objective(config, mesh).terms(params, batch, key)
    return terms["loss"], terms

  return model, config, jax.jit(jax.grad(loss_fn, has_aux=True))


@functools.lru_cache
def reference():
  """Parameters, and gradient and terms, of the plain form."""
  model, config, gradient = make()
  params = jax.jit(lambda: train_step.init_params(model, config.seed))()
  params = jax.device_get(params)
  return params, jax.device_get(gradient(params, small.batch()))


def same(a, b, tolerance=1e-5):
  """Trees are equal, up to `tolerance` of the greatest entry of each leaf.

  Below 1e-2 it counts as 1e-2: such a gradient is a sum that nearly cancels.
  """
  a, b = (dict(jax.tree_util.tree_leaves_with_path(x)) for x in (a, b))
  assert a.keys() == b.keys()
  for path, x in a.items():
    atol = tolerance * max(1e-2, np.abs(x).max())
    np.testing.assert_allclose(
      b[path], x, rtol=0, atol=atol, err_msg=jax.tree_util.keystr(path)
    )


def stacked(tree):
  """Blocks of transformers, which lie side by side, on top of each other."""
  if not isinstance(tree, dict):
    return tree
  blocks = sorted(k for k in tree if re.fullmatch(r"block_\d+", k))
  rest = {k: stacked(v) for k, v in tree.items() if k not in blocks}
  if blocks:
    each = [tree[k] for k in blocks]
    rest["layers"] = jax.tree.map(lambda *x: np.stack(x), *each)
  return rest


def test_scanned_blocks_compute_the_same():
  params, (gradient, terms) = reference()
  model, config, run = make(scan=True)
  shapes = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  params = stacked(params)
  assert jax.tree.structure(shapes) == jax.tree.structure(params)
  found, values = jax.device_get(run(params, small.batch()))
  same(values, terms)
  same(found, stacked(gradient))
  layers = params["ecg_encoder"]["blocks"]["layers"]
  assert layers["mlp"]["up"]["kernel"].shape == (2, 16, 24)


def test_scanned_blocks_are_optimised_like_others():
  params, (gradient, _) = reference()
  params, gradient = (
    {"ecg_encoder": x["ecg_encoder"]} for x in (params, gradient)
  )

  def updates(gradient, params):
    optimizer = small.optimizer(small.config(), 10)
    state = optimizer.init(params)
    for _ in range(2):  # the learning rate of the first step is 0
      result, state = jax.jit(optimizer.update)(gradient, state, params)
    return jax.device_get(result)

  plain = updates(gradient, params)
  assert max(np.abs(x).max() for x in jax.tree.leaves(plain)) > 1e-4
  same(updates(stacked(gradient), stacked(params)), stacked(plain), 1e-4)


def test_scanned_blocks_are_cut_like_others():
  mesh = mesh_of((1, 2, 2))
  name = "params/ecg_encoder/blocks/{}/attention/qkv/kernel"
  one = sharding.spec_for(name.format("block_0"), (16, 3, 2, 8), mesh)
  all_ = sharding.spec_for(name.format("layers"), (5, 16, 3, 2, 8), mesh)
  assert tuple(all_) == (None, *one) and "fsdp" in one


def test_recomputing_changes_nothing_but_the_program():
  params, (gradient, terms) = reference()
  _, _, run = make(remat="dots")
  text = str(run.trace(params, small.batch()).jaxpr)
  assert ("remat" in text) or ("checkpoint" in text)
  found, values = jax.device_get(run(params, small.batch()))
  same(values, terms)
  same(found, gradient)


def test_microbatches_are_one_batch():
  """Value and gradient, also of the losses that compare records."""
  params, (gradient, terms) = reference()
  mesh = mesh_of((2, 1, 1))
  _, _, run = make(mesh, microbatches=2)
  batch = sharding.put_batch(small.batch(), mesh)
  assert "scan" in str(run.trace(params, batch).jaxpr)
  found, values = jax.device_get(run(params, batch))
  assert values["false_negatives_avoided"] > 0
  same(values, terms)
  same(found, gradient)


def test_recomputing_and_microbatches_save_memory():
  def used(**how):
    model, config, gradient = make(scan=True, recipe="mae", **how)
    params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
    program = gradient.lower(params, small.batch(64)).compile()
    return program.memory_analysis().temp_size_in_bytes

  plain = used()
  assert used(remat="full") < 0.8 * plain
  assert used(microbatches=8) < 0.5 * plain


def test_sixteen_bits_stay_inside():
  params, (_, terms) = reference()
  model, config, run = make(dtype="bfloat16")
  found, values = jax.device_get(run(params, small.batch()))
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(found))
  for name in ("ecg", "mlm", "align", "disentangle"):
    assert values[name].dtype == np.float32
    np.testing.assert_allclose(values[name], terms[name], rtol=0.05)
    assert values[name] != terms[name]
  text = str(run.trace(params, small.batch()).jaxpr)
  # Gradients of weights leave products of 16 bits in float32.
  assert text.count("preferred_element_type=float32") > 20
  products = re.findall(r":(\w+)\[[\d,]*\] = dot_general", text)
  assert products.count("bf16") > 50
  # Softmax has (1, batch, heads, query, key); other exponentials are of GELU.
  exponentials = re.findall(r":(\w+)\[1(?:,\d+){4}\] = exp ", text)
  assert exponentials and set(exponentials) == {"f32"}


def weigh(weights, x, index, factors):
  """A number that weights give, through every kind of product."""
  kernel, bias, taps, table = weights
  outputs = (
    products.product(x, kernel) + products.spread(bias, factors),
    products.convolution(x, taps, 2),
    products.rows(table, index, "bfloat16"),
  )
  given = factors.astype(jnp.float32)
  return sum(
    (y.astype(jnp.float32) * given[:, : y.shape[1]]).sum() for y in outputs
  )


def test_gradients_are_summed_over_devices_in_float32():
  """In 16 bits each part and each sum would be rounded to 8 bits: 0.4 %."""
  rng = np.random.default_rng(0)
  weights = [rng.normal(size=s) for s in ((5, 7), (7,), (3, 5, 7), (9, 7))]
  weights = [w.astype(np.float32) for w in weights]
  x, factors = (
    rng.normal(1.0, size=(64, 6, n)).astype(jnp.bfloat16) for n in (5, 7)
  )
  index = rng.integers(0, 9, (64, 6)).astype(np.int32)
  mesh = mesh_of((4, 1, 1))
  with sharding.use(mesh):
    batch = sharding.put_batch((x, index, factors), mesh)
    found = jax.device_get(jax.jit(jax.grad(weigh))(weights, *batch))
  x, factors = np.float64(x), np.float64(factors)
  table = np.zeros((9, 7))
  np.add.at(table, index, factors)
  last = np.pad(x, ((0, 0), (0, 1), (0, 0)))  # the last window reaches out
  windows = np.stack([last[:, k : k + 5 : 2] for k in range(3)])
  expected = [
    np.einsum("btf,btg->fg", x, factors),
    factors.sum((0, 1)),
    np.einsum("kbtf,btg->kfg", windows, factors[:, :3]),
    table,
  ]
  same(dict(enumerate(found)), dict(enumerate(expected)), 1e-6)


def test_activations_stay_cut_along_the_batch():
  x = jnp.zeros((8, 3))

  def run(x):
    return sharding.constrain_batch(x + 1)

  assert "sharding_constraint" not in str(jax.make_jaxpr(run)(x))
  with sharding.use(mesh_of((2, 2, 1))):
    text = str(jax.make_jaxpr(run)(x))
  assert "sharding_constraint" in text and "('data', 'fsdp')" in text


def test_no_device_filters_the_records_of_others():
  config = small.config().preprocess
  mesh = mesh_of((2, 2, 1))
  batch = sharding.put_batch(small.batch(), mesh)

  def run(inside):
    def filtered(ecg, lead_valid):
      with sharding.use(inside):
        return preprocessing.preprocess(ecg, lead_valid, config)

    return jax.jit(filtered).lower(batch.ecg, batch.lead_valid).compile()

  assert "all-gather" in run(None).as_text()  # what the partitioner makes of it
  program = run(mesh)
  assert "all-gather" not in program.as_text()
  arguments = batch.ecg, batch.lead_valid
  np.testing.assert_allclose(
    program(*arguments), run(None)(*arguments), atol=1e-6
  )


def test_cudnn_needs_a_gpu():
  with pytest.raises(UserError, match="needs an NVIDIA GPU.*set it to 'xla'"):
    make(attention="cudnn", dtype="bfloat16")


@pytest.mark.parametrize(
  ("field", "value"),
  [("dtype", "float8"), ("attention", "flash"), ("remat", "some")],
)
def test_unknown_ways_to_compute(field, value):
  with pytest.raises(UserError, match=f"compute.{field}='{value}'; expected"):
    make(**{field: value})


def program(shape):
  config = small.config()
  mesh = mesh_of(shape)
  model = setup.build_model(config, small.VOCABULARY)
  optimizer = small.optimizer(config, 10)
  return train_step.abstract_state(model, optimizer, mesh), mesh


def test_memory_of_each_device_is_known_before_the_first_step(caplog):
  abstract, mesh = program((1, 4, 1))
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=sharding.batch_sharding(mesh)
    ),
    small.batch(),
  )

  def step(state, batch):
    return state, {"sum": jnp.sum(batch.ecg.astype(jnp.float32) ** 2)}

  step = step_program.StepProgram(step, abstract)
  with caplog.at_level("INFO", logger="absl"):
    compiled = step.compile(batch)
    assert step.compile(batch) is compiled  # once for each shape
  assert caplog.text.count("on each device parameters") == 1
  parts = step_program.memory(abstract, batch, compiled)
  whole = sum(
    x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract.params)
  )
  assert 0.25 * whole < parts["parameters"] < 0.6 * whole  # most are cut
  assert (
    parts["batch"] == sum(x.nbytes for x in jax.tree.leaves(small.batch())) // 4
  )


def test_table_of_what_lies_where():
  abstract, mesh = program((1, 2, 2))
  lines = sharding.describe(abstract.params, mesh)
  assert any(
    re.search(
      r"1 x ecg_encoder/blocks/block_\*/mlp/up/kernel \(16, 24\): fsdp, tensor;"
      r" 0\.00 MiB",
      line,
    )
    for line in lines
  )
  assert any("every device has all" in line for line in lines)
  counted = sum(int(re.match(r" *(\d+) x", line)[1]) for line in lines)
  assert counted == len(jax.tree.leaves(abstract.params))


def test_batches_that_cannot_be_cut():
  mesh = mesh_of((2, 2, 1))
  sharding.check_batch(24, 3, mesh)
  with pytest.raises(UserError, match="make it a multiple of 12"):
    sharding.check_batch(32, 3, mesh)
