"""L2-regularised logistic regression of many labels and strengths at once.

The objective of each (label, strength) is scikit-learn's,

  1/2 ||w||^2 + C * sum_i log(1 + exp(-s_i (x_i w + b))),  s_i in {-1, +1},

with an unpenalised intercept b. All problems share the features, so one
Newton-CG iteration for all of them is two matrix products. Two things make it
fast and safe in float32:

- The features are rotated to their principal axes. The penalty does not notice,
  the Hessian becomes nearly diagonal (a diagonal preconditioner then does most
  of the work), and with fewer records than features the problem shrinks to as
  many dimensions as there are records.
- Strengths are solved from strong to weak regularisation, each starting from
  the last, so separable problems grow their weights gradually.

The line search looks at the slope along the step and not at the objective,
whose differences drown in float32 rounding near the optimum.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_MAX_NEWTON = 40
_MAX_CG = 60
_MAX_HALVINGS = 12
# Newton decrement (bounds the distance to the optimum, as the penalty makes the
# Hessian at least 1) relative to 1 + ||w||.
_TOLERANCE = 2e-4

# TPUs and GPUs would otherwise multiply with fewer bits.
_dot = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class Fit:
  """Solutions for S strengths and L labels, in the space of the features given.

  Attributes:
    strengths: (S,) C of each solution, in the order asked for.
    coefficients: (S, D, L) float32.
    intercepts: (S, L) float32.
    gradient_norm: (S, L) Euclidean norm of the objective's gradient.
    decrement: (S, L) Newton decrement at the last step, about the distance to
      the optimum before that step.
    converged: (S, L) whether the tolerance was met.
    degenerate: (L,) labels without a positive or without a negative: their
      coefficients are 0 and the score is constant.
  """

  strengths: np.ndarray
  coefficients: np.ndarray
  intercepts: np.ndarray
  gradient_norm: np.ndarray
  decrement: np.ndarray
  converged: np.ndarray
  degenerate: np.ndarray


def fit(
  features: np.ndarray, labels: np.ndarray, strengths: Sequence[float]
) -> Fit:
  """Fits every label at every strength.

  Args:
    features: (N, D), centred and scaled (see `linear_probe.standardise`): the
      float32 arithmetic counts on it.
    labels: (N, L) 0 or 1.
    strengths: S values of C > 0; the larger, the weaker the regularisation.

  Returns:
    The solutions; look at `converged`.

  Raises:
    ValueError: a feature is not finite, or a strength not positive.
  """
  features = np.asarray(features, np.float32)
  strengths = np.asarray(strengths, np.float32)
  if not np.isfinite(features).all():
    raise ValueError("features must be finite")
  if not (strengths > 0).all():
    raise ValueError(f"strengths must be positive, got {strengths.tolist()}")
  labels = np.asarray(labels, np.float32)
  n = len(labels)
  positives = labels.sum(axis=0)
  degenerate = (positives == 0) | (positives == n)
  # With one class only, b has no finite optimum: half a record of each class.
  rate = (positives + 0.5 * degenerate) / (n + degenerate)
  prior = np.log(rate / (1 - rate)).astype(np.float32)
  axes = principal_axes(features)
  ascending = np.argsort(strengths, kind="stable")
  solution = _solve_path(
    (features @ axes).astype(np.float32),
    labels,
    prior,
    degenerate,
    strengths[ascending],
  )
  back = np.argsort(ascending)
  w, b, gradient, decrement, converged = (np.asarray(v)[back] for v in solution)
  return Fit(
    strengths=strengths,
    coefficients=np.einsum("dr,srl->sdl", axes, w, optimize=True),
    intercepts=b,
    gradient_norm=gradient,
    decrement=decrement,
    converged=converged,
    degenerate=degenerate,
  )


def principal_axes(features: np.ndarray) -> np.ndarray:
  """Orthonormal basis (D, min(N, D)) of the row space of features (N, D)."""
  x = features.astype(np.float64)
  if len(x) >= x.shape[1]:
    axes = np.linalg.eigh(x.T @ x)[1]
  else:
    axes = np.linalg.svd(x, full_matrices=False)[2].T
  return axes.astype(np.float32)


@jax.jit
def _solve_path(z, y, prior, degenerate, strengths):
  """Solves for ascending strengths, each from the last's solution.

  Args:
    z: (N, r) rotated features.
    y: (N, L).
    prior: (L,) starting intercepts.
    degenerate: (L,) bool, left at the start.
    strengths: (S,).

  Returns:
    w (S, r, L), b (S, L), and (S, L) each: gradient norm, decrement, converged.
  """
  squared = z * z
  start = (jnp.zeros((z.shape[1], y.shape[1])), prior)

  def step(carry, c):
    w, b, gradient, decrement, converged = _newton(
      z, squared, y, degenerate, c, *carry
    )
    return (w, b), (w, b, gradient, decrement, converged)

  return jax.lax.scan(step, start, strengths)[1]


def _newton(z, squared, y, degenerate, c, w, b):
  """Damped Newton-CG for all labels at one strength c."""

  def gradient(w, b):
    p = jax.nn.sigmoid(_dot(z, w) + b[None])
    residual = p - y
    return c * _dot(z.T, residual) + w, c * residual.sum(0), p

  def body(state):
    w, b, _, _, done, i = state
    gw, gb, p = gradient(w, b)
    # Vanishing curvature far from the data would make the intercept's step
    # unbounded.
    curvature = c * jnp.maximum(p * (1 - p), 1e-10)
    dw, db = _conjugate_gradient(z, squared, curvature, gw, gb, done)
    slope = (gw * dw).sum(0) + gb * db
    step = _line_search(z, y, c, w, b, dw, db, slope)
    step = jnp.where(done, 0.0, step)
    w, b = w + step[None] * dw, b + step * db
    decrement = jnp.sqrt(jnp.maximum(-slope, 0.0))
    size = 1 + jnp.sqrt((w * w).sum(0))
    now = (decrement <= _TOLERANCE * size) & (step > 0)
    old = state[2]
    decrement = jnp.where(done, old, decrement)
    return w, b, decrement, now | done, now | done, i + 1

  zeros = jnp.zeros(b.shape)
  state = (w, b, zeros, degenerate, degenerate, 0)
  w, b, decrement, converged, _, _ = jax.lax.while_loop(
    lambda s: ~s[4].all() & (s[5] < _MAX_NEWTON), body, state
  )
  gw, gb, _ = gradient(w, b)
  norm = jnp.sqrt((gw * gw).sum(0) + gb * gb)
  return w, b, jnp.where(degenerate, 0.0, norm), decrement, converged


def _conjugate_gradient(z, squared, curvature, gw, gb, done):
  """Approximate Newton step: solves H d = -g for every label together.

  Args:
    z: (N, r).
    squared: (N, r) z * z.
    curvature: (N, L) C p (1 - p).
    gw: (r, L) gradient.
    gb: (L,) its intercept part.
    done: (L,) labels that need no step.

  Returns:
    dw (r, L), db (L,).
  """
  diagonal_w = _dot(squared.T, curvature) + 1.0
  diagonal_b = curvature.sum(0)

  def inner(a, b):
    return (a[0] * b[0]).sum(0) + a[1] * b[1]

  def hessian(d):
    t = curvature * (_dot(z, d[0]) + d[1][None])
    return _dot(z.T, t) + d[0], t.sum(0)

  def precondition(r):
    return r[0] / diagonal_w, r[1] / diagonal_b

  def add(a, scale, b):
    return a[0] + scale[None] * b[0], a[1] + scale * b[1]

  residual = (-gw, -gb)
  direction = precondition(residual)
  rz = inner(residual, direction)
  # Superlinear convergence: the closer to the optimum, the more exact the step.
  target = rz * jnp.clip(rz, 1e-4, 1e-2)
  active = ~done & (rz > 0)
  start = (jnp.zeros_like(gw), jnp.zeros_like(gb))

  def body(state):
    d, r, direction, rz, active, i = state
    hd = hessian(direction)
    alpha = jnp.where(active, rz / _positive(inner(direction, hd)), 0.0)
    d, r = add(d, alpha, direction), add(r, -alpha, hd)
    s = precondition(r)
    new = inner(r, s)
    direction = add(s, new / _positive(rz), direction)
    return d, r, direction, new, active & (new > target), i + 1

  state = (start, residual, direction, rz, active, 0)
  return jax.lax.while_loop(
    lambda s: s[4].any() & (s[5] < _MAX_CG), body, state
  )[0]


def _line_search(z, y, c, w, b, dw, db, slope):
  """Largest step among 1, 1/2, 1/4, ... that does not overshoot, (L,).

  The objective is convex, so it falls along the step for as long as its slope
  is negative; a tenth of the initial slope beyond the minimum is allowed. The
  products are taken once, each trial costs N * L exponentials.
  """
  logit = _dot(z, w) + b[None]
  change = _dot(z, dw) + db[None]
  cross, square = (w * dw).sum(0), (dw * dw).sum(0)

  def slope_at(t):
    p = jax.nn.sigmoid(logit + t[None] * change)
    return c * ((p - y) * change).sum(0) + cross + t * square

  def body(state):
    t, _, i = state
    bad = slope_at(t) > -0.1 * slope
    return jnp.where(bad, 0.5 * t, t), bad.any(), i + 1

  step = jnp.ones_like(slope)
  return jax.lax.while_loop(
    lambda s: s[1] & (s[2] < _MAX_HALVINGS), body, (step, True, 0)
  )[0]


def _positive(x):
  return jnp.maximum(x, 1e-30)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Mean negative log-likelihood per label.

  Args:
    logits: (..., N, L).
    labels: (N, L) 0 or 1.

  Returns:
    (..., L) float64, in nats.
  """
  logits = logits.astype(np.float64)
  return (np.logaddexp(0.0, logits) - labels * logits).mean(axis=-2)
