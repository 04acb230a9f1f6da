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
from typing import Any

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.encoders import features as features_lib
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Findings, TestSet
from cgdmer_jax.evaluators.task import Inputs, Options, Source, Task

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


def common_findings(
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


def sources(
  data: DataSet, label_set: str, others: Sequence[DataSet]
) -> list[Source]:
  """Label sets of other data sets that know findings of this one."""
  names = data.label_sets[label_set]
  return [
    Source(other, source_set)
    for other in others
    for source_set in other.label_sets
    if common_findings(source_set, label_set, names)
  ]


def transfer(
  features: Mapping[str, np.ndarray],
  labels: Mapping[str, np.ndarray],
  source_names: Sequence[str],
  test: tuple[TestSet, np.ndarray],
  mapping: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]],
  setting: str,
  **options: Any,
) -> Findings:
  """Trains on the source's findings, scores the target's.

  Args:
    features: "train", "validation" of the source, "test" of the target
      -> (N, D).
    labels: "train", "validation" -> (N, L) 0 or 1.
    source_names: L labels of the source.
    test: what `scoring.make_test_set` makes of the target's own labels.
    mapping: see `common_findings`.
    setting: name of the outcome.
    **options: see `scoring.evaluate`.

  Raises:
    UserError: no finding has a positive and a negative to train on.
  """
  target, belongs = test
  x, y = {}, {}
  groups = [ours for ours, _ in mapping.values()]
  for split in ("train", "validation"):
    x[split], present = linear.belonging(
      split, features[split], labels[split], source_names
    )
    y[split] = _carries_any(present, source_names, groups)
  positives = y["train"].sum(axis=0)
  taught = (positives > 0) & (positives < len(y["train"]))
  if not taught.any():
    raise UserError(
      f"no finding of {', '.join(mapping)} has positives to train on"
    )
  names = np.array(list(mapping))
  groups = [theirs for _, theirs in mapping.values()]
  present = _carries_any(target.labels, target.label_names, groups)
  data = linear.Data(
    {**x, "test": features["test"][belongs]},
    {split: carried[:, taught] for split, carried in y.items()},
    TestSet(
      target.record_ids,
      target.subjects,
      present[:, taught],
      tuple(names[taught].tolist()),
    ),
  )
  outcome = linear.score(data, linear.fit(data, 1.0), setting, **options)
  details = {}
  if not taught.all():
    missing = ", ".join(names[~taught])
    details["transfer"] = {"text": f"nothing to train on for {missing}"}
  return Findings(data.test, (outcome,), details=details)


def _carries_any(
  labels: np.ndarray, names: Sequence[str], groups: Sequence[Sequence[str]]
) -> np.ndarray:
  """Whether a record carries any label of each group.

  Args:
    labels: (N, L) 0 or 1.
    names: L names.
    groups: names of the labels of each of G groups.

  Returns:
    uint8 (N, G).
  """
  columns = {name: i for i, name in enumerate(names)}
  return np.stack(
    [labels[:, [columns[n] for n in group]].any(axis=1) for group in groups],
    axis=1,
  ).astype(np.uint8)


def run(inputs: Inputs, options: Options) -> Findings:
  """Probes the findings of a label set of another data set.

  Raises:
    UserError: there is no such label set, or see `transfer`.
  """
  source, data, label_set = inputs.source, inputs.data, inputs.label_set
  if source is None:
    raise UserError(
      f"nothing to transfer to {label_set!r}: no other data set of this"
      " evaluation has findings in common with it"
    )
  other, index = source.data, data.index("test")
  representation = features_lib.choose(options.representation)[0]
  records = {
    "train": other.source("train"),
    "validation": other.source("validation"),
    "test": data.test,
  }
  return transfer(
    {
      split: inputs.store.represent(chosen, representation)
      for split, chosen in records.items()
    },
    {
      split: other.index(split).labels[source.label_set]
      for split in ("train", "validation")
    },
    other.label_sets[source.label_set],
    scoring.make_test_set(
      index.subject_ids, index.labels[label_set], inputs.label_names, index.ids
    ),
    common_findings(source.label_set, label_set, inputs.label_names),
    f"from_{other.name.replace('/', '_')}_{source.label_set}",
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )


TASK = Task(
  name="transfer",
  run=run,
  order=40,
  options=("representation", "min_positives"),
  sources=sources,
  own_table=True,
  label_figure=4,
)
