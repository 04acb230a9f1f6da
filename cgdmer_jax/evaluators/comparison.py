"""What separates two encoders on the same test records.

A point estimate that is higher says little; the difference is resampled and
tested with both encoders on the same subjects each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import scoring, statistics


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Paired difference of two models, a minus b, on the same test records.

  Attributes:
    setting: as in `scoring.Outcome`.
    macro: difference of the macro AUROCs with its bootstrap interval.
    p_value: of the permutation test of `macro`; None without any label.
    num_permutations: it was drawn from.
    labels: name -> difference of AUROC with interval, labels that count only.
  """

  setting: str
  macro: scoring.Estimate
  p_value: float | None
  num_permutations: int
  labels: dict[str, scoring.Estimate]


def compare(
  test: scoring.TestSet,
  setting: str,
  scores_a: np.ndarray,
  scores_b: np.ndarray,
  *,
  min_positives: int = 10,
  num_bootstrap: int = 1000,
  num_permutations: int = 1000,
  seed: int = 0,
) -> Comparison:
  """Paired difference of two models on the same test records, a minus b.

  Args:
    test: N records, L labels.
    setting: name to carry along.
    scores_a: (K, N, L) or (N, L).
    scores_b: the same; a single seed is compared with each of the other's.
    min_positives: see `counted_labels`.
    num_bootstrap: resamples of subjects, the same for both models.
    num_permutations: swaps of the permutation test.
    seed: of both.

  Returns:
    Differences with 95 % intervals, and a p value for the macro average.

  Raises:
    ValueError: the numbers of training seeds differ and neither is 1.
  """
  a = scoring.seeds_first(test, scores_a)
  b = scoring.seeds_first(test, scores_b)
  if len(a) != len(b) and 1 not in (len(a), len(b)):
    raise ValueError(f"cannot pair {len(a)} training seeds with {len(b)}")
  columns = np.flatnonzero(scoring.counted_labels(test.labels, min_positives))
  if not len(columns):
    none = scoring.Estimate(None, None, None)
    return Comparison(setting, none, None, num_permutations, {})
  labels, a, b = test.labels[:, columns], a[:, :, columns], b[:, :, columns]
  weights = statistics.subject_weights(test.subjects, num_bootstrap, seed)
  samples = statistics.bootstrap_auroc(labels, a, weights)
  samples = samples - statistics.bootstrap_auroc(labels, b, weights)
  once = np.ones((len(labels), 1), np.float32)
  points = statistics.bootstrap_auroc(labels, a, once)[:, 0]
  points = points - statistics.bootstrap_auroc(labels, b, once)[:, 0]
  seeds = max(len(a), len(b))
  permutation = statistics.permutation_test(
    labels,
    np.broadcast_to(a, (seeds, *a.shape[1:])),
    np.broadcast_to(b, (seeds, *b.shape[1:])),
    test.subjects,
    num_permutations,
    seed,
  )
  names = [test.label_names[j] for j in columns]
  return Comparison(
    setting=setting,
    macro=scoring.estimate(points.mean(), statistics.macro(samples)),
    p_value=permutation.p_value,
    num_permutations=num_permutations,
    labels={
      name: scoring.estimate(p, s)
      for name, p, s in zip(names, points, samples, strict=True)
    },
  )


def compare_settings(
  test: scoring.TestSet,
  scores_a: Mapping[str, np.ndarray],
  scores_b: Mapping[str, np.ndarray],
  **options,
) -> tuple[Comparison, ...]:
  """Paired comparison in every setting that both models have.

  Args:
    test: N records, L labels.
    scores_a: setting -> (K, N, L).
    scores_b: setting -> (K, N, L).
    **options: of `compare`.

  Returns:
    One comparison, a minus b, per common setting in the order of a.
  """
  return tuple(
    compare(test, setting, scores, scores_b[setting], **options)
    for setting, scores in scores_a.items()
    if setting in scores_b
  )


def compare_encoders(
  a: scoring.EncoderResult, b: scoring.EncoderResult, **options
) -> tuple[Comparison, ...]:
  """Paired comparison of two encoders that were scored together.

  Args:
    a: result of one encoder.
    b: result of the other, on the same test records in the same order.
    **options: of `compare`.

  Returns:
    One comparison, a minus b, per common setting in the order of a.

  Raises:
    UserError: the two were not scored on the same records and labels.
  """
  same = a.test.label_names == b.test.label_names and all(
    np.array_equal(getattr(a.test, name), getattr(b.test, name))
    for name in ("record_ids", "subjects", "labels")
  )
  if not same:
    raise UserError(
      "cannot compare: the two results are not on the same test records and"
      f" labels ({len(a.test.labels)} and {len(b.test.labels)} records)"
    )
  scores_a, scores_b = (
    {o.setting: o.scores for o in result.outcomes} for result in (a, b)
  )
  return compare_settings(a.test, scores_a, scores_b, **options)
