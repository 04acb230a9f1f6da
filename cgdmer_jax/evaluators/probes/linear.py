"""Linear probe of frozen features: one regularised logistic regression a label.

The protocol, for one label set:

1. Records without any label of the set do not belong to it and are dropped.
2. A seeded permutation of the training records; the fraction f takes its first
   ceil(f N), so 1 % lies inside 10 %. Small fractions are repeated with several
   seeds, the full set has one. Every encoder sees the same subsets.
3. Features are standardised by the mean and deviation of those training
   records, then every label is fitted at every regularisation strength.
4. One strength per subset is chosen by the log-loss on validation, averaged
   over labels. Log-loss and not AUROC: it is defined for a label without a
   positive in validation, does not jump when a label has three, and exposes
   weights that separate the training set but are absurdly sure elsewhere.
   Validation keeps its full size at every fraction, as in published protocols.
5. Test is looked at once, with the chosen strength. It is no argument of
   `train`, so it cannot influence it.

Scores are the logits of each label: no softmax, which would couple labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.probes import logistic
from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Outcome, TestSet

# From weights near zero on any subset to hardly regularised on 10^4 records.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Probe:
  """A trained linear probe with its strength chosen.

  Attributes:
    mean: (D,) subtracted from the features.
    scale: (D,) that they are then divided by.
    coefficients: (D, L) in the standardised space.
    intercepts: (L,).
    strength: chosen C.
    validation_losses: (S,) macro log-loss in nats of each strength offered.
    num_train: training records.
    not_converged: labels whose chosen fit missed the solver's tolerance.
    degenerate: labels with one class only in training; constant scores.
  """

  mean: np.ndarray
  scale: np.ndarray
  coefficients: np.ndarray
  intercepts: np.ndarray
  strength: float
  validation_losses: np.ndarray
  num_train: int
  not_converged: int
  degenerate: int


def standardise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and scale of features (N, D) that make them standard.

  A feature that does not vary beyond float32 rounding keeps the scale 1:
  dividing by its deviation would blow up the rounding.

  Returns:
    mean (D,), scale (D,), float64.
  """
  x = np.asarray(features, np.float64)
  mean, deviation = x.mean(axis=0), x.std(axis=0)
  constant = deviation <= 1e-6 * np.abs(mean) + 1e-12
  return mean, np.where(constant, 1.0, deviation)


def train(
  features: np.ndarray,
  labels: np.ndarray,
  subsets: np.ndarray,
  validation_features: np.ndarray,
  validation_labels: np.ndarray,
  strengths: Sequence[float] = STRENGTHS,
) -> list[Probe]:
  """Fits all labels and chooses the regularisation strength on validation.

  Args:
    features: (N, D) of the training records.
    labels: (N, L) 0 or 1.
    subsets: int (B, n), training records of each probe.
    validation_features: (M, D).
    validation_labels: (M, L) 0 or 1.
    strengths: C of the grid; of equal losses the smallest C wins.

  Returns:
    The probe of each subset at its chosen strength.
  """
  strengths = sorted(strengths)
  moments = [standardise(features[rows]) for rows in subsets]
  x = np.empty((*subsets.shape, features.shape[1]), np.float32)
  for i, (mean, scale) in enumerate(moments):
    x[i] = (features[subsets[i]] - mean) / scale
  every = logistic.fit(x, labels[subsets], strengths)
  probes = []
  for i, (mean, scale) in enumerate(moments):
    fit = every[i]
    x = ((validation_features - mean) / scale).astype(np.float32)
    logits = np.einsum("nd,sdl->snl", x, fit.coefficients, optimize=True)
    logits += fit.intercepts[:, None]
    losses = logistic.log_loss(logits, validation_labels).mean(axis=-1)
    best = int(np.argmin(losses))
    probes.append(
      Probe(
        mean=mean,
        scale=scale,
        coefficients=fit.coefficients[best],
        intercepts=fit.intercepts[best],
        strength=float(strengths[best]),
        validation_losses=losses,
        num_train=subsets.shape[1],
        not_converged=int((~fit.converged[best]).sum()),
        degenerate=int(fit.degenerate.sum()),
      )
    )
  return probes


def predict(probe: Probe, features: np.ndarray) -> np.ndarray:
  """Logits (N, L) float32 of features (N, D), one score per label."""
  x = ((features - probe.mean) / probe.scale).astype(np.float32)
  return x @ probe.coefficients + probe.intercepts


def subset(num_records: int, fraction: float, seed: int) -> np.ndarray:
  """Training records of one fraction and seed.

  Args:
    num_records: N, of the label set.
    fraction: in (0, 1].
    seed: decides the permutation.

  Returns:
    ceil(fraction * N) record numbers; a smaller fraction's are the first of a
    larger one's.

  Raises:
    UserError: the fraction is out of range.
  """
  if not 0 < fraction <= 1:
    raise UserError(f"fraction {fraction} is outside (0, 1]; 0.01 means 1 %")
  count = math.ceil(fraction * num_records - 1e-9)
  return np.random.default_rng(seed).permutation(num_records)[:count]


