"""Loss terms against slow numpy versions and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax import losses


@pytest.fixture
def pair():
  rng = np.random.default_rng(0)
  z_ecg, z_report = rng.normal(size=(2, 10, 6)).astype(np.float32)
  report = np.array([0, 1, 2, 1, 3, 4, 4, 4, 5, 6], np.int32)
  return z_ecg, z_report, report


def tokens_of(report):
  """Tokens of reports that differ, if they do, in one token only."""
  return jnp.asarray([[2, 9, number, 3] for number in report], jnp.int32)


def unit(z):
  return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_sigmoid_equals_double_loop(pair):
  z_ecg, z_report, report = pair
  total = 0.0
  for i in range(10):
    for j in range(10):
      y = 1.0 if report[i] == report[j] else -1.0
      logit = 7.0 * unit(z_ecg)[i] @ unit(z_report)[j] - 3.0
      total += np.log1p(np.exp(-y * logit))
  positive = losses.positive_pairs(tokens_of(report))
  value = losses.sigmoid_alignment(
    z_ecg, z_report, positive, jnp.log(7.0), jnp.float32(-3.0)
  )
  np.testing.assert_allclose(value, total / 10, rtol=1e-5)


def test_infonce_equals_double_loop(pair):
  z_ecg, z_report, report = pair
  total = 0.0
  for a, b in ((z_ecg, z_report), (z_report, z_ecg)):
    for i in range(10):
      logit = [9.0 * unit(a)[i] @ unit(b)[j] for j in range(10)]
      log_z = np.log(np.sum(np.exp(logit)))
      same = [j for j in range(10) if report[i] == report[j]]
      total -= np.mean([logit[j] - log_z for j in same]) / 10
  positive = losses.positive_pairs(tokens_of(report))
  value = losses.infonce_alignment(z_ecg, z_report, positive, jnp.log(9.0))
  np.testing.assert_allclose(value, total / 2, rtol=1e-5)


def test_infonce_temperature_is_clamped(pair):
  z_ecg, z_report, report = pair
  positive = losses.positive_pairs(tokens_of(report))
  args = (z_ecg, z_report, positive)
  at_limit = losses.infonce_alignment(*args, jnp.log(100.0))
  beyond = losses.infonce_alignment(*args, jnp.log(1000.0))
  np.testing.assert_allclose(beyond, at_limit, rtol=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "infonce"])
def test_duplicate_reports_are_positives(name):
  # Records 0 and 1 share a report: the optimum has both copies aligned, which a
  # loss with the diagonal alone as positives would punish.
  z = jnp.asarray(np.eye(3, 4, dtype=np.float32)[[0, 0, 1, 2]])
  shared = losses.positive_pairs(tokens_of([7, 7, 8, 9]))
  diagonal = jnp.eye(4, dtype=bool)

  def loss(z, positive):
    if name == "infonce":
      return losses.infonce_alignment(z, z, positive, jnp.log(20.0))
    scale, bias = jnp.log(20.0), jnp.float32(-10.0)
    return losses.sigmoid_alignment(z, z, positive, scale, bias)

  # Telling the two copies apart, in both modalities, is what the diagonal
  # wants and what shared positives forbid.
  apart = z.at[1, 3].set(0.7)
  assert loss(apart, diagonal) < loss(z, diagonal)
  assert loss(apart, shared) > loss(z, shared)


def test_cross_correlation_of_equal_and_independent_features():
  rng = np.random.default_rng(0)
  orthogonal = np.linalg.qr(rng.normal(size=(64, 17)))[0]
  # Orthogonal to the constant and to each other: exactly uncorrelated.
  centred = np.linalg.qr(np.c_[np.ones(64), orthogonal])[0][:, 1:]
  a, b = centred[:, :8].astype(np.float32), centred[:, 8:16].astype(np.float32)
  scale = np.float32(100.0)
  assert losses.cross_correlation(scale * a, scale * b) < 1e-6
  np.testing.assert_allclose(
    losses.cross_correlation(scale * a, scale * a), 1.0, rtol=1e-3
  )
  x, y = rng.normal(size=(2, 4096, 8)).astype(np.float32)
  by_hand = np.corrcoef(x, y, rowvar=False)[:8, 8:]
  np.testing.assert_allclose(
    losses.cross_correlation(x, y), (by_hand**2).sum() / 8, rtol=1e-3
  )
  # Independent: width / B by chance; equal up to a rotation: large.
  assert losses.cross_correlation(x, y) < 3 * 8 / 4096
  rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0].astype(np.float32)
  assert losses.cross_correlation(x, 3 * x @ rotation + 5) > 0.9


def test_reconstruction_counts_hidden_patches_only():
  rng = np.random.default_rng(0)
  predicted, target = rng.normal(size=(2, 3, 2, 4, 5)).astype(np.float32)
  hidden = rng.random((3, 2, 4)) < 0.5
  expected = ((predicted - target)[hidden] ** 2).mean()
  value = losses.reconstruction(predicted, target, hidden)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  gradient = jax.grad(losses.reconstruction)(predicted, target, hidden)
  assert not np.asarray(gradient)[~hidden].any()
  assert losses.reconstruction(predicted, target, hidden & False) == 0


def test_masked_language_model_equals_numpy():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4, 11)).astype(np.float32)
  target = rng.integers(0, 11, (3, 4))
  weight = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], np.float32)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  nll = -np.log(np.take_along_axis(p, target[..., None], -1))[..., 0]
  np.testing.assert_allclose(
    losses.masked_language_model(logits, target, weight),
    (nll * weight).sum() / 7,
    rtol=1e-5,
  )


def test_normalise_has_a_finite_gradient_at_zero():
  gradient = jax.grad(lambda z: losses.normalise(z).sum())(jnp.zeros((2, 3)))
  assert np.isfinite(np.asarray(gradient)).all()
