"""Small classifiers, trained step by step, the epoch chosen on validation.

Binary cross-entropy of every label, AdamW with cosine decay. After each epoch
the log-loss on validation is measured; the parameters of the best epoch are
kept, and training stops when it has not improved for a few.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.probes import linear, logistic
from cgdmer_jax.evaluators.scores import probe_calibration, scoring
from cgdmer_jax.evaluators.scores.findings import Findings, TestSet

_LEAST_STEPS = 10  # of an epoch, whatever the number of records


@dataclasses.dataclass(frozen=True)
class Trainer:
  """How a classifier is trained.

  Attributes:
    logits: (parameters, arrays of B records) -> (B, L) float32. Compiled.
    init: (key, number of labels) -> parameters, "bias" (L,) among them.
    epochs: at most.
    patience: epochs without a better one.
    batch_size: records of a step, fewer where there are fewer.
    lr: largest learning rate.
    weight_decay: of matrices.
  """

  logits: Callable[..., jax.Array]
  init: Callable[[jax.Array, int], dict]
  epochs: int
  patience: int
  batch_size: int
  lr: float
  weight_decay: float

  @functools.cached_property
  def _optimizer(self) -> optax.GradientTransformation:
    def is_matrix(params: Any) -> Any:
      return jax.tree.map(lambda x: x.ndim > 1, params)

    return optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.scale_by_adam(),
      optax.add_decayed_weights(self.weight_decay, is_matrix),
    )

  @functools.cached_property
  def _step(self) -> Callable:
    """Compiled: the next parameters and state."""

    def step(
      params: dict, state: Any, lr: jax.Array, labels: jax.Array, *x: jax.Array
    ) -> tuple[dict, Any]:
      def loss(params: dict) -> jax.Array:
        scores = self.logits(params, *x)
        return optax.sigmoid_binary_cross_entropy(scores, labels).mean()

      updates, state = self._optimizer.update(
        jax.grad(loss)(params), state, params
      )
      updates = jax.tree.map(lambda u: -lr * u, updates)
      return optax.apply_updates(params, updates), state

    return jax.jit(step)

  @functools.cached_property
  def _predict(self) -> Callable:
    return jax.jit(self.logits)

  def predict(self, params: dict, x: Sequence[np.ndarray]) -> np.ndarray:
    """Logits (N, L) of N records, of which `x` has the arrays."""
    count, size = len(x[0]), self.batch_size
    parts = []
    for start in range(0, count, size):
      rows = np.minimum(np.arange(start, start + size), count - 1)
      parts.append(np.asarray(self._predict(params, *(a[rows] for a in x))))
    return np.concatenate(parts)[:count]

  def fit(
    self,
    x: Sequence[np.ndarray],
    labels: np.ndarray,
    validation: Sequence[np.ndarray],
    validation_labels: np.ndarray,
    seed: int = 0,
  ) -> dict:
    """Trains from the beginning.

    Args:
      x: arrays of the N training records.
      labels: (N, L) 0 or 1.
      validation: arrays of the M validation records.
      validation_labels: (M, L) 0 or 1.
      seed: decides the first parameters and the order of the records.

    Returns:
      The parameters of the epoch that is best on validation.

    Raises:
      UserError: no epoch has finite scores.
    """
    rng = np.random.default_rng(seed)
    rate = np.clip(labels.mean(axis=0), 1e-3, 1 - 1e-3)
    params = self.init(jax.random.key(seed), labels.shape[1])
    params["bias"] = jnp.asarray(np.log(rate / (1 - rate)), jnp.float32)
    state = self._optimizer.init(params)
    size = min(self.batch_size, len(labels))
    per_epoch = max(_LEAST_STEPS, len(labels) // size)
    order = np.zeros(0, np.int64)
    best, best_loss, best_epoch = params, np.inf, 0
    for step in range(self.epochs * per_epoch):
      if len(order) < size:
        order = rng.permutation(len(labels))
      rows, order = order[:size], order[size:]
      lr = self.lr * (1 + np.cos(np.pi * step / self.epochs / per_epoch)) / 2
      params, state = self._step(
        params,
        state,
        np.float32(lr),
        labels[rows].astype(np.float32),
        *(a[rows] for a in x),
      )
      epoch, is_inside = divmod(step + 1, per_epoch)
      if is_inside:
        continue
      scores = self.predict(params, validation)
      if not np.isfinite(scores).all():
        break  # there is no way back from there
      loss = float(logistic.log_loss(scores, validation_labels).mean())
      if loss < best_loss:
        best, best_loss, best_epoch = params, loss, epoch
      if epoch - best_epoch >= self.patience:
        break
    if not best_epoch:
      raise UserError("the training of a probe diverged; check the signals")
    logging.info("epoch %d is best, log-loss %.4f", best_epoch, best_loss)
    return best


def probe(
  trainer: Trainer,
  x: Mapping[str, Sequence[np.ndarray]],
  labels: Mapping[str, np.ndarray],
  test: TestSet,
  name: str,
  *,
  fractions: Sequence[float],
  seeds: int,
  **options: Any,
) -> Findings:
  """Trains on the subsets of the linear probe, and scores test.

  Args:
    trainer: of the classifier.
    x: "train", "validation", "test" -> arrays of the records of the label set.
    labels: "train", "validation" -> (N, L) 0 or 1.
    test: the test records.
    name: of the outcomes, before "_<percent>".
    fractions: parts of the training records, in (0, 1].
    seeds: subsets drawn for each fraction below 1.
    **options: see `scoring.evaluate`.

  Raises:
    UserError: a fraction is out of range.
  """
  outcomes, validation = [], []
  for fraction in fractions:
    known, scores = [], []
    for seed in range(1 if fraction == 1 else seeds):
      rows = linear.subset(len(labels["train"]), fraction, seed)
      params = trainer.fit(
        [a[rows] for a in x["train"]],
        labels["train"][rows],
        x["validation"],
        labels["validation"],
        seed,
      )
      known.append(trainer.predict(params, x["validation"]))
      scores.append(trainer.predict(params, x["test"]))
    outcomes.append(
      scoring.evaluate(
        test,
        f"{name}_{100 * fraction:g}",
        np.stack(scores),
        fraction=fraction,
        num_train=len(rows),
        **options,
      )
    )
    validation.append(np.stack(known))
  return probe_calibration.add(
    Findings(test, tuple(outcomes)), validation, labels["validation"]
  )
