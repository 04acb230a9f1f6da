"""The batched solver against scikit-learn's logistic regression."""

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics

from cgdmer_jax.evaluators.probes import logistic

_STRENGTHS = (1e-4, 1e-2, 1.0, 100.0)


def _problem(n, d, num_labels, seed=0, noise=1.0):
  """Correlated standardised features; labels from common to rare."""
  rng = np.random.default_rng(seed)
  latent = rng.normal(size=(n, d)) * np.exp(-np.arange(d) / 10)
  x = latent @ rng.normal(size=(d, d))
  x = (x - x.mean(0)) / x.std(0)
  score = latent @ rng.normal(size=(d, num_labels))
  score = score / score.std(0) + noise * rng.normal(size=score.shape)
  rate = np.geomspace(0.6, 0.02, num_labels)
  cut = [np.quantile(score[:, j], 1 - rate[j]) for j in range(num_labels)]
  return x.astype(np.float32), (score > np.array(cut)).astype(np.uint8)


def _reference(x, y, strength):
  model = sklearn.linear_model.LogisticRegression(
    C=strength, tol=1e-9, max_iter=10_000, solver="newton-cholesky"
  )
  return model.fit(x.astype(np.float64), y)


@pytest.mark.parametrize(
  "n, d, noise",
  [
    (400, 16, 1.0),
    (40, 64, 1.0),  # fewer records than features: separable
    (200, 16, 0.0),  # separable by few features
  ],
)
def test_solutions_equal_scikit_learn(n, d, noise):
  x, y = _problem(n, d, 6, noise=noise)
  fit = logistic.fit(x, y, _STRENGTHS)
  assert fit.converged.all()
  for s, strength in enumerate(_STRENGTHS):
    for j in np.flatnonzero(~fit.degenerate):
      model = _reference(x, y[:, j], strength)
      w, b = fit.coefficients[s, :, j], fit.intercepts[s, j]
      np.testing.assert_allclose(w, model.coef_[0], atol=1e-3)
      np.testing.assert_allclose(b, model.intercept_[0], atol=1e-3)
      # On few records a single pair of near ties is more than 1e-4.
      pair = 1.01 / (y[:, j].sum() * (1.0 - y[:, j]).sum())
      ours, theirs = x @ w + b, model.decision_function(x)
      assert sklearn.metrics.roc_auc_score(y[:, j], ours) == pytest.approx(
        sklearn.metrics.roc_auc_score(y[:, j], theirs), abs=max(1e-4, pair)
      )


def test_strengths_keep_their_order():
  x, y = _problem(100, 8, 2)
  fit = logistic.fit(x, y, (1.0, 1e-3, 10.0))
  size = np.linalg.norm(fit.coefficients, axis=1)[:, 0]
  np.testing.assert_array_equal(np.argsort(size), [1, 0, 2])
  np.testing.assert_allclose(fit.strengths, (1.0, 1e-3, 10.0))


def test_label_of_one_class_gives_a_constant_score():
  x, y = _problem(50, 8, 3)
  y[:, 0], y[:, 2] = 0, 1
  fit = logistic.fit(x, y, _STRENGTHS)
  np.testing.assert_array_equal(fit.degenerate, [True, False, True])
  assert not fit.coefficients[:, :, [0, 2]].any()
  assert np.isfinite(fit.intercepts).all()
  assert (fit.intercepts[:, 0] < 0).all() and (fit.intercepts[:, 2] > 0).all()
  model = _reference(x, y[:, 1], 1.0)
  np.testing.assert_allclose(
    fit.coefficients[2, :, 1], model.coef_[0], atol=1e-3
  )


def test_copied_and_constant_features_are_no_trouble():
  x, y = _problem(100, 8, 2)
  x = np.concatenate([x, x, np.zeros((100, 1), np.float32)], axis=1)
  fit = logistic.fit(x, y, (1.0,))
  assert fit.converged.all()
  np.testing.assert_allclose(
    fit.coefficients[0, :8], fit.coefficients[0, 8:16], atol=1e-4
  )
  np.testing.assert_allclose(fit.coefficients[0, 16], 0, atol=1e-6)


def test_missing_the_tolerance_is_told(monkeypatch):
  monkeypatch.setattr(logistic, "_MAX_NEWTON", 1)
  x, y = _problem(100, 8, 3)
  fit = logistic.fit(x, y, (100.0,))
  assert not fit.converged.any()
  assert (fit.gradient_norm > 1e-2).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_features_are_refused(bad):
  with pytest.raises(ValueError, match="finite"):
    logistic.fit(np.array([[bad], [0.0]]), np.array([[0], [1]]), (1.0,))


def test_log_loss_equals_scikit_learn():
  rng = np.random.default_rng(0)
  logits = 3 * rng.normal(size=(2, 50, 1))
  labels = rng.integers(0, 2, (50, 1))
  losses = logistic.log_loss(logits, labels)
  p = 1 / (1 + np.exp(-logits[1, :, 0]))
  assert losses[1, 0] == pytest.approx(sklearn.metrics.log_loss(labels, p))
  assert np.isfinite(logistic.log_loss(np.full((1, 1), 1e4), np.zeros((1, 1))))
