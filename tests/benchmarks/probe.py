"""Times the probe's solver and the bootstrap against scikit-learn.

    python -m tests.benchmarks.probe solver [LABELS]
    python -m tests.benchmarks.probe bootstrap

At the size of PTB-XL: 17,084 training records, 768 features, 71 labels from
common to rare, 8 strengths, all of the records once and 10 % and 1 % of them
with five seeds; 2,198 test records, 1,000 resamples. scikit-learn fits each
label and strength by itself, with its usual solver, and with its most exact one
for the comparison of scores: where regularisation is weak, the usual one stops
far from the optimum. With LABELS, only so many evenly spread labels, and its
times are multiplied accordingly.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import sklearn.linear_model
import sklearn.metrics

from cgdmer_jax.evaluators.probes import linear as linear_probe
from cgdmer_jax.evaluators.probes import logistic
from cgdmer_jax.evaluators.scores import statistics

TRAIN, TEST, FEATURES, LABELS = 17_084, 2_198, 768, 71
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
# Of scikit-learn, each with its tolerance; the last one is compared with.
SOLVERS = {"lbfgs": 1e-6, "newton-cholesky": 1e-9}
FRACTIONS = {0.01: 5, 0.1: 5, 1.0: 1}  # of the training records: seeds


def problem() -> tuple[np.ndarray, np.ndarray]:
  """Correlated features, and labels that they tell in part."""
  rng = np.random.default_rng(0)
  n = TRAIN + TEST
  latent = rng.normal(size=(n, 128)) / np.sqrt(1 + np.arange(128) / 8)
  x = np.tanh(latent @ rng.normal(size=(128, FEATURES)) / 4)
  x += 0.3 * rng.normal(size=x.shape)
  score = latent @ rng.normal(size=(128, LABELS))
  score = score / score.std(0) + rng.normal(size=score.shape)
  rate = np.geomspace(0.4, 0.002, LABELS)
  cut = [np.quantile(score[:, j], 1 - rate[j]) for j in range(LABELS)]
  return x.astype(np.float32), (score > np.array(cut)).astype(np.uint8)


def time_solver(num_labels: int) -> None:
  """The whole grid, ours and scikit-learn's."""
  x, y = problem()
  columns = np.unique(np.linspace(0, LABELS - 1, num_labels).astype(int))
  ours, theirs = 0.0, dict.fromkeys(SOLVERS, 0.0)
  worst_auroc, worst_weight = 0.0, 0.0
  for fraction, seeds in FRACTIONS.items():
    rows = np.stack(
      [linear_probe.subset(TRAIN, fraction, seed) for seed in range(seeds)]
    )
    features = x[:TRAIN][rows]
    moments = [linear_probe.standardise(f) for f in features]
    features = np.stack(
      [
        ((f - mean) / scale).astype(np.float32)
        for f, (mean, scale) in zip(features, moments, strict=True)
      ]
    )
    times = []
    for _ in range(2):  # the first compiles
      begin = time.perf_counter()
      fit = logistic.fit(features, y[:TRAIN][rows], STRENGTHS)
      times.append(time.perf_counter() - begin)
    ours += times[0]
    loops = {}
    for solver, tolerance in SOLVERS.items():
      begin = time.perf_counter()
      models = {}
      for seed in range(seeds):
        f = features[seed].astype(np.float64)
        for j in columns:
          labels = y[:TRAIN][rows[seed], j]
          if 0 < labels.sum() < len(labels):
            for s, c in enumerate(STRENGTHS):
              models[seed, j, s] = sklearn.linear_model.LogisticRegression(
                C=c, max_iter=10_000, tol=tolerance, solver=solver
              ).fit(f, labels)
      loops[solver] = (time.perf_counter() - begin) * LABELS / len(columns)
      theirs[solver] += loops[solver]
    for (seed, j, s), model in models.items():
      w = fit.coefficients[seed, s, :, j]
      mean, scale = moments[seed]
      test = (x[TRAIN:] - mean) / scale
      a, b = (
        sklearn.metrics.roc_auc_score(y[TRAIN:, j], test @ v)
        for v in (w, model.coef_[0])
      )
      worst_auroc = max(worst_auroc, abs(a - b))
      worst_weight = max(worst_weight, np.abs(w - model.coef_[0]).max())
    print(
      f"{100 * fraction:g} % x {seeds}: {times[0]:.1f} s (again, compiled:"
      f" {times[1]:.1f} s), not converged: {(~fit.converged).sum()};"
      + "".join(f" {solver} {loop:.0f} s" for solver, loop in loops.items()),
      flush=True,
    )
  print(
    f"whole grid: {ours:.1f} s;"
    + "".join(
      f" {solver} {loop:.0f} s, {loop / ours:.0f} times as long;"
      for solver, loop in theirs.items()
    )
    + f" {len(columns)} of {LABELS} labels measured; largest differences:"
    f" coefficient {worst_weight:.1e}, test AUROC {worst_auroc:.1e}"
  )


def time_bootstrap() -> None:
  """1,000 resamples of 71 labels, ours and a loop over roc_auc_score."""
  _, y = problem()
  y = y[TRAIN:]
  rng = np.random.default_rng(1)
  scores = y + rng.normal(size=y.shape)
  weights = statistics.subject_weights(np.arange(TEST), 1000, 0)
  times = []
  for _ in range(3):
    begin = time.perf_counter()
    auroc, _ = statistics.bootstrap(y, scores[None], weights)
    times.append(time.perf_counter() - begin)
  begin = time.perf_counter()
  worst, draws = 0.0, 20
  for r in range(draws):
    rows = np.repeat(np.arange(TEST), weights[:, r].astype(int))
    for j in range(LABELS):
      if 0 < y[rows, j].sum() < len(rows):
        value = sklearn.metrics.roc_auc_score(y[rows, j], scores[rows, j])
        worst = max(worst, abs(value - auroc[j, r]))
  loop = (time.perf_counter() - begin) * 1000 / draws
  print(
    f"AUROC and average precision: {times[0]:.2f} s (again, compiled:"
    f" {min(times[1:]):.2f} s); loop over roc_auc_score {loop:.0f} s"
    f" ({draws} of 1000 resamples measured): {loop / times[0]:.0f} times"
    f" (compiled {loop / min(times[1:]):.0f}); largest difference {worst:.1e}"
  )


if __name__ == "__main__":
  if sys.argv[1] == "bootstrap":
    time_bootstrap()
  else:
    time_solver(int(sys.argv[2]) if len(sys.argv) > 2 else LABELS)