@dataclasses.dataclass(frozen=True)
class Data:
  """Records of the label set with their features.

  Attributes:
    x: "train", "validation" -> (N, D), and "test" of all records of `test`.
    y: "train", "validation" -> (N, L) uint8.
    test: the test records.
  """

  x: Mapping[str, np.ndarray]
  y: Mapping[str, np.ndarray]
  test: TestSet


def prepare(
  features: Mapping[str, np.ndarray],
  labels: Mapping[str, np.ndarray],
  subjects_test: np.ndarray,
  label_names: Sequence[str],
  record_ids_test: np.ndarray | None = None,
) -> Data:
  """Keeps the records that carry a label of the set.

  Args:
    features: "train", "validation", "test" -> (N, D) of that split.
    labels: the same keys -> (N, L) 0 or 1.
    subjects_test: (N,) subject id of each test record.
    label_names: L names.
    record_ids_test: (N,) ids of the test records, kept with the scores.

  Raises:
    UserError: features are not finite, or a split has no record of the set.
    ValueError: shapes disagree.
  """
  x, y = {}, {}
  for split in ("train", "validation"):
    x[split], y[split] = belonging(
      split, features[split], labels[split], label_names
    )
  test, belongs = scoring.make_test_set(
    subjects_test, labels["test"], label_names, record_ids_test
  )
  x["test"] = _finite("test", np.asarray(features["test"]))[belongs]
  return Data(x, y, test)


def fit(
  data: Data,
  fraction: float,
  *,
  seeds: int = 5,
  strengths: Sequence[float] = STRENGTHS,
) -> list[Probe]:
  """The probes of one fraction of the training records.

  Args:
    data: records with their features, see `prepare`.
    fraction: in (0, 1].
    seeds: subsets drawn, if it is below 1.
    strengths: grid of C, see `logistic.fit`.

  Raises:
    UserError: an option is out of range.
  """
  if seeds < 1:
    raise UserError(f"probe seeds must be at least 1, got {seeds}")
  n = len(data.y["train"])
  subsets = [
    subset(n, fraction, seed) for seed in range(1 if fraction == 1 else seeds)
  ]
  return train(
    data.x["train"],
    data.y["train"],
    np.stack(subsets),
    data.x["validation"],
    data.y["validation"],
    strengths,
  )


def score(
  data: Data,
  probes: Sequence[Probe],
  setting: str,
  *,
  fraction: float | None = 1.0,
  strengths: Sequence[float] = STRENGTHS,
  **options: Any,
) -> Outcome:
  """Scores probes on the test records.

  Args:
    data: the test records, with their features.
    probes: that differ in their training subset alone.
    setting: name of the outcome.
    fraction: part of the training records that they saw.
    strengths: that the probes were chosen from.
    **options: see `scoring.evaluate`.
  """
  not_converged = sum(p.not_converged for p in probes)
  if not_converged:
    logging.warning(
      "%s: %d of %d fits missed the solver's tolerance",
      setting,
      not_converged,
      len(probes) * len(data.test.label_names),
    )
  return scoring.evaluate(
    data.test,
    setting,
    np.stack([predict(p, data.x["test"]) for p in probes]),
    fraction=fraction,
    num_train=probes[0].num_train,
    strengths=tuple(p.strength for p in probes),
    strength_grid=tuple(sorted(strengths)),
    not_converged=not_converged,
    **options,
  )


def belonging(
  split: str,
  features: np.ndarray,
  labels: np.ndarray,
  label_names: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
  """Features and labels of the records that carry a label of the set.

  Args:
    split: name, for messages.
    features: (N, ...).
    labels: (N, L) 0 or 1.
    label_names: L names.

  Returns:
    (M, ...) and uint8 (M, L).

  Raises:
    UserError: there is no such record, or features are not finite.
  """
  features = _finite(split, np.asarray(features))
  labels = scoring.check_arrays(split, len(features), labels, label_names)
  belongs = labels.any(axis=1)
  if not belongs.any():
    raise UserError(
      f"no {split} record carries any of the labels {', '.join(label_names)};"
      " check the data set and its label set"
    )
  return features[belongs], labels[belongs]


def _finite(split: str, features: np.ndarray) -> np.ndarray:
  """The features, unless some are not finite."""
  bad = ~np.isfinite(features).all(axis=tuple(range(1, features.ndim)))
  if bad.any():
    raise UserError(
      f"features of {bad.sum()} of {len(bad)} {split} records are not finite;"
      " the checkpoint or those recordings are damaged"
    )
  return features
