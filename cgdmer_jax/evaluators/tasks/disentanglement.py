"""Disentanglement: what do the shared and the specific parts know?

If the parts are what their names say, then findings, which both modalities
tell, can be read from the shared part; which modality an embedding comes from
can be read from the specific part; and the two parts do not resemble each
other. Linear probes answer the first two, CKA the third.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set
from cgdmer_jax.evaluators.data_set import SPLITS
from cgdmer_jax.evaluators.encoders.features import Encoder
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.evaluators.scores.findings import (
  Findings,
  Measure,
  Outcome,
  TestSet,
)
from cgdmer_jax.evaluators.task import Inputs, Options, Task
from cgdmer_jax.models import cgdmer

MAX_RECORDS = 2000  # of each split: more say the same

# (modality, part) -> split -> embeddings (N, D).
_Parts = dict[tuple[str, str], dict[str, np.ndarray]]


def cka(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Linear CKA of two representations of the same records.

  Kornblith et al. 2019, with the unbiased estimator of HSIC (Song et al. 2012,
  equation 4; Nguyen et al. 2021 use it likewise): the usual one is far above 0
  for unrelated representations of a few records. Records drawn twice are not
  paired with themselves.

  Args:
    x: (N, D).
    y: (N, E).
    weights: (N, R), how often each record counts.

  Returns:
    (R,) float64; about 0 for independent representations, 1 for ones that are
    equal up to rotation and scale.
  """
  grams = []
  for z in (x, y):
    z = np.asarray(z, np.float64)
    z = z - z.mean(axis=0)
    gram = z @ z.T
    np.fill_diagonal(gram, 0)
    grams.append(gram / max(np.linalg.norm(gram), 1e-30))
  w = np.asarray(weights, np.float64)
  n = w.sum(axis=0)

  def hsic(k: np.ndarray, l: np.ndarray) -> np.ndarray:
    kw, lw = k @ w, l @ w
    return (
      (w * ((k * l) @ w)).sum(0)
      + (w * kw).sum(0) * (w * lw).sum(0) / ((n - 1) * (n - 2))
      - 2 / (n - 2) * (w * kw * lw).sum(0)
    )

  k, l = grams
  scale = np.sqrt(np.maximum(hsic(k, k) * hsic(l, l), 1e-30))
  return hsic(k, l) / scale


def disentanglement(
  ecg: Mapping[str, cgdmer.Embedding],
  report: Mapping[str, cgdmer.Embedding],
  labels: Mapping[str, np.ndarray],
  has_text: Mapping[str, np.ndarray],
  subjects_test: np.ndarray,
  label_names: tuple[str, ...],
  record_ids_test: np.ndarray,
  *,
  seed: int = 0,
  **options: Any,
) -> Findings:
  """Probes every part of both modalities.

  Args:
    ecg: "train", "validation", "test" -> embeddings of the N records.
    report: the same keys -> embeddings of their reports.
    labels: the same keys -> (N, L) 0 or 1.
    has_text: the same keys -> (N,), whether the report says anything.
    subjects_test: (N,) subject ids.
    label_names: L names.
    record_ids_test: (N,) ids.
    seed: decides the resampling.
    **options: see `scoring.evaluate`.

  Returns:
    Outcomes "finding_from_ecg_shared" and so on; measures of the modality and
    of CKA. Records without a report take no part.

  Raises:
    UserError: no record of a split has a report.
  """
  rows = {
    split: np.flatnonzero(has[:MAX_RECORDS]) for split, has in has_text.items()
  }
  for split, numbers in rows.items():
    if not len(numbers):
      raise UserError(f"no {split} record has a report")
  values = _parts("ecg", ecg, rows) | _parts("report", report, rows)
  ids = np.asarray(record_ids_test).astype(str)[rows["test"]]
  subjects = np.asarray(subjects_test).astype(str)[rows["test"]]
  # The two modalities of a record of unknown patient are of one patient.
  subjects = np.where(subjects == "", np.char.add("record ", ids), subjects)
  present = {split: labels[split][numbers] for split, numbers in rows.items()}
  outcomes = [
    _probe(
      linear.prepare(x, present, subjects, label_names, ids),
      f"finding_from_{modality}_{part}",
      seed=seed,
      **options,
    )
    for (modality, part), x in values.items()
  ]
  num_bootstrap = outcomes[0].samples.shape[-1]
  measures = _measures(values, subjects, ids, num_bootstrap, seed)
  test, _ = scoring.make_test_set(subjects, present["test"], label_names, ids)
  return Findings(test, tuple(outcomes), tuple(measures))


