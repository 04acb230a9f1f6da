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

from cgdmer_jax import sharding
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.encoders import features, parse
from cgdmer_jax.evaluators.scores import results, summary
from cgdmer_jax.evaluators.tasks import adapters as tasks_lib

# Data sets with labels, in the order of the tables.
_KNOWN = ("synthetic_ecg", "ptb_xl", "cpsc2018", "csn", "mimic_iv_ecg")


def run(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> bool:
  """Evaluates `config.encoders`; True at its end."""
  mesh = sharding.make_mesh(config.mesh)
  options = config.evaluation
  found = parse.parse(config.encoders, mesh, options.batch_size)
  evaluate(found, options, mesh, workdir, data_dir)
  return True


def evaluate(
  encoders: Sequence[features.Encoder],
  options: ConfigDict,
  mesh: jax.sharding.Mesh,
  workdir: pathlib.Path,
  data_dir: pathlib.Path,
) -> None:
  """Does every task with every encoder on every data set, and compares.

  Writes `features/`, `results/` and `figures/` below `workdir`; see
  `summary.write`.

  Args:
    encoders: to be compared.
    options: `config.evaluation`.
    mesh: devices.
    workdir: where results go.
    data_dir: where data sets are.

  Raises:
    UserError: a data set, label set, task or encoder that does not exist; or
      not a single task could be done.
  """
  unknown = set(options.tasks) - set(tasks_lib.TASKS)
  if unknown:
    raise UserError(
      f"unknown task {', '.join(sorted(unknown))}; known: "
      + ", ".join(tasks_lib.TASKS)
    )
  every = [
    tasks_lib.Data(name, options, data_dir, mesh)
    for name in _datasets(options.datasets, data_dir)
  ]
  for label_set in options.label_sets:
    if not any(label_set in data.label_sets for data in every):
      known = dict.fromkeys(name for data in every for name in data.label_sets)
      raise UserError(
        f"{', '.join(data.name for data in every)} has no label set"
        f" {label_set!r}; it has {', '.join(known)}"
      )
  for data in every:
    corpus = data.name.split("/")[0]
    data.others = [d for d in every if d.name.split("/")[0] != corpus]
  found: list[results.Result] = []
  not_done: list[summary.NotDone] = []
  for data in every:
    for encoder in encoders:
      store = features.Store(encoder, workdir / "features")
      for task, label_set, source in _todo(data, options):
        try:
          found.append(_once(store, data, task, label_set, source, workdir))
        except UserError as error:
          topic = _topic(label_set, source)
          where = (encoder.identity.name, task, data.name, topic)
          not_done.append(summary.NotDone(*where, str(error)))
          logging.warning("not done: %s: %s", " ".join(where), error)
  if not found:
    raise UserError(not_done[0].reason if not_done else "nothing to evaluate")
  if jax.process_index() == 0:
    summary.write(workdir, found, not_done, options.num_bootstrap)


def _datasets(names: str, data_dir: pathlib.Path) -> list[str]:
  """The data sets of a list of names; of an empty one, all that are built."""
  words = [w for w in map(str.strip, names.split(",")) if w]
  if words:
    return words
  built = [
    f"{name}/{config.name}"
    for name in _KNOWN
    for config in sorted(data_dir.glob(f"{name}/*"))
    if list(config.glob("*/dataset_info.json"))
  ]
  if not built:
    raise UserError(
      f"no data set in {data_dir}; build one: python -m data_builders.build"
      " --dataset=synthetic_ecg/demo"
    )
  return built


def _todo(
  data: tasks_lib.Data, options: ConfigDict
) -> Iterator[tuple[str, str, tuple]]:
  """Tasks with the label sets that they are done on, and learn from."""
  for name in options.tasks:
    which = tasks_lib.TASKS[name].labels
    label_sets = tuple(data.label_sets)
    if options.label_sets:
      label_sets = tuple(n for n in options.label_sets if n in label_sets)
    elif which == "first":
      label_sets = label_sets[:1]
    for label_set in label_sets if which else ("",):
      if name == "transfer":
        for source in data.teachers(label_set) or [()]:
          yield name, label_set, source
      else:
        yield name, label_set, ()


def _topic(label_set: str, source: tuple) -> str:
  """What labels a result is about, in words."""
  if not source:
    return label_set
  other, of_source = source
  return f"{label_set} from {other.name} {of_source}"


def _once(store, data, task, label_set, source, workdir) -> results.Result:
  """The result of a task, from its file if it has been done before."""
  used = ("num_bootstrap", *tasks_lib.TASKS[task].options)
  options = {k: v for k, v in data.options.to_dict().items() if k in used}
  read = None  # sentences, not the name of their file
  if "prompts" in used:
    names = data.label_sets[label_set]
    try:
      read = prompts.load(label_set, names, data.options.prompts)
    except UserError as error:  # raised again by a task that needs them
      read = str(error)
  topic, teacher = _topic(label_set, source), source[0] if source else data
  key = results.make_key(
    task,
    topic,
    store.encoder.identity.fingerprint,
    {k: v for k, v in options.items() if k != "prompts"},
    read,
    [
      teacher.source("train").fingerprint,
      teacher.source("validation").fingerprint,
      data.test.fingerprint,
    ],
  )
  # Another name, in other company, or another place is the same encoder.
  identity = store.encoder.identity
  found = results.find(workdir, task, data.name, topic, key)
  if found:
    try:
      return dataclasses.replace(results.read(found), encoder=identity)
    except UserError as error:
      logging.warning("%s; it is done again", error)
  logging.info("%s of %s on %s %s", task, identity.name, data.name, topic)
  result = results.Result(
    encoder=identity,
    task=task,
    dataset=data.name,
    split=data.test.split,
    label_set=topic,
    label_mode=data.test.label_mode,
    key=key,
    options=options,
    findings=tasks_lib.TASKS[task].run(store, data, label_set, *source),
  )
  if jax.process_index() == 0:
    results.write(workdir, result)
  return result
