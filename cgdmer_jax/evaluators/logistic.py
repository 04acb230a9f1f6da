"""L2-regularised logistic regression of many labels and strengths at once.

The objective of each (label, strength) is scikit-learn's,

  1/2 ||w||^2 + C * sum_i log(1 + exp(-s_i (x_i w + b))),  s_i in {-1, +1},

with an unpenalised intercept b. All labels share the features, so one step of
Newton-CG for all of them is two matrix products. It runs in numpy: a probe has
a shape of its own for every label set and subset, and compiling each took
longer than solving it. Three things make it fast and safe in float32:

- The features are rotated to their principal axes. The penalty does not notice,
  the Hessian becomes nearly diagonal (a diagonal preconditioner then does most
  of the work), and with fewer records than features the problem shrinks to as
  many dimensions as there are records.
- Strengths are solved from strong to weak regularisation, each starting from
  the last, so separable problems grow their weights gradually.
- A label that is done leaves the products; the slow ones go on alone.

The line search looks at the slope along the step and not at the objective,
whose differences drown in float32 rounding near the optimum.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.special

_MAX_NEWTON = 40
_MAX_CG = 60
_MAX_HALVINGS = 12
# Newton decrement (bounds the distance to the optimum, as the penalty makes the
# Hessian at least 1) relative to 1 + ||w||.
_TOLERANCE = 2e-4


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
  solver = _Solver(features @ axes, labels, ~degenerate)
  w = np.zeros((axes.shape[1] + 1, labels.shape[1]), np.float32)
  w[-1] = prior
  solutions = [()] * len(strengths)
  for s in np.argsort(strengths, kind="stable"):
    solutions[s] = solver.newton(strengths[s], w)
    w = solutions[s][0]
  w, gradient, decrement, converged = map(
    np.stack, zip(*solutions, strict=True)
  )
  return Fit(
    strengths=strengths,
    coefficients=np.einsum("dr,srl->sdl", axes, w[:, :-1], optimize=True),
    intercepts=w[:, -1],
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


class _Solver:
  """Newton-CG for all labels, at one strength after the other.

  The intercept is the weight of one more feature that is 1 and not penalised.
  In what follows Z is (N, r + 1), weights are (r + 1, L), one column a label.
  """

  def __init__(self, z: np.ndarray, labels: np.ndarray, wanted: np.ndarray):
    """Rotated features (N, r), labels (N, L), and which to solve (L,)."""
    self._z = np.concatenate([z, np.ones_like(z[:, :1])], axis=1)
    self._squared = self._z * self._z
    self._penalty = np.ones((self._z.shape[1], 1), np.float32)
    self._penalty[-1] = 0
    self._labels = labels
    self._wanted = wanted

  def newton(self, c: float, start: np.ndarray) -> tuple[np.ndarray, ...]:
    """Damped Newton-CG at strength `c`.

    Returns:
      Weights, and (L,) each: norm of the gradient, decrement, converged. Labels
      that are not wanted stay where they start, converged.
    """
    w = start.copy()
    decrement = np.zeros_like(w[-1])
    todo = np.flatnonzero(self._wanted)
    for _ in range(_MAX_NEWTON):
      if not len(todo):
        break
      y, wt = self._labels[:, todo], w[:, todo]
      gradient, logit, p = self._gradient(y, c, wt)
      # Vanishing curvature far from the data would make the intercept's step
      # unbounded.
      curvature = c * np.maximum(p * (1 - p), 1e-10)
      d = self._conjugate_gradient(curvature, gradient)
      slope = (gradient * d).sum(0)
      step = self._line_search(logit, y, c, wt, d, slope)
      w[:, todo] = wt = wt + step * d
      decrement[todo] = np.sqrt(np.maximum(-slope, 0))
      size = 1 + np.sqrt((self._penalty * wt * wt).sum(0))
      todo = todo[(decrement[todo] > _TOLERANCE * size) | (step <= 0)]
    gradient = self._gradient(self._labels, c, w)[0]
    norm = np.where(self._wanted, np.sqrt((gradient**2).sum(0)), 0)
    converged = np.ones(w.shape[1], bool)
    converged[todo] = False
    return w, norm, decrement, converged

  def _gradient(self, y, c, w):
    """Gradient of the objective, the logits and the probabilities."""
    logit = self._z @ w
    p = scipy.special.expit(logit)
    return c * (self._z.T @ (p - y)) + self._penalty * w, logit, p

  def _conjugate_gradient(self, curvature, gradient):
    """Approximate Newton step: solves H d = -gradient for every label together.

    `curvature` is (N, L), C p (1 - p).
    """
    diagonal = self._squared.T @ curvature + self._penalty
    solution = np.zeros_like(gradient)
    residual = -gradient
    direction = residual / diagonal
    rz = (residual * direction).sum(0)
    # Superlinear: the closer to the optimum, the more exact the step.
    target = rz * np.clip(rz, 1e-4, 1e-2)
    todo = np.arange(len(rz))
    for _ in range(_MAX_CG):
      active = rz > target
      if not active.all():  # Copying costs less than the products it saves.
        todo, rz, target = todo[active], rz[active], target[active]
        residual, direction = residual[:, active], direction[:, active]
        diagonal, curvature = diagonal[:, active], curvature[:, active]
      if not len(todo):
        break
      image = self._z.T @ (curvature * (self._z @ direction))
      image += self._penalty * direction
      alpha = rz / np.maximum((direction * image).sum(0), 1e-30)
      solution[:, todo] += alpha * direction
      residual = residual - alpha * image
      preconditioned = residual / diagonal
      new = (residual * preconditioned).sum(0)
      direction = preconditioned + new / np.maximum(rz, 1e-30) * direction
      rz = new
    return solution

  def _line_search(self, logit, y, c, w, d, slope):
    """Largest step among 1, 1/2, 1/4, ... that does not overshoot, (L,).

    The objective is convex, so it falls along the step for as long as its slope
    is negative; a tenth of the initial slope beyond the minimum is allowed.
    Each trial costs N exponentials a label and no product.
    """
    change = self._z @ d
    cross = (self._penalty * w * d).sum(0)
    square = (self._penalty * d * d).sum(0)
    step = np.ones_like(slope)
    bad = np.arange(len(slope))
    for _ in range(_MAX_HALVINGS):
      t, x = step[bad], change[:, bad]
      p = scipy.special.expit(logit[:, bad] + t * x)
      fall = np.einsum("nl,nl->l", p - y[:, bad], x)
      now = c * fall + cross[bad] + t * square[bad]
      bad = bad[now > -0.1 * slope[bad]]
      if not len(bad):
        break
      step[bad] /= 2
    return step


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
