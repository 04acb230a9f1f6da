"""Evaluates encoders on data sets, task by task, and compares them.

What is done is kept in files and not done again: a run that was stopped goes
on, and one with more encoders, tasks or data sets adds what is missing. A task
that cannot be done with an encoder or a data set is listed with its reason; the
rest goes on.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence

import jax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import buckets, command, sharding
from cgdmer_jax.config import ranges
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set, tasks
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.encoders import features, parse
from cgdmer_jax.evaluators.scores import gathering, results, summary
from cgdmer_jax.evaluators.seen_records import SeenRecords
from cgdmer_jax.evaluators.task import Inputs, Options, Task, make_protocol
from cgdmer_jax.pages import report


def run(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> bool:
  """Evaluates `config.encoders`; True at its end. See `evaluate`."""
  ranges.check(config)
  evaluation = config.evaluation
  every = open_data_sets(evaluation, data_dir)
  mesh = sharding.make_mesh(config.mesh)
  encoders = parse.parse(config.encoders, mesh, evaluation.batch_size)
  evaluate(encoders, every, evaluation, workdir)
  return True


def open_data_sets(
  evaluation: ConfigDict, data_dir: pathlib.Path
) -> list[DataSet]:
  """The data sets to evaluate on.

  Args:
    evaluation: `config.evaluation`.
    data_dir: where data sets are.

  Raises:
    UserError: one of them, or a label set, does not exist.
  """
  every = [
    DataSet(name, evaluation, data_dir)
    for name in data_set.choose(evaluation.datasets, data_dir)
  ]
  known = dict.fromkeys(name for data in every for name in data.label_sets)
  for name in evaluation.label_sets:
    if name not in known:
      raise UserError(
        f"{', '.join(data.name for data in every)} has no label set {name!r};"
        f" it has {', '.join(known)}"
      )
  return every


def evaluate(
  encoders: Sequence[features.Encoder],
  every: Sequence[DataSet],
  evaluation: ConfigDict,
  workdir: pathlib.Path,
) -> None:
  """Does every task with every encoder on every data set, and compares.

  Writes `features/`, `results/`, `figures/` and `report.html` below `workdir`;
  see `summary.write` and `pages/report.py`. Results of earlier calls in this
  workdir are in the tables, too; see `gathering.py`.

  Args:
    encoders: to be compared.
    every: data sets, from `open_data_sets`.
    evaluation: `config.evaluation`.
    workdir: where results go.

  Raises:
    UserError: an unknown task; or not a single one could be done.
  """
  chosen = _choose_tasks(evaluation.tasks)
  done: list[results.Result] = []
  not_done: list[summary.NotDone] = []
  seen = SeenRecords()
  for task, inputs in _jobs(
    chosen, encoders, every, evaluation.label_sets, workdir / "features"
  ):
    try:
      done.append(_result(task, inputs, evaluation, workdir, seen))
    except UserError as error:
      name = inputs.store.encoder.identity.name
      where = name, task.name, inputs.data.name, inputs.topic
      not_done.append(summary.NotDone(*where, str(error)))
      logging.warning("not done: %s: %s", " ".join(where), error)
    buckets.upload(workdir)
  if not done:
    raise UserError(not_done[0].reason if not_done else "nothing to evaluate")
  if jax.process_index() == 0:
    every_result = gathering.gather(workdir, done, tuple(tasks.TASKS))
    summary.write(
      workdir, every_result, not_done, tasks.TASKS, evaluation.num_bootstrap
    )
    path = report.write(workdir, every_result, tasks.TASKS)
    print(f"page: {path}")


def _choose_tasks(names: Sequence[str]) -> list[Task]:
  """The tasks of these names; ("all",): every one, in order.

  A name may be several, separated by commas, as a command line has them.
  """
  names = [name for text in names for name in text.split(",")]
  if tuple(names) == ("all",):
    return list(tasks.TASKS.values())
  unknown = sorted(set(names) - set(tasks.TASKS))
  if unknown:
    raise UserError(
      f"unknown task {', '.join(unknown)}; known: {', '.join(tasks.TASKS)}"
    )
  return [tasks.TASKS[name] for name in names]


def _jobs(
  chosen: Sequence[Task],
  encoders: Sequence[features.Encoder],
  every: Sequence[DataSet],
  label_sets: Sequence[str],
  directory: pathlib.Path,
) -> Iterator[tuple[Task, Inputs]]:
  """All that is to be done.

  Args:
    chosen: tasks.
    encoders: encoders to be compared.
    every: data sets.
    label_sets: names of those that are asked for; none: what each task is made
      for.
    directory: where features are kept.

  Yields:
    A task, and what it works on.
  """
  for data in every:
    # Data sets of one corpus may train on what are test records here.
    others = [other for other in every if other.corpus != data.corpus]
    for encoder in encoders:
      store = features.Store(encoder, directory)
      for task in (task for task in chosen if task.run_of(encoder)):
        for name in _label_sets(task, tuple(data.label_sets), label_sets):
          sources = task.sources(data, name, others) if task.sources else []
          for source in sources or [None]:
            yield task, Inputs(store, data, name, source)


def _label_sets(
  task: Task, known: Sequence[str], asked_for: Sequence[str]
) -> Sequence[str]:
  """Names of the label sets of a data set that a task is done on."""
  if not task.labels:
    return [""]
  if asked_for:
    return [name for name in asked_for if name in known]
  return known[:1] if task.labels == "first" else known


def _result(
  task: Task,
  inputs: Inputs,
  evaluation: ConfigDict,
  workdir: pathlib.Path,
  seen: SeenRecords,
) -> results.Result:
  """The result of a task, from its file if it has been done before.

  What it says about test records that were learnt from is no part of its key:
  the data sets that were learnt from may be here today, or no longer.
  """
  inputs.check_unseen()
  options = Options(task, evaluation, inputs)
  protocol = make_protocol(task, inputs, options)
  identity = inputs.store.encoder.identity
  key = results.make_key(protocol, identity.fingerprint)
  known = _find(task, inputs, key, workdir)
  result = known or _run(task, inputs, evaluation, options, key, protocol)
  details = result.findings.details
  details = details | seen.details(inputs, result.findings)
  findings = dataclasses.replace(result.findings, details=details)
  result = dataclasses.replace(result, findings=findings)
  is_new = known is None or known.findings.details != details
  if is_new and jax.process_index() == 0:
    results.write(workdir, result)
  # Another name, in other company, or another place is the same encoder.
  return dataclasses.replace(result, encoder=identity)


def _find(
  task: Task, inputs: Inputs, key: str, workdir: pathlib.Path
) -> results.Result | None:
  """The result that an earlier evaluation has left."""
  path = results.find(workdir, task.name, inputs.data.name, inputs.topic, key)
  try:
    return results.read(path) if path else None
  except UserError as error:
    logging.warning("%s; it is done again", error)
    return None


def _run(
  task: Task,
  inputs: Inputs,
  evaluation: ConfigDict,
  options: Options,
  key: str,
  protocol: str,
) -> results.Result:
  """Does a task."""
  identity, data = inputs.store.encoder.identity, inputs.data
  logging.info(
    "%s of %s on %s %s", task.name, identity.name, data.name, inputs.topic
  )
  splits = {name: evaluation[name] for name in data_set.FIELDS}
  return results.Result(
    encoder=identity,
    task=task.name,
    dataset=data.name,
    split=data.test.split,
    label_set=inputs.topic,
    label_mode=data.test.label_mode,
    key=key,
    protocol=protocol,
    options=splits | options.configured(),
    findings=task.run_of(inputs.store.encoder)(inputs, options),
  )


if __name__ == "__main__":
  command.stop(
    "no command; use python -m cgdmer_jax.main --config=linear_probe"
  )
