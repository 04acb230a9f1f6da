"""Dependence of two parts against double loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cgdmer_jax import sharding
from cgdmer_jax.train import dependence
from tests.steps import mesh_of

pytestmark = pytest.mark.usefixtures("strict_promotion")


def correlated(size, rho, seed=0):
  """Two standard normal features (size, 1) of correlation `rho`."""
  rng = np.random.default_rng(seed)
  a, noise = rng.normal(size=(2, size, 1)).astype(np.float32)
  return a, np.float32(rho) * a + np.float32(np.sqrt(1 - rho**2)) * noise


def linear_critic(params, x):
  """Says N(slope x + shift, exp(log_variance)) of every feature."""
  mean = x @ params["slope"] + params["shift"][None]
  return mean, jnp.broadcast_to(params["log_variance"][None], mean.shape)


def random_critic(rng, width_a, width_b):
  return {
    "slope": rng.normal(size=(width_a, width_b)).astype(np.float32),
    "shift": rng.normal(size=width_b).astype(np.float32),
    "log_variance": rng.normal(size=width_b).astype(np.float32),
  }


def forms(width_a, width_b):
  """Every form as a function of (a, b, counts)."""
  params = random_critic(np.random.default_rng(1), width_a, width_b)
  params["slope"] += 2 * np.eye(width_a, width_b, dtype=np.float32)
  club = {"club": lambda *x: dependence.club(*x, linear_critic, params)}
  others = ("cross_correlation", "hsic")
  return club | {name: getattr(dependence, name) for name in others}


def test_every_form_is_here():
  assert forms(1, 1).keys() == set(dependence.FORMS)


@pytest.mark.parametrize("form", dependence.FORMS)
def test_records_that_do_not_count(form):
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 64, 8)).astype(np.float32)
  b += 2 * a
  counts = rng.random(64) < 0.6
  function = forms(8, 8)[form]
  value, gradient = jax.value_and_grad(function)(a, b, counts)
  without = function(a[counts], b[counts], None)
  np.testing.assert_allclose(value, without, rtol=2e-5)
  assert not np.asarray(gradient)[~counts].any()
  assert np.abs(gradient).max() > 1e-4
  nobody = jax.value_and_grad(function)(a, b, counts & False)
  assert nobody[0] == 0 and not np.asarray(nobody[1]).any()


@pytest.mark.parametrize("form", dependence.FORMS)
def test_scale_shift_and_collapse(form):
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 32, 5)).astype(np.float32)
  b += 2 * a
  function = forms(5, 5)[form]
  value = function(a, b, None)
  assert value > 0.1
  np.testing.assert_allclose(
    function(30 * a + 5, b / 4 - 2, None), value, rtol=1e-4
  )
  collapsed = jax.value_and_grad(function, (0, 1))(a * 0 + 1, b, None)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(collapsed))


@pytest.mark.parametrize("form", dependence.FORMS)
def test_every_mesh_gives_the_same(form):
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 64, 6)).astype(np.float32)
  batch = a, (2 * a[:, :4] + b[:, :4]), rng.random(64) < 0.8
  function = jax.jit(jax.value_and_grad(forms(6, 4)[form], (0, 1)))
  one, four = (
    function(*sharding.put_batch(batch, mesh_of(shape)))
    for shape in ((1, 1, 1), (2, 2, 1))
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    four,
    one,
  )


def test_cross_correlation_of_equal_and_independent_features():
  rng = np.random.default_rng(0)
  orthogonal = np.linalg.qr(rng.normal(size=(64, 17)))[0]
  # Orthogonal to the constant and to each other: exactly uncorrelated.
  centred = np.linalg.qr(np.c_[np.ones(64), orthogonal])[0][:, 1:]
  a, b = centred[:, :8].astype(np.float32), centred[:, 8:16].astype(np.float32)
  scale = np.float32(100.0)
  assert dependence.cross_correlation(scale * a, scale * b) < 1e-6
  np.testing.assert_allclose(
    dependence.cross_correlation(scale * a, scale * a), 1.0, rtol=1e-3
  )
  x, y = rng.normal(size=(2, 4096, 8)).astype(np.float32)
  by_hand = np.corrcoef(x, y, rowvar=False)[:8, 8:]
  np.testing.assert_allclose(
    dependence.cross_correlation(x, y), (by_hand**2).sum() / 8, rtol=1e-3
  )
  # Independent: width / B by chance; equal up to a rotation: large.
  assert dependence.cross_correlation(x, y) < 3 * 8 / 4096
  rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
  assert dependence.cross_correlation(x, 3 * x @ rotation + 5) > 0.9


def test_hsic_equals_numpy():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(9, 3)).astype(np.float32)
  b = rng.normal(size=(9, 5)).astype(np.float32) + a[:, :1]

  def kernel(z):
    square = [[np.sum((x - y) ** 2) for y in z] for x in z]
    others = [square[i][j] for i in range(9) for j in range(9) if i != j]
    return np.exp(-np.array(square) / 2 / np.sort(others)[len(others) // 2])

  centre = np.eye(9) - 1 / 9
  k, l = kernel(a.astype(np.float64)), kernel(b.astype(np.float64))

  def estimate(k, l):
    return np.trace(k @ centre @ l @ centre) / 9**2

  expected = estimate(k, l) / np.sqrt(estimate(k, k) * estimate(l, l))
  np.testing.assert_allclose(dependence.hsic(a, b), expected, rtol=1e-4)


def test_hsic_of_equal_independent_and_curved_features():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 256, 2)).astype(np.float32)
  rotation = np.array([[0.6, -0.8], [0.8, 0.6]], np.float32)
  np.testing.assert_allclose(dependence.hsic(a, a), 1, rtol=1e-4)
  np.testing.assert_allclose(dependence.hsic(a, 3 * a @ rotation + 5), 1, 1e-4)
  assert dependence.hsic(a, b) < 0.02
  parts = [dependence.hsic(*correlated(256, rho)) for rho in (0.0, 0.5, 0.9)]
  assert (np.diff(parts) > 0.05).all()
  # Uncorrelated, but not independent: only one of the two forms sees it.
  assert dependence.cross_correlation(a, a**2) < 0.1
  assert dependence.hsic(a, a**2) > 0.15


def test_club_equals_double_loop():
  rng = np.random.default_rng(0)
  a = rng.normal(size=(11, 3)).astype(np.float32)
  params = random_critic(rng, 3, 2)
  b = a @ params["slope"] + rng.normal(size=(11, 2)).astype(np.float32)
  x = (a - a.mean(0)) / np.sqrt(a.var(0) + 1e-6)
  y = (b - b.mean(0)) / np.sqrt(b.var(0) + 1e-6)
  mean, variance = (
    x @ params["slope"] + params["shift"],
    np.exp(params["log_variance"]),
  )

  def log_q(j, i):
    square = (y[j] - mean[i]) ** 2 / variance
    return -0.5 * np.sum(square + np.log(2 * np.pi * variance))

  expected = np.mean(
    [log_q(i, i) - log_q(j, i) for i in range(11) for j in range(11)]
  )
  value = dependence.club(a, b, None, linear_critic, params)
  np.testing.assert_allclose(value, expected / 2, rtol=1e-5)
  # A critic that says the opposite bounds nothing: only it has a gradient.
  params["slope"] *= -1
  value, gradient = jax.value_and_grad(dependence.club, (0, 1, 4))(
    a, b, None, linear_critic, params
  )
  assert value == 0 and not np.any(gradient[0]) and not np.any(gradient[1])
  assert np.abs(gradient[2]["slope"]).max() > 0.05


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_club_of_gaussians_with_the_true_critic(rho):
  """rho^2 / (1 - rho^2), which is above the mutual information."""
  a, b = correlated(200_000, rho)
  params = {
    "slope": np.full((1, 1), rho, np.float32),
    "shift": np.zeros(1, np.float32),
    "log_variance": np.log(np.float32([1 - rho**2])),
  }
  value = dependence.club(a, b, None, linear_critic, params)
  expected = rho**2 / (1 - rho**2)
  np.testing.assert_allclose(value, expected, rtol=0.03, atol=0.01)
  assert expected >= -0.5 * np.log(1 - rho**2)


def test_club_trains_its_critic_and_nothing_else_with_it():
  rng = np.random.default_rng(0)
  a, b = (rng.normal(size=(16, 3)).astype(np.float32) for _ in range(2))
  params = random_critic(rng, 3, 3)
  b += a @ params["slope"]
  inputs = a, b, params

  def club(a, b, params):
    return dependence.club(a, b, None, linear_critic, params)

  gradient = jax.grad(club, (0, 1, 2))(*inputs)

  def standardise(z):
    z = z - z.mean(0, keepdims=True)
    return z / jnp.sqrt((z**2).mean(0, keepdims=True) + 1e-6)

  def log_q(x, y, params):
    """Of all pairs (j, i), without the constant, for each feature."""
    mean, log_variance = linear_critic(params, standardise(x))
    square = (standardise(y)[:, None] - mean[None]) ** 2
    square *= jnp.exp(-log_variance)[None]
    return -0.5 * (square + log_variance[None]).mean(-1)

  def paired(*inputs):
    return jnp.diag(log_q(*inputs)).mean()

  def bound(*inputs):
    return paired(*inputs) - log_q(*inputs).mean()

  bounded = jax.grad(bound, (0, 1))(*inputs)
  for got, expected in zip(gradient, bounded, strict=False):
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-6)
  jax.tree.map(
    lambda got, x: np.testing.assert_allclose(got, -x, rtol=1e-3, atol=1e-6),
    gradient[2],
    jax.grad(paired, 2)(*inputs),
  )


def test_club_finds_and_removes_dependence_in_one_descent():
  """Its critic learns while the encoder unlearns, by one optimizer."""
  rng = np.random.default_rng(0)
  cause, other = rng.normal(size=(2, 512, 1)).astype(np.float32)
  sources = np.concatenate([cause, other], axis=1)
  critic = random_critic(rng, 1, 1)

  def descend(encoder_trains):
    """Values on the way, and how the encoder mixes the sources at the end."""

    def loss(parameters):
      mixture = parameters["encoder"]
      if not encoder_trains:
        mixture = jax.lax.stop_gradient(mixture)
      return dependence.club(
        cause, sources @ mixture, None, linear_critic, parameters["critic"]
      )

    optimizer = optax.adam(0.02)
    start = {"critic": critic, "encoder": np.float32([[0.8], [0.6]])}

    def step(carry, _):
      parameters, state = carry
      value, gradient = jax.value_and_grad(loss)(parameters)
      updates, state = optimizer.update(gradient, state)
      return (optax.apply_updates(parameters, updates), state), value

    with jax.numpy_dtype_promotion("standard"):  # optax mixes types
      (parameters, _), values = jax.jit(
        lambda: jax.lax.scan(step, (start, optimizer.init(start)), length=600)
      )()
    return values, np.abs(parameters["encoder"]).ravel()

  values, _ = descend(encoder_trains=False)
  rho = np.corrcoef(cause[:, 0], sources @ [0.8, 0.6])[0, 1]
  np.testing.assert_allclose(values[-1], rho**2 / (1 - rho**2), rtol=0.01)
  values, mixture = descend(encoder_trains=True)
  assert np.abs(values[-20:]).max() < 0.05
  assert mixture[0] < 0.15 * mixture[1]
