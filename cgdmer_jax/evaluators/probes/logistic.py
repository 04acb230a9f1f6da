"""L2-regularised logistic regression of many labels and strengths at once.

The objective of each (label, strength) is scikit-learn's,

  1/2 ||w||^2 + C * sum_i log(1 + exp(-s_i (x_i w + b))),  s_i in {-1, +1},

with an unpenalised intercept b. All labels share the features, so one step of
Newton-CG for all of them is two matrix products. One jitted program solves all
labels, strengths and subsets. Three things make it fast and safe in float32:

- The features are rotated to their principal axes. The penalty does not notice,
  the Hessian becomes nearly diagonal (a diagonal preconditioner then does most
  of the work), and with fewer records than features the problem shrinks to as
  many dimensions as there are records.
- Strengths are solved from strong to weak regularisation, each starting from
  the last, so separable problems grow their weights gradually.
- Shapes are padded to few sizes, with records that weigh nothing, so that a
  program is compiled for a handful of shapes and not for each subset.

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


@dataclasses.dataclass(frozen=True)
class Fit:
  """Solutions for S strengths and L labels, in the space of the features given.

  Of several subsets (B), each array but `strengths` has B in front.

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

  def __getitem__(self, subset: int) -> Fit:
    """The solutions of one subset."""
    arrays = {k: v[subset] for k, v in vars(self).items() if k != "strengths"}
    return Fit(strengths=self.strengths, **arrays)


