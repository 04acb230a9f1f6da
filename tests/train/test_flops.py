"""Counted operations: by hand, and against XLA's own count."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from cgdmer_jax.config import fields
from cgdmer_jax.train import flops, train_step
from tests import small


def test_products_by_hand():
  a, b = jnp.zeros((5, 3, 7)), jnp.zeros((5, 7, 11))
  assert flops.count(jnp.matmul, a, b) == 2 * 5 * 3 * 7 * 11
  forward_and_backward = jax.grad(lambda a, b: (a @ b).sum() ** 2, (0, 1))
  assert flops.count(forward_and_backward, a, b) == 3 * 2 * 5 * 3 * 7 * 11


def test_a_scanned_product_counts_as_often_as_it_runs():
  def run(x):
    return jax.lax.scan(lambda x, _: (x @ x, None), x, length=9)[0]

  assert flops.count(jax.jit(run), jnp.zeros((4, 4))) == 9 * 2 * 4**3


def test_convolutions_by_hand():
  def run(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (2,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
    )

  x, kernel = jnp.zeros((6, 21, 4)), jnp.zeros((3, 4, 8))
  forward = 2 * 6 * 10 * 8 * 3 * 4
  assert flops.count(run, x, kernel) == forward
  both = jax.grad(lambda x, kernel: run(x, kernel).sum() ** 2, (0, 1))
  assert flops.count(both, x, kernel) == 3 * forward

  def padded(x, kernel):
    return jax.lax.conv_general_dilated(
      x, kernel, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )

  inside = 21 * 3 - 2  # the first and the last window reach out
  assert flops.count(padded, x, kernel) == 2 * 6 * inside * 8 * 4


def test_loops_of_unknown_length_are_refused():
  def run(x):
    return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x @ x, x)

  with pytest.raises(NotImplementedError):
    flops.count(run, jnp.zeros((2, 2)))


def make(**compute):
  config = small.config("recipe=masked_clip")
  with config.unlocked():
    for part in ("ecg", "report", "disentangle", "ecg_decoder"):
      config.model[part].update(fields.transformer(128, 2, 2, 256))
    config.compute.update(compute)
  objective = small.objective(config)
  model = objective.forward.model
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  return objective, params


def test_step_agrees_with_xla():
  """XLA also counts norms and the like: a little more."""
  objective, params = make()
  batch = small.batch(32)

  def loss(params, batch):
    key = jax.random.key(0)
    return objective.terms(params, batch, key)["loss"]

  cost = jax.jit(jax.grad(loss)).lower(params, batch).compile().cost_analysis()
  counted = flops.count_step(objective, params, batch)
  assert 1.0 < cost["flops"] / counted < 1.04
  # However it is computed, the model needs the same.
  other, params = make(scan=True, remat="full", dtype="bfloat16")
  assert flops.count_step(other, params, batch) == counted
  other = dataclasses.replace(other, microbatches=4)
  assert flops.count_step(other, params, batch) == counted


def test_peaks():
  assert flops.peak("NVIDIA H100 80GB HBM3") == 989e12
  assert flops.peak("TPU v5 lite") == 197e12
  assert flops.peak("cpu") is None