def _parts(
  modality: str,
  embeddings: Mapping[str, cgdmer.Embedding],
  rows: Mapping[str, np.ndarray],
) -> _Parts:
  """The parts that a modality has, of the records `rows` of each split."""
  has_specific = embeddings["test"].specific is not None
  return {
    (modality, part): {
      split: getattr(embeddings[split], part)[numbers]
      for split, numbers in rows.items()
    }
    for part in ("shared", *["specific"] * has_specific)
  }


def _probe(data: linear.Data, setting: str, **options: Any) -> Outcome:
  """Scores of a probe that is trained on all records."""
  return linear.score(data, linear.fit(data, 1.0), setting, **options)


def _measures(
  values: _Parts,
  subjects: np.ndarray,
  ids: np.ndarray,
  num_bootstrap: int,
  seed: int,
) -> list[Measure]:
  """What is told about parts without labels.

  Args:
    values: embeddings of all parts.
    subjects: (N,) subject ids of the test records.
    ids: (N,) ids of the test records.
    num_bootstrap: resamples of subjects.
    seed: decides the resampling.
  """
  weights = statistics.subject_weights(subjects, num_bootstrap, seed)
  parts = [part for modality, part in values if modality == "ecg"]
  modalities = [
    _modality(values, part, subjects, ids, num_bootstrap, seed)
    for part in parts
  ]
  return modalities + _resemblances(values, weights)


def _modality(
  values: _Parts,
  part: str,
  subjects: np.ndarray,
  ids: np.ndarray,
  num_bootstrap: int,
  seed: int,
) -> Measure:
  """How well a probe tells recordings from reports by one part of both."""
  x = {
    split: np.concatenate([values["ecg", part][split], reports])
    for split, reports in values["report", part].items()
  }
  y = {
    split: np.repeat([1, 0], len(both) // 2)[:, None].astype(np.uint8)
    for split, both in x.items()
  }
  test = TestSet(np.tile(ids, 2), np.tile(subjects, 2), y["test"], ("ecg",))
  outcome = _probe(
    linear.Data(x, y, test),
    "modality",
    seed=seed,
    min_positives=1,
    num_bootstrap=num_bootstrap,
  )
  return Measure(
    "modality",
    f"AUROC from {part}",
    "",
    outcome.evaluation.macro_auroc,
    outcome.samples[0, 0],
    chance=0.5,
  )


def _resemblances(values: _Parts, weights: np.ndarray) -> list[Measure]:
  """CKA of parts that should be alike, and of parts that should not."""
  pairs = [(("ecg", "shared"), ("report", "shared"))]
  if ("ecg", "specific") in values:
    pairs += [
      (("ecg", "shared"), ("ecg", "specific")),
      (("report", "shared"), ("report", "specific")),
      (("ecg", "specific"), ("report", "specific")),
    ]
  measures = []
  for a, b in pairs:
    x, z = values[a]["test"], values[b]["test"]
    samples = cka(x, z, weights).astype(np.float32)
    value = float(cka(x, z, np.ones((len(x), 1)))[0])
    measures.append(
      Measure(
        "CKA",
        f"{' '.join(a)} to {' '.join(b)}",
        "",
        scoring.estimate(value, samples),
        samples,
        chance=0.0,
      )
    )
  return measures


def run(inputs: Inputs, options: Options) -> Findings:
  """Probes both modalities of the encoder; see `disentanglement`."""
  data = inputs.data
  ecg, report, has_text = {}, {}, {}
  for split in SPLITS:
    index = data.index(split)
    ecg[split] = inputs.store.ecg(data.source(split))
    report[split] = _first_reports(
      inputs.store.encoder, index.reports, index.report_ids
    )
    has_text[split] = data_set.has_text(index.reports)[index.report_ids]
  index = data.index("test")
  return disentanglement(
    ecg,
    report,
    data.labels(inputs.label_set),
    has_text,
    index.subject_ids,
    inputs.label_names,
    index.ids,
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )


def _first_reports(
  encoder: Encoder, texts: tuple[str, ...], report_ids: np.ndarray
) -> cgdmer.Embedding:
  """Embeddings of the reports of records, right for the first `MAX_RECORDS`.

  Args:
    encoder: has a report encoder.
    texts: distinct reports.
    report_ids: (N,) report of each record.

  Returns:
    (N, width); what no record among the first has is not embedded.
  """
  read = np.unique(report_ids[:MAX_RECORDS])
  embedded = encoder.report([texts[i] for i in read])
  place = np.searchsorted(read, report_ids).clip(max=len(read) - 1)
  return jax.tree.map(lambda x: x[place], embedded)


TASK = Task(
  name="disentanglement",
  run=run,
  order=70,
  labels="first",
  options=("min_positives",),
  own_table=True,
)
