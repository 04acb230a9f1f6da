"""Zero-shot classification: cosine between a recording and class sentences.

The score of a label is the cosine between the recording's shared embedding and
the mean of the label's prompt embeddings. It is compared between recordings,
within one label: no softmax and no other normalisation over labels, so labels
may overlap and leaving one out does not move the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import ranking, scoring
from cgdmer_jax.evaluators.scores.findings import Findings, TestSet
from cgdmer_jax.evaluators.task import Inputs, Options, Task


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
    prompt_embeddings: label -> (P, D), P >= 1.
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
  **options: Any,
) -> Findings:
  """Scores one encoder on the test records of one label set.

  Args:
    embeddings: (N, D) shared embeddings of the test records.
    prompt_embeddings: label -> (P, D) shared embeddings of its prompts.
    labels: (N, L) 0 or 1.
    subjects: (N,) subject ids.
    label_names: L names.
    record_ids: (N,) ids, kept with the scores.
    **options: see `scoring.evaluate`.

  Returns:
    A single outcome, "zero_shot", and among the details "prompts": how the
    macro AUROC moves if each label has one of its prompts only.

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
  counted = scoring.counted_labels(
    test.labels, outcome.evaluation.min_positives
  )
  details = {}
  most = max(map(len, prompt_embeddings.values()))
  if most > 1 and counted.any():
    single = _with_one_prompt(
      embeddings, prompt_embeddings, test, np.flatnonzero(counted)
    )
    details["prompts"] = {
      "macro_auroc_with_one_prompt_a_label": single,
      "text": f"zero-shot with one prompt a label instead of the mean of all:"
      f" {min(single):.3f} to {max(single):.3f} in {most} choices",
    }
  return Findings(test, (outcome,), details=details)


def _with_one_prompt(
  embeddings: np.ndarray,
  prompt_embeddings: Mapping[str, np.ndarray],
  test: TestSet,
  counted: np.ndarray,
) -> list[float]:
  """Macro AUROC with the first prompt of each label, with the second, ...

  A label with fewer prompts keeps its last one.

  Args:
    embeddings: (N, D) of the test records.
    prompt_embeddings: label -> (P, D).
    test: the test records.
    counted: numbers of the labels in the average.
  """
  macros = []
  for i in range(max(map(len, prompt_embeddings.values()))):
    one = {k: v[[min(i, len(v) - 1)]] for k, v in prompt_embeddings.items()}
    scores = cosine_scores(embeddings, class_embeddings(one, test.label_names))
    aurocs = [ranking.auroc(test.labels[:, j], scores[:, j]) for j in counted]
    macros.append(float(np.mean(aurocs)))
  return macros


def run(
  inputs: Inputs, options: Options, leads: Sequence[str] = LEADS
) -> Findings:
  """Scores the encoder; only `leads` of the test records are given to it."""
  sentences = options.prompts
  texts = sorted({text for listed in sentences.values() for text in listed})
  vectors = inputs.store.encoder.report(texts).shared
  vector_of_text = dict(zip(texts, vectors, strict=True))
  data = inputs.data
  index = data.index("test")
  return zero_shot(
    inputs.store.ecg(data.test, leads).shared,
    {
      name: np.stack([vector_of_text[text] for text in listed])
      for name, listed in sentences.items()
    },
    index.labels[inputs.label_set],
    index.subject_ids,
    inputs.label_names,
    record_ids=index.ids,
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )


TASK = Task(
  name="zero_shot",
  run=run,
  order=10,
  options=("prompts", "min_positives"),
  heading=lambda setting: setting.replace("_", "-"),
  label_figure=2,
)
