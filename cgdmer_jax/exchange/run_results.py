"""What an evaluation has found out about one run."""

from __future__ import annotations

import pathlib

import jax
from absl import logging

from cgdmer_jax import buckets
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import tasks
from cgdmer_jax.evaluators.encoders.pretrained import Pretrained
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.evaluators.scores.results import Result


def find(
  run: pathlib.Path, evaluation: pathlib.Path, mesh: jax.sharding.Mesh
) -> list[Result]:
  """Results of the weights of a run, in the order of tasks and data sets.

  What the run was before it was trained longer is another encoder.

  Args:
    run: its workdir, or one of its checkpoints.
    evaluation: workdir of an evaluation, which may be that of the run.
    mesh: devices.
  """
  buckets.fetch(evaluation, lambda name: name.startswith("results/"))
  fingerprint = Pretrained(str(run), mesh, 1).identity.fingerprint
  order = [*tasks.TASKS]
  found, reasons = [], []
  for path in sorted((evaluation / "results").glob("*/*-*.json")):
    try:
      result = results.read(path)
    except UserError as error:
      reasons.append(str(error))
      continue
    if result.encoder.fingerprint == fingerprint and result.task in order:
      found.append(result)
  if reasons:
    logging.warning(
      "%d results are not on the card: %s", len(reasons), reasons[0]
    )
  return sorted(
    found, key=lambda r: (r.dataset, order.index(r.task), r.label_set)
  )
