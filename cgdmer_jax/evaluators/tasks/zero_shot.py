"""Zero-shot classification: cosine between a recording and class sentences.

The score of a label is the cosine between the recording's shared embedding and
the mean of the label's prompt embeddings. It is compared between recordings,
within one label: no softmax and no other normalisation over labels, so labels
may overlap and leaving one out does not move the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import scoring, statistics


def normalise(vectors: np.ndarray) -> np.ndarray:
  """Vectors (..., D) at unit length, float64; a zero vector stays zero."""
  vectors = np.asarray(vectors, np.float64)
  norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.where(norm > 0, norm, 1.0)


def class_embeddings(
  prompt_embeddings: Mapping[str, np.ndarray], label_names: Sequence[str]
) -> np.ndarray:
  """One unit vector per label from the embeddings of its prompts.

  Each prompt counts the same: they are normalised, averaged and normalised
  again.

  Args:
    prompt_embeddings: label -> (P, D) with P >= 1 of that label.
    label_names: L names.

  Returns:
    (L, D) float64.

  Raises:
    UserError: a label has no prompt.
  """
  classes = []
  for name in label_names:
    vectors = prompt_embeddings.get(name)
    if vectors is None or not len(vectors):
      raise UserError(f"label {name!r} has no embedded prompt; add one for it")
    classes.append(normalise(normalise(vectors).mean(axis=0)))
  return np.stack(classes)


def cosine_scores(embeddings: np.ndarray, classes: np.ndarray) -> np.ndarray:
  """Cosines (N, L) float32 of embeddings (N, D) and unit vectors (L, D)."""
  return (normalise(embeddings) @ classes.T).astype(np.float32)


def zero_shot(
  embeddings: np.ndarray,
  prompt_embeddings: Mapping[str, np.ndarray],
  labels: np.ndarray,
  subjects: np.ndarray,
  label_names: Sequence[str],
  *,
  record_ids: np.ndarray | None = None,
  **options,
) -> scoring.Findings:
  """Scores one encoder on the test records of one label set.

  Args:
    embeddings: (N, D) shared embeddings of the test records.
    prompt_embeddings: label -> (P, D) shared embeddings of its prompts.
    labels: (N, L) 0 or 1.
    subjects: (N,) subject ids.
    label_names: L names.
    record_ids: (N,) ids, kept with the scores.
    **options: of `scoring.evaluate`.

  Returns:
    A single outcome, "zero_shot", and among the details "prompts": how the
    macro AUROC moves if each label has one of its prompts only, the first of
    each, the second (or the last one) of each, and so on.

  Raises:
    UserError: a label has no prompt, embeddings are not finite, or no record
      carries a label of the set.
    ValueError: shapes disagree.
  """
  embeddings = np.asarray(embeddings)
  bad = ~np.isfinite(embeddings).all(axis=1)
  if bad.any():
    raise UserError(
      f"embeddings of {bad.sum()} of {len(bad)} test records are not finite;"
      " the checkpoint or those recordings are damaged"
    )
  classes = class_embeddings(prompt_embeddings, label_names)
  test, belongs = scoring.make_test_set(
    subjects, labels, label_names, record_ids
  )
  embeddings = embeddings[belongs]
  outcome = scoring.evaluate(
    test, "zero_shot", cosine_scores(embeddings, classes), **options
  )
  details = {}
  most = max(map(len, prompt_embeddings.values()))
  counted = scoring.counted_labels(
    test.labels, outcome.evaluation.min_positives
  )
  if most > 1 and counted.any():
    single = []
    for i in range(most):
      one = {k: v[[min(i, len(v) - 1)]] for k, v in prompt_embeddings.items()}
      scores = cosine_scores(embeddings, class_embeddings(one, label_names))
      aurocs = [
        statistics.auroc(test.labels[:, j], scores[:, j])
        for j in np.flatnonzero(counted)
      ]
      single.append(float(np.mean(aurocs)))
    details["prompts"] = {
      "macro_auroc_with_one_prompt_a_label": single,
      "text": f"zero-shot with one prompt a label instead of the mean of all:"
      f" {min(single):.3f} to {max(single):.3f} in {most} choices",
    }
  return scoring.Findings(test, (outcome,), details=details)
