"""Disentanglement: what do the shared and the specific parts know?

If the parts are what their names say, then findings, which both modalities
tell, can be read from the shared part; which modality an embedding comes from
can be read from the specific part; and the two parts do not resemble each
other. Linear probes answer the first two, CKA the third.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.probes import linear as linear_probe
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.models import cgdmer

MAX_RECORDS = 2000  # of each split: more say the same


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

  def hsic(k, l):
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
  **options,
) -> scoring.Findings:
  """Probes every part of both modalities.

  Args:
    ecg: "train", "validation", "test" -> embeddings of the N records.
    report: the same of their reports.
    labels: the same keys -> (N, L) 0 or 1.
    has_text: the same keys -> (N,), whether the report says anything.
    subjects_test: (N,) subject ids.
    label_names: L names.
    record_ids_test: (N,) ids.
    seed: of the resampling.
    **options: of `scoring.evaluate`.

  Returns:
    Outcomes "finding_from_ecg_shared" and so on; measures of the modality and
    of CKA. Records without a report take no part.
  """
  rows = {
    split: np.flatnonzero(has[:MAX_RECORDS]) for split, has in has_text.items()
  }
  for split, of_split in rows.items():
    if not len(of_split):
      raise UserError(f"no {split} record has a report")
  parts = ["shared"] + ["specific"] * (ecg["test"].specific is not None)
  values = {
    (modality, part): {
      split: getattr(embeddings[split], part)[of_split]
      for split, of_split in rows.items()
    }
    for modality, embeddings in (("ecg", ecg), ("report", report))
    for part in parts
  }
  present = {split: labels[split][rows[split]] for split in rows}
  ids = np.asarray(record_ids_test).astype(str)[rows["test"]]
  subjects = np.asarray(subjects_test).astype(str)[rows["test"]]
  # The two modalities of a record of unknown patient are of one patient.
  subjects = np.where(subjects == "", np.char.add("record ", ids), subjects)
  outcomes = []
  for (modality, part), x in values.items():
    data = linear_probe.prepare(x, present, subjects, label_names, ids)
    setting = f"finding_from_{modality}_{part}"
    probes = linear_probe.fit(data, 1.0)
    outcomes.append(
      linear_probe.score(data, probes, setting, seed=seed, **options)
    )
  num_bootstrap = outcomes[0].samples.shape[-1]
  measures = [
    _modality(values, part, subjects, ids, num_bootstrap, seed)
    for part in parts
  ]
  weights = statistics.subject_weights(subjects, num_bootstrap, seed)
  pairs = [(("ecg", "shared"), ("report", "shared"))]
  if len(parts) == 2:
    pairs += [
      (("ecg", "shared"), ("ecg", "specific")),
      (("report", "shared"), ("report", "specific")),
      (("ecg", "specific"), ("report", "specific")),
    ]
  measures += [_resemblance(values, a, b, weights) for a, b in pairs]
  return scoring.Findings(data.test, tuple(outcomes), tuple(measures))


def _modality(
  values, part, subjects, ids, num_bootstrap, seed
) -> scoring.Measure:
  """How well a probe tells recordings from reports by one part of both."""
  x = {
    split: np.concatenate([values["ecg", part][split], of_reports])
    for split, of_reports in values["report", part].items()
  }
  y = {
    split: np.repeat([1, 0], len(both) // 2)[:, None].astype(np.uint8)
    for split, both in x.items()
  }
  test = scoring.TestSet(
    np.tile(ids, 2), np.tile(subjects, 2), y["test"], ("ecg",)
  )
  data = linear_probe.Data(x, y, test)
  outcome = linear_probe.score(
    data,
    linear_probe.fit(data, 1.0),
    "modality",
    seed=seed,
    min_positives=1,
    num_bootstrap=num_bootstrap,
  )
  return scoring.Measure(
    "modality",
    f"AUROC from {part}",
    "",
    outcome.evaluation.macro_auroc,
    outcome.samples[0, 0],
    chance=0.5,
  )


def _resemblance(values, a, b, weights) -> scoring.Measure:
  """CKA of two (modality, part) pairs on the test records."""
  x, z = values[a]["test"], values[b]["test"]
  samples = cka(x, z, weights).astype(np.float32)
  value = float(cka(x, z, np.ones((len(x), 1)))[0])
  return scoring.Measure(
    "CKA",
    f"{' '.join(a)} to {' '.join(b)}",
    "",
    scoring.estimate(value, samples),
    samples,
    chance=0.0,
  )
