"""Linear probe: what can be read off frozen features with few labels.

The protocol is told in `probes/linear.py`. The row `supervised_cnn` is a
network that was trained on the same labels from the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import embedding_map, supervised_cnn
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.scores import probe_calibration
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Inputs, Options, Task

FRACTIONS = (0.01, 0.1, 1.0)


def linear_probe(
  data: linear.Data,
  *,
  fractions: Sequence[float] = FRACTIONS,
  seeds: int = 5,
  suffix: str = "",
  **options: Any,
) -> Findings:
  """Probes the frozen features of one encoder on one label set.

  Args:
    data: records with their features, see `linear.prepare`.
    fractions: parts of the training records, in (0, 1].
    seeds: subsets drawn for each fraction below 1.
    suffix: of the names of the outcomes.
    **options: see `scoring.evaluate`.

  Returns:
    One outcome per fraction, named "probe_<percent><suffix>", with measures of
    its calibration; among the details "map", see `embedding_map.project`.

  Raises:
    UserError: an option is out of range.
  """
  outcomes, validation = [], []
  for fraction in fractions:
    probes = linear.fit(data, fraction, seeds=seeds)
    setting = f"probe_{100 * fraction:g}{suffix}"
    outcomes.append(
      linear.score(data, probes, setting, fraction=fraction, **options)
    )
    validation.append(
      np.stack([linear.predict(p, data.x["validation"]) for p in probes])
    )
  details = {"map": embedding_map.project(data.x["test"])}
  return probe_calibration.add(
    Findings(data.test, tuple(outcomes), details=details),
    *(validation, data.y["validation"]),
  )


def read(
  inputs: Inputs, representation: str, leads: Sequence[str] = LEADS
) -> linear.Data:
  """Features of all splits of a data set, for one of its label sets.

  Args:
    inputs: encoder, data set and label set.
    representation: one of `features.REPRESENTATIONS`.
    leads: those that are given of the test records; training and validation
      records are whole.

  Raises:
    UserError: see `linear.prepare` and `features.represent`.
  """
  data = inputs.data
  labels = data.labels(inputs.label_set)
  given = {"train": LEADS, "validation": LEADS, "test": leads}
  x = {
    split: inputs.store.represent(
      data.source(split), representation, given[split]
    )
    for split in labels
  }
  index = data.index("test")
  return linear.prepare(
    x, labels, index.subject_ids, inputs.label_names, index.ids
  )


def run(inputs: Inputs, options: Options) -> Findings:
  """Probes the encoder with each fraction of the training labels.

  Of several representations the first gives `probe_1`, others `probe_1_NAME`.
  One of these that the encoder does not have is left out; the details say so.
  """
  first, *others = features.choose(options.representation)

  def probe(representation: str, suffix: str) -> Findings:
    return linear_probe(
      read(inputs, representation),
      fractions=options.fractions,
      seeds=options.seeds,
      suffix=suffix,
      min_positives=options.min_positives,
      num_bootstrap=options.num_bootstrap,
    )

  findings = probe(first, "")
  outcomes, measures = findings.outcomes, findings.measures
  details = findings.details
  for name in others:
    try:
      more = probe(name, f"_{name}")
    except UserError as error:
      details[name] = {"text": f"no probe of {name}: {error}"}
      continue
    outcomes, measures = outcomes + more.outcomes, measures + more.measures
    details["calibration_probe"] = (
      more.details["calibration_probe"] | details["calibration_probe"]
    )
  return Findings(findings.test, outcomes, measures, details)


def heading(setting: str) -> str:
  """`probe_10_per_lead` as "probe 10 % per lead"."""
  name, percent, *words = setting.split("_")
  return " ".join([name, percent, "%", *words])


TASK = Task(
  name="linear_probe",
  run=run,
  order=20,
  options=("representation", "fractions", "seeds", "min_positives"),
  heading=heading,
  label_figure=1,
  baselines={supervised_cnn.NAME: supervised_cnn.run},
)
