"""Linear probe: what can be read off frozen features with few labels.

The protocol is told in `probes/linear.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Inputs, Options, Task

FRACTIONS = (0.01, 0.1, 1.0)


def linear_probe(
  data: linear.Data,
  *,
  fractions: Sequence[float] = FRACTIONS,
  seeds: int = 5,
  **options: Any,
) -> Findings:
  """Probes the frozen features of one encoder on one label set.

  Args:
    data: records with their features, see `linear.prepare`.
    fractions: parts of the training records, in (0, 1].
    seeds: subsets drawn for each fraction below 1.
    **options: see `scoring.evaluate`.

  Returns:
    One outcome per fraction, named "probe_<percent>".

  Raises:
    UserError: an option is out of range.
  """
  outcomes = []
  for fraction in fractions:
    probes = linear.fit(data, fraction, seeds=seeds)
    setting = f"probe_{100 * fraction:g}"
    outcomes.append(
      linear.score(data, probes, setting, fraction=fraction, **options)
    )
  return Findings(data.test, tuple(outcomes))


def read(
  inputs: Inputs, representation: str, leads: Sequence[str] = LEADS
) -> linear.Data:
  """Features of all splits of a data set, for one of its label sets.

  Args:
    inputs: encoder, data set and label set.
    representation: see `features.represent`.
    leads: those that are given of the test records; training and validation
      records are whole.

  Raises:
    UserError: see `linear.prepare` and `features.represent`.
  """
  data = inputs.data
  labels = data.labels(inputs.label_set)
  given = {"train": LEADS, "validation": LEADS, "test": leads}
  x = {
    split: features.represent(
      inputs.store.ecg(data.source(split), given[split]), representation
    )
    for split in labels
  }
  index = data.index("test")
  return linear.prepare(
    x, labels, index.subject_ids, inputs.label_names, index.ids
  )


def run(inputs: Inputs, options: Options) -> Findings:
  """Probes the encoder with each fraction of the training labels."""
  return linear_probe(
    read(inputs, options.representation),
    fractions=options.fractions,
    seeds=options.seeds,
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )


def heading(setting: str) -> str:
  """`probe_10` as "probe 10 %"."""
  return f"{setting.replace('_', ' ')} %"


TASK = Task(
  name="linear_probe",
  run=run,
  order=20,
  options=("representation", "fractions", "seeds", "min_positives"),
  heading=heading,
  label_figure=1,
)