def fit(
  features: np.ndarray,
  labels: np.ndarray,
  strengths: Sequence[float] | np.ndarray,
) -> Fit:
  """Fits every label at every strength, on every subset.

  Args:
    features: (N, D) or (B, N, D), centred and scaled (see
      `linear.standardise`): the float32 arithmetic counts on it.
    labels: (N, L) or (B, N, L), 0 or 1.
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
  if features.ndim == 2:
    return fit(features[None], labels[None], strengths)[0]
  n, num_labels = labels.shape[1:]
  positives = labels.sum(axis=1)
  degenerate = (positives == 0) | (positives == n)
  # With one class only, b has no finite optimum: half a record of each class.
  rate = (positives + 0.5 * degenerate) / (n + degenerate)
  axes = np.stack([principal_axes(x) for x in features])
  rank = axes.shape[-1]
  padded = _padded(features @ axes, labels, ~degenerate, rate)
  order = np.argsort(strengths, kind="stable")
  w, gradient, decrement, converged = jax.device_get(
    _solve(*padded, strengths[order], _MAX_NEWTON)
  )
  back = np.argsort(order)
  w, gradient, decrement, converged = (
    x[:, back][..., :num_labels] for x in (w, gradient, decrement, converged)
  )
  return Fit(
    strengths=strengths,
    coefficients=np.einsum(
      "bdr,bsrl->bsdl", axes, w[:, :, :rank], optimize=True
    ),
    intercepts=w[:, :, -1],
    gradient_norm=gradient,
    decrement=decrement,
    converged=converged,
    degenerate=degenerate,
  )


def _padded(
  z: np.ndarray, labels: np.ndarray, wanted: np.ndarray, rate: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """What `_solve` takes, padded to few shapes.

  Args:
    z: (B, N, r) rotated features; the intercept's, which is 1, is appended.
    labels: (B, N, L).
    wanted: (B, L) labels to be fitted.
    rate: (B, L) share of positives.
  """
  subsets, n, rank = z.shape
  num_labels = labels.shape[-1]
  rows, columns, width = _bucket(n), _bucket(num_labels), _bucket(rank)
  x = np.zeros((subsets, rows, width + 1), np.float32)
  x[:, :n, :rank] = z
  x[:, :n, -1] = 1
  y = np.zeros((subsets, rows, columns), np.float32)
  y[:, :n, :num_labels] = labels
  is_wanted = np.zeros((subsets, columns), bool)
  is_wanted[:, :num_labels] = wanted
  prior = np.zeros((subsets, columns), np.float32)
  prior[:, :num_labels] = np.log(rate / (1 - rate))
  return x, y, is_wanted, prior


def principal_axes(features: np.ndarray) -> np.ndarray:
  """Orthonormal basis (D, min(N, D)) of the row space of features (N, D)."""
  x = features.astype(np.float64)
  if len(x) >= x.shape[1]:
    axes = np.linalg.eigh(x.T @ x)[1]
  else:
    axes = np.linalg.svd(x, full_matrices=False)[2].T
  return axes.astype(np.float32)


def _bucket(n: int) -> int:
  """`n` rounded up to one of four sizes in each octave, at least 8."""
  step = max(8, 1 << max(n.bit_length() - 3, 0))
  return -(-n // step) * step


# Weights, norm of the gradient, decrement, converged.
_Solution = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.jit, static_argnames="max_newton")
def _solve(
  z: jax.Array,
  labels: jax.Array,
  wanted: jax.Array,
  prior: jax.Array,
  strengths: jax.Array,
  max_newton: int,
) -> _Solution:
  """Solves (B, N, r + 1) features and (B, N, L) labels at rising strengths.

  Returns:
    Of each subset and strength: weights (r + 1, L), and (L,) each: norm of the
    gradient, decrement, converged. Labels that are not `wanted` (B, L) stay at
    their `prior` (B, L), converged.
  """

  def solve(
    z: jax.Array, labels: jax.Array, wanted: jax.Array, prior: jax.Array
  ) -> _Solution:
    solver = _Solver(z, labels, wanted, max_newton)
    start = jnp.zeros((z.shape[1], labels.shape[1])).at[-1].set(prior)

    def at_strength(w: jax.Array, c: jax.Array) -> tuple[jax.Array, _Solution]:
      solution = solver.newton(c, w)
      return solution[0], solution

    return jax.lax.scan(at_strength, start, strengths)[1]

  with jax.default_matmul_precision("highest"):
    if jax.default_backend() == "cpu":  # batched products are slow there
      return jax.lax.map(lambda x: solve(*x), (z, labels, wanted, prior))
    return jax.vmap(solve)(z, labels, wanted, prior)


class _Solver:
  """Newton-CG for all labels of one subset, at one strength after the other.

  In what follows Z is (N, r + 1), weights are (r + 1, L), one column a label,
  and what a label has one of is (1, L). A column that is done takes no more
  steps. Padded records are rows of zeros, and so have no part in any product
  with Z.
  """

  def __init__(
    self,
    z: jax.Array,
    labels: jax.Array,
    wanted: jax.Array,
    max_newton: int,
  ):
    self._z, self._labels, self._wanted = z, labels, wanted[None]
    self._max_newton = max_newton
    self._penalty = jnp.ones((z.shape[1], 1)).at[-1].set(0.0)

  def newton(self, c: jax.Array, start: jax.Array) -> _Solution:
    """Damped Newton-CG at strength `c`; see `_solve` for what it returns."""

    def step(state: tuple) -> tuple:
      i, w, decrement, todo = state
      gradient, logit, p = self._gradient(c, w)
      # Vanishing curvature far from the data would make the intercept's step
      # unbounded.
      curvature = c * jnp.maximum(p * (1 - p), 1e-10)
      d = self._conjugate_gradient(curvature, gradient, todo)
      slope = (gradient * d).sum(0, keepdims=True)
      length = self._line_search(logit, c, w, d, slope, todo)
      w = w + length * d
      decrement = jnp.where(todo, jnp.sqrt(jnp.maximum(-slope, 0)), decrement)
      size = 1 + jnp.sqrt((self._penalty * w * w).sum(0, keepdims=True))
      return i + 1, w, decrement, todo & (decrement > _TOLERANCE * size)

    def goes_on(state: tuple) -> jax.Array:
      return (state[0] < self._max_newton) & state[-1].any()

    nothing = jnp.zeros_like(start[-1:])
    state = (0, start, nothing, self._wanted)
    _, w, decrement, todo = jax.lax.while_loop(goes_on, step, state)
    gradient = self._gradient(c, w)[0]
    norm = jnp.where(
      self._wanted, jnp.sqrt((gradient**2).sum(0, keepdims=True)), 0
    )
    return w, norm[0], decrement[0], ~todo[0]

  def _gradient(
    self, c: jax.Array, w: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradient of the objective, the logits and the probabilities."""
    logit = self._z @ w
    p = jax.nn.sigmoid(logit)
    gradient = c * (self._z.T @ (p - self._labels)) + self._penalty * w
    return gradient, logit, p

  def _conjugate_gradient(
    self, curvature: jax.Array, gradient: jax.Array, todo: jax.Array
  ) -> jax.Array:
    """Approximate Newton step: solves H d = -gradient for every label together.

    `curvature` is (N, L), C p (1 - p).
    """
    diagonal = (self._z * self._z).T @ curvature + self._penalty
    residual = -gradient
    direction = residual / diagonal
    rz = (residual * direction).sum(0, keepdims=True)
    # Superlinear: the closer to the optimum, the more exact the step.
    target = rz * jnp.clip(rz, 1e-4, 1e-2)

    def active(rz: jax.Array) -> jax.Array:
      return todo & (rz > target)

    def step(state: tuple) -> tuple:
      i, solution, residual, direction, rz = state
      image = self._z.T @ (curvature * (self._z @ direction))
      image += self._penalty * direction
      alpha = rz / jnp.maximum((direction * image).sum(0, keepdims=True), 1e-30)
      alpha = jnp.where(active(rz), alpha, 0)
      solution += alpha * direction
      residual -= alpha * image
      preconditioned = residual / diagonal
      new = (residual * preconditioned).sum(0, keepdims=True)
      direction = preconditioned + new / jnp.maximum(rz, 1e-30) * direction
      return i + 1, solution, residual, direction, new

    def goes_on(state: tuple) -> jax.Array:
      return (state[0] < _MAX_CG) & active(state[-1]).any()

    state = (0, jnp.zeros_like(gradient), residual, direction, rz)
    return jax.lax.while_loop(goes_on, step, state)[1]

  def _line_search(
    self,
    logit: jax.Array,
    c: jax.Array,
    w: jax.Array,
    d: jax.Array,
    slope: jax.Array,
    todo: jax.Array,
  ) -> jax.Array:
    """Largest step among 1, 1/2, 1/4, ... that does not overshoot, (1, L).

    The objective is convex, so it falls along the step for as long as its slope
    is negative; a tenth of the initial slope beyond the minimum is allowed.
    Each trial costs N exponentials a label and no product.
    """
    change = self._z @ d
    cross = (self._penalty * w * d).sum(0, keepdims=True)
    square = (self._penalty * d * d).sum(0, keepdims=True)

    def overshoots(length: jax.Array) -> jax.Array:
      p = jax.nn.sigmoid(logit + length * change)
      # Padded records do not change along the step.
      now = (
        c * ((p - self._labels) * change).sum(0, keepdims=True)
        + cross
        + length * square
      )
      return todo & (now > -0.1 * slope)

    def halve(state: tuple) -> tuple:
      i, length, bad = state
      length = jnp.where(bad, length / 2, length)
      return i + 1, length, overshoots(length)

    def goes_on(state: tuple) -> jax.Array:
      return (state[0] < _MAX_HALVINGS) & state[-1].any()

    length = jnp.where(todo, 1.0, 0.0)
    state = (0, length, overshoots(length))
    return jax.lax.while_loop(goes_on, halve, state)[1]


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
