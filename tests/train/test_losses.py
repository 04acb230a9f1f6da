"""Loss terms against slow numpy versions and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cgdmer_jax.train import losses, positives

pytestmark = pytest.mark.usefixtures("strict_promotion")


@pytest.fixture
def pair():
  rng = np.random.default_rng(0)
  z_ecg, z_report = rng.normal(size=(2, 10, 6)).astype(np.float32)
  report = np.array([0, 1, 2, 1, 3, 4, 4, 4, 5, 6], np.int32)
  return z_ecg, z_report, report


def texts_of(report, has_text=None):
  """Reports that are told apart by their numbers alone."""
  report = jnp.asarray(report, jnp.int32)
  if has_text is None:
    has_text = np.ones(len(report), bool)
  tokens = jnp.arange(len(report) * 4, dtype=jnp.int32).reshape(-1, 4)
  words = positives.fingerprint(tokens)
  return positives.Texts(report, words, jnp.asarray(has_text))


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
  texts = texts_of(report)
  value = losses.sigmoid_alignment(
    z_ecg, z_report, texts, jnp.log(7.0), jnp.float32(-3.0)
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
  texts = texts_of(report)
  value = losses.infonce_alignment(z_ecg, z_report, texts, jnp.log(9.0))
  np.testing.assert_allclose(value, total / 2, rtol=1e-5)


# Records 0 and 3 say the same, 0 and 1 have one of three statements in common.
SETS = {1, 2}, {2, 3}, {4}, {2, 1}
SHARE = [[len(a & b) / len(a | b) for b in SETS] for a in SETS]


@pytest.fixture
def partly():
  """Embeddings, and reports that are alike as `SHARE` says."""
  rng = np.random.default_rng(0)
  z_ecg, z_report = rng.normal(size=(2, 4, 6)).astype(np.float32)
  marks = [[(n, n), *[(0, 0)] * (n == 4), *[(m, m) for m in a - {n}]]
           for a in SETS for n in [max(a)]]  # fmt: skip
  texts = texts_of(np.arange(4))
  return z_ecg, z_report, texts.replace(statements=jnp.asarray(marks, "uint32"))


def test_sigmoid_with_partial_positives(partly):
  z_ecg, z_report, _ = partly
  total = 0.0
  for i in range(4):
    for j in range(4):
      p = 1 / (1 + np.exp(3.0 - 7.0 * unit(z_ecg)[i] @ unit(z_report)[j]))
      total -= SHARE[i][j] * np.log(p) + (1 - SHARE[i][j]) * np.log(1 - p)
  value = losses.sigmoid_alignment(*partly, jnp.log(7.0), jnp.float32(-3.0))
  np.testing.assert_allclose(value, total / 4, rtol=1e-5)


def test_infonce_with_partial_positives(partly):
  total = 0.0
  for a, b in (partly[:2], partly[1::-1]):
    for i in range(4):
      logit = [9.0 * unit(a)[i] @ unit(b)[j] for j in range(4)]
      log_p = logit - np.log(np.sum(np.exp(logit)))
      total -= np.average(log_p, weights=SHARE[i]) / 4
  value = losses.infonce_alignment(*partly, jnp.log(9.0))
  np.testing.assert_allclose(value, total / 2, rtol=1e-5)


def test_infonce_temperature_is_clamped(pair):
  z_ecg, z_report, report = pair
  texts = texts_of(report)
  args = (z_ecg, z_report, texts)
  at_limit = losses.infonce_alignment(*args, jnp.log(100.0))
  beyond = losses.infonce_alignment(*args, jnp.log(1000.0))
  np.testing.assert_allclose(beyond, at_limit, rtol=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "infonce"])
def test_duplicate_reports_are_positives(name):
  # Records 0 and 1 share a report: the optimum has both copies aligned, which a
  # loss with the diagonal alone as positives would punish.
  z = jnp.asarray(np.eye(3, 4, dtype=np.float32)[[0, 0, 1, 2]])
  shared = texts_of([7, 7, 8, 9])
  diagonal = texts_of([7, 6, 8, 9])

  def loss(z, texts):
    if name == "infonce":
      return losses.infonce_alignment(z, z, texts, jnp.log(20.0))
    scale, bias = jnp.log(20.0), jnp.float32(-10.0)
    return losses.sigmoid_alignment(z, z, texts, scale, bias)

  # Telling the two copies apart, in both modalities, is what the diagonal
  # wants and what shared positives forbid.
  apart = z.at[1, 3].set(0.7)
  assert loss(apart, diagonal) < loss(z, diagonal)
  assert loss(apart, shared) > loss(z, shared)


@pytest.mark.parametrize("name", ["sigmoid", "infonce"])
def test_optimum_of_a_batch_with_every_report_twice(name):
  """Found by descent: copies match with shared positives, and only then."""
  report = jnp.asarray([0, 1, 2, 3, 0, 1, 2, 3])
  rng = np.random.default_rng(0)
  start = jnp.asarray(rng.normal(size=(2, 8, 16)), jnp.float32)

  def loss(parameters, texts):
    z, bias = parameters
    if name == "infonce":
      return losses.infonce_alignment(*z, texts, jnp.log(20.0))
    return losses.sigmoid_alignment(*z, texts, jnp.log(20.0), bias)

  def trained(texts):
    """Cosines of all ECGs and reports at the end."""
    optimizer = optax.adam(0.03)
    parameters = start, jnp.float32(-10.0)

    def step(carry, _):
      parameters, state = carry
      gradient = jax.grad(loss)(parameters, texts)
      updates, state = optimizer.update(gradient, state)
      return (optax.apply_updates(parameters, updates), state), None

    run = jax.jit(lambda x: jax.lax.scan(step, x, length=1500)[0][0][0])
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types
      ecg, texts = run((parameters, optimizer.init(parameters)))
    return unit(ecg) @ unit(texts).T

  copy = np.roll(np.eye(8, dtype=bool), 4, axis=1)
  others = ~copy & ~np.eye(8, dtype=bool)
  shared, plain = trained(texts_of(report)), trained(texts_of(np.arange(8)))
  for cosine in (shared, plain):
    assert np.diag(cosine).min() > cosine[others].max() + 0.3
  np.testing.assert_allclose(shared[copy], np.diag(shared), atol=0.05)
  assert plain[copy].max() < np.diag(plain).min() - 0.3


@pytest.mark.parametrize("name", ["sigmoid", "infonce"])
def test_records_without_text_are_left_out_of_alignment(name, pair):
  z_ecg, z_report, report = pair
  has_text = np.arange(10) % 3 > 0

  def loss(z_ecg, z_report, texts):
    args = z_ecg, z_report, texts, jnp.log(7.0)
    if name == "infonce":
      return losses.infonce_alignment(*args)
    return losses.sigmoid_alignment(*args, jnp.float32(-3.0))

  value, gradient = jax.value_and_grad(loss)(
    z_ecg, z_report, texts_of(report, has_text)
  )
  without = loss(
    z_ecg[has_text], z_report[has_text], texts_of(report[has_text])
  )
  np.testing.assert_allclose(value, without, rtol=1e-6)
  assert not np.asarray(gradient)[~has_text].any()
  assert np.asarray(gradient)[has_text].all()
  nobody = jax.value_and_grad(loss)(
    z_ecg, z_report, texts_of(report, has_text & False)
  )
  assert nobody[0] == 0 and not np.asarray(nobody[1]).any()


def test_reconstruction_counts_hidden_patches_only():
  rng = np.random.default_rng(0)
  predicted, target = rng.normal(size=(2, 3, 2, 4, 5)).astype(np.float32)
  hidden = rng.random((3, 2, 4)) < 0.5
  expected = ((predicted - target)[hidden] ** 2).mean()

  def loss(*arguments):
    return losses.mean(*losses.hidden_error(*arguments))

  value = loss(predicted, target, hidden)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  gradient = jax.grad(loss)(predicted, target, hidden)
  assert not np.asarray(gradient)[~hidden].any()
  assert loss(predicted, target, hidden & False) == 0


def test_masked_language_model_equals_numpy():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(3, 4, 11)).astype(np.float32)
  target = rng.integers(0, 11, (3, 4))
  weight = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], np.float32)
  p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  nll = -np.log(np.take_along_axis(p, target[..., None], -1))[..., 0]
  np.testing.assert_allclose(
    losses.mean(*losses.word_error(logits, target, weight)),
    (nll * weight).sum() / 7,
    rtol=1e-5,
  )


def test_normalise_has_a_finite_gradient_at_zero():
  gradient = jax.grad(lambda z: losses.normalise(z).sum())(jnp.zeros((2, 3)))
  assert np.isfinite(np.asarray(gradient)).all()
