"""Transfer: a probe trained on one corpus, scored on another.

Corpora name their findings differently. `FINDINGS` says which labels of two
label sets mean the same; a finding is present where any of its labels is, in
training as in test. It reads both ways. Label sets of the same name are taken
label by label.

Published mappings (MERL's) differ in places that we take for mistakes or for
findings that are not the same: conduction disturbance to ST depression, ST
depression to ST elevation, and "normal ECG" to CSN's "sinus rhythm", which says
nothing of the rest of the tracing. ST elevation is no ST-T change of PTB-XL's
superclasses, where injury counts as infarction.

Known gap: CSN's label set has no code for unspecific intraventricular
conduction delay, which PTB-XL counts as conduction disturbance. Such records
(75 in MERL's test file, beside 303 with "conduction") count as negative there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.probes import linear as linear_probe
from cgdmer_jax.evaluators.scores import scoring

# (label set, label set) -> finding -> labels of the one, labels of the other.
FINDINGS: dict[
  tuple[str, str], dict[str, tuple[tuple[str, ...], tuple[str, ...]]]
] = {
  ("superclass", "cpsc2018"): {
    "normal": (("NORM",), ("NORM",)),
    "conduction": (("CD",), ("1AVB", "CRBBB", "CLBBB")),
    "ST-T change": (("STTC",), ("STD",)),
  },
  ("superclass", "csn"): {
    "infarction": (("MI",), ("MI",)),
    "conduction": (
      ("CD",),
      ("1AVB", "2AVB", "2AVB1", "AVB", "LBBB", "RBBB", "WPW"),
    ),
    "ST-T change": (
      ("STTC",),
      ("STTC", "STTU", "STDD", "TWC", "TWO", "QTIE"),
    ),
    "hypertrophy": (("HYP",), ("LVH", "RVH")),
  },
  ("cpsc2018", "csn"): {
    "atrial fibrillation": (("AFIB",), ("AFIB",)),
    "first-degree AV block": (("1AVB",), ("1AVB",)),
    "left bundle branch block": (("CLBBB",), ("LBBB",)),
    "right bundle branch block": (("CRBBB",), ("RBBB",)),
    "atrial premature beat": (("PAC",), ("APB",)),
    "ventricular premature beat": (("VPC",), ("VPB",)),
    "ST elevation": (("STE",), ("STE",)),
    "ST depression": (("STD",), ("STDD",)),
  },
}


def findings(
  source: str, target: str, names: Sequence[str]
) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
  """Finding -> labels in the source and in the target label set.

  Args:
    source: label set that is trained on.
    target: label set that is scored.
    names: labels of the target.

  Returns:
    Empty where nothing is known.
  """
  if source == target:
    return {name: ((name,), (name,)) for name in names}
  if (source, target) in FINDINGS:
    return FINDINGS[source, target]
  swapped = FINDINGS.get((target, source), {})
  return {name: (theirs, ours) for name, (ours, theirs) in swapped.items()}


def transfer(
  features: Mapping[str, np.ndarray],
  labels: Mapping[str, np.ndarray],
  source_names: Sequence[str],
  test: tuple[scoring.TestSet, np.ndarray],
  mapping: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
  setting: str,
  **options,
) -> scoring.Findings:
  """Trains on the source's findings, scores the target's.

  Args:
    features: "train", "validation" of the source, "test" of the target
      -> (N, D).
    labels: "train", "validation" -> (N, L) 0 or 1.
    source_names: L labels of the source.
    test: of `scoring.make_test_set` on the target's own labels.
    mapping: of `findings`.
    setting: name of the outcome.
    **options: of `scoring.evaluate`.

  Raises:
    UserError: no finding has a positive and a negative to train on.
  """
  target, belongs = test
  x, y = {}, {}
  for split in ("train", "validation"):
    x[split], own = linear_probe.belonging(
      split, features[split], labels[split], source_names
    )
    y[split] = _any(own, source_names, [pair[0] for pair in mapping.values()])
  positives = y["train"].sum(axis=0)
  taught = (positives > 0) & (positives < len(y["train"]))
  if not taught.any():
    raise UserError(
      f"no finding of {', '.join(mapping)} has positives to train on"
    )
  names = np.array(list(mapping))
  present = _any(
    target.labels, target.label_names, [pair[1] for pair in mapping.values()]
  )
  data = linear_probe.Data(
    {**x, "test": features["test"][belongs]},
    {split: of_split[:, taught] for split, of_split in y.items()},
    scoring.TestSet(
      target.record_ids,
      target.subjects,
      present[:, taught],
      tuple(names[taught].tolist()),
    ),
  )
  probes = linear_probe.fit(data, 1.0)
  outcome = linear_probe.score(data, probes, setting, **options)
  details = {}
  if not taught.all():
    missing = ", ".join(names[~taught])
    details["transfer"] = {"text": f"nothing to train on for {missing}"}
  return scoring.Findings(data.test, (outcome,), details=details)


def _any(labels, names, groups) -> np.ndarray:
  """(N, G) whether a record carries any label of each group."""
  columns = {name: i for i, name in enumerate(names)}
  return np.stack(
    [labels[:, [columns[n] for n in group]].any(axis=1) for group in groups],
    axis=1,
  ).astype(np.uint8)
