"""Missing leads: what an encoder is worth when a device records only some.

The probe of complete training records, and zero-shot classification, on test
records of which only some leads are given.
"""

from __future__ import annotations

import dataclasses

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Inputs, Options, Task
from cgdmer_jax.evaluators.tasks import linear_probe, zero_shot

# All leads, and those that smaller devices record.
LEAD_SUBSETS = {
  "12_leads": LEADS,
  "6_leads": ("I", "II", "III", "aVR", "aVL", "aVF"),
  "3_leads": ("I", "II", "V2"),
  "1_lead": ("I",),
}


def run(inputs: Inputs, options: Options) -> Findings:
  """Scores probe and zero-shot on each subset of leads.

  Without a report encoder there is no zero-shot; the details say so.
  """
  representation = features.choose(options.representation)[0]
  whole = linear_probe.read(inputs, representation)
  probes = linear.fit(whole, 1.0)
  outcomes, details = [], {}
  for name, leads in LEAD_SUBSETS.items():
    outcomes.append(
      linear.score(
        linear_probe.read(inputs, representation, leads),
        probes,
        f"probe_100_{name}",
        min_positives=options.min_positives,
        num_bootstrap=options.num_bootstrap,
      )
    )
  try:
    for name, leads in LEAD_SUBSETS.items():
      (outcome,) = zero_shot.run(inputs, options, leads).outcomes
      outcomes.append(dataclasses.replace(outcome, setting=f"zero_shot_{name}"))
  except UserError as error:
    details["zero_shot"] = {"text": f"no zero-shot: {error}"}
  return Findings(whole.test, tuple(outcomes), details=details)


def heading(setting: str) -> str:
  """`probe_100_3_leads` as "probe 100 % 3 leads"."""
  words = setting.replace("probe_100", "probe 100 %")
  return words.replace("zero_shot", "zero-shot").replace("_", " ")


TASK = Task(
  name="missing_leads",
  run=run,
  order=80,
  labels="first",
  options=("representation", "prompts", "min_positives"),
  own_table=True,
  heading=heading,
)
