"""Results made of random scores, for tests of files, comparisons and tables."""

import numpy as np

from cgdmer_jax.evaluators.scores import comparison, results, scoring
from cgdmer_jax.evaluators.scores.findings import Findings


def make_findings(noise, settings, seed=0, min_positives=10):
  """Scores of one encoder."""
  rng = np.random.default_rng(0)  # the test set is always the same
  labels = (rng.random((200, 3)) < [0.4, 0.2, 0.01]).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  ids = np.array([f"r{i}" for i in range(200)])
  subjects = np.arange(200) // 2
  rng = np.random.default_rng(seed)
  test, _ = scoring.make_test_set(subjects, labels, ("A", "B", "rare"), ids)
  outcomes = []
  for setting in settings:
    scores = labels + noise * rng.normal(
      size=(1 + (setting == "probe_1"), 200, 3)
    )
    fraction = {"probe_1": 0.01, "probe_100": 1.0}.get(setting)
    training = {}
    if fraction:
      training = {
        "fraction": fraction,
        "num_train": int(1000 * fraction),
        "strengths": (0.1,) * len(scores),
        "strength_grid": (0.1, 1.0),
      }
    outcomes.append(
      scoring.evaluate(
        test,
        setting,
        scores.astype(np.float32),
        min_positives=min_positives,
        num_bootstrap=100,
        **training,
      )
    )
  weights = np.ones((200, 100))
  measure = scoring.mean_measure(
    "s", "recall@1", "higher", np.arange(200) % 2, weights, main=False
  )
  return Findings(test, tuple(outcomes), (measure,), {"x": {"y": 1}})


def make_result(
  name="a",
  task="linear_probe",
  noise=1.0,
  seed=0,
  label_mode="fixed",
  label_set="form",
  run=0,
  **options,
):
  settings = ("zero_shot",)
  if task == "linear_probe":
    settings = ("probe_1", "probe_100")
  return results.Result(
    encoder=results.Identity(name, "f", seed=run, checkpoint="runs/x", step=9),
    task=task,
    dataset="ptb_xl/100hz",
    split="test",
    label_set=label_set,
    label_mode=label_mode,
    key=results.make_key(name, run, noise),
    protocol="p",
    options={"num_bootstrap": 100},
    findings=make_findings(noise, settings, seed, **options),
  )


def make_pair(**changes):
  return [
    make_result("CG-DMER", **changes),
    make_result("random", **{"noise": 4.0, "seed": 1} | changes),
  ]


def make_rows(every):
  return comparison.compare_all(every, num_permutations=100)
