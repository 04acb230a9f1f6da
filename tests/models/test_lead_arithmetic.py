"""Leads from leads: the mean of a Gaussian, and Einthoven's arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.models import lead_arithmetic

pytestmark = pytest.mark.usefixtures("strict_promotion")

B, L, N, P = 5, 12, 4, 6


@pytest.fixture(scope="module")
def predict():
  module = lead_arithmetic.LeadArithmetic()
  shown = jnp.ones((B, L, N), bool)
  params = module.init(jax.random.key(0), jnp.zeros((B, L, N, P)), shown)
  # Not the initial covariance: any factor will do.
  noise = np.random.default_rng(0).normal(0, 0.3, (8, 8))
  params = jax.tree.map(lambda x: x + jnp.asarray(noise, x.dtype), params)
  return params, jax.jit(lambda *args: module.apply(*args)[0])


def recordings(rng):
  """Twelve leads that follow from eight."""
  eight = rng.normal(size=(B, 8, N, P)).astype(np.float32)
  i, ii = eight[:, 0], eight[:, 1]
  limbs = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
  return np.concatenate([np.stack(limbs, 1), eight[:, 2:]], axis=1)


def test_mean_of_a_gaussian(predict):
  params, apply = predict
  rng = np.random.default_rng(1)
  x, shown = recordings(rng), rng.random((B, L, N)) < 0.4
  twelve = np.asarray(lead_arithmetic._TWELVE, np.float64)
  factor = np.asarray(params["params"]["factor"], np.float64)
  covariance = twelve @ factor @ factor.T @ twelve.T
  expected = np.zeros(x.shape)
  for b in range(B):
    for n in range(N):
      (rows,) = np.nonzero(shown[b, :, n])
      known = covariance[np.ix_(rows, rows)]
      known = known + np.diag(1e-3 * np.diag(covariance)[rows] + 1e-6)
      expected[b, :, n] = covariance[:, rows] @ np.linalg.solve(
        known, x[b, rows, n].astype(np.float64)
      )
  np.testing.assert_allclose(apply(params, x, shown), expected, atol=2e-4)


@pytest.mark.parametrize("visible", [(0, 1), (2, 4), (3, 5)])
def test_two_limb_leads_give_the_others(predict, visible):
  params, apply = predict
  x = recordings(np.random.default_rng(2))
  shown = np.zeros((B, L, N), bool)
  shown[:, visible] = True
  error = np.asarray(apply(params, x, shown))[:, :6] - x[:, :6]
  assert error.var() < 1e-3 * x[:, :6].var()


def test_hidden_leads_are_not_read(predict):
  params, apply = predict
  x = recordings(np.random.default_rng(3))
  shown = np.random.default_rng(4).random((B, L, N)) < 0.5
  damaged = np.where(shown[..., None], x, np.nan).astype(np.float32)
  np.testing.assert_array_equal(
    apply(params, damaged, shown), apply(params, x, shown)
  )


def test_doubt_is_the_conditional_variance(predict):
  params, _ = predict
  shown = np.random.default_rng(6).random((B, L, N)) < 0.3
  module = lead_arithmetic.LeadArithmetic()
  x = np.zeros((B, L, N, P), np.float32)
  doubt = np.asarray(jax.jit(module.apply)(params, x, shown)[1])
  twelve = np.asarray(lead_arithmetic._TWELVE, np.float64)
  factor = np.asarray(params["params"]["factor"], np.float64)
  covariance = twelve @ factor @ factor.T @ twelve.T
  for b in range(B):
    for n in range(N):
      (rows,) = np.nonzero(shown[b, :, n])
      known = covariance[np.ix_(rows, rows)]
      known = known + np.diag(1e-3 * np.diag(covariance)[rows] + 1e-6)
      told = covariance[:, rows] @ np.linalg.solve(known, covariance[rows])
      expected = 1 - np.diag(told) / np.diag(covariance)
      np.testing.assert_allclose(doubt[b, :, n], expected, atol=2e-3)


def test_nothing_from_nothing(predict):
  params, apply = predict
  x = recordings(np.random.default_rng(5))
  assert not np.asarray(apply(params, x, np.zeros((B, L, N), bool))).any()
