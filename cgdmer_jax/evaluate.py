"""Evaluates a pretrained model on downstream tasks and writes the results.

Everything here reads frozen features; a random encoder of the same architecture
is evaluated by the same code and stands beside every result.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
import rich.console
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import experiment as experiment_lib
from cgdmer_jax import figures, sharding
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import (
  features,
  linear_probe,
  prompts,
  results,
  tables,
  zero_shot,
)
from cgdmer_jax.models import cgdmer

TASKS = ("zero_shot", "linear_probe")


def run(config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path):
  """Runs the task `config.task` on the checkpoint `config.checkpoint`."""
  source = EcgSource(
    config.evaluation.dataset, config.evaluation.test, data_dir
  )
  mesh = sharding.make_mesh(config.mesh)
  experiment = experiment_lib.load(config.checkpoint, source.num_samples, mesh)
  evaluate(
    experiment, config.evaluation, (config.task,), mesh, workdir, data_dir
  )


def evaluate(
  experiment: experiment_lib.Experiment,
  config: ConfigDict,
  tasks: Sequence[str],
  mesh: jax.sharding.Mesh,
  workdir: pathlib.Path,
  data_dir: pathlib.Path,
) -> None:
  """Evaluates an experiment beside its random twin; prints and writes tables.

  Writes `results/*.json`, `results/*.npz`, `results/tables.md` and
  `figures/auroc-*.png` below `workdir`.

  Args:
    experiment: what to evaluate.
    config: `config.evaluation`.
    tasks: some of `TASKS`.
    mesh: devices for the features.
    workdir: where results go.
    data_dir: where data sets are.

  Raises:
    UserError: the data set, a label set, a prompt, a task or the
      representation does not fit.
  """
  sources = _open_sources(tasks, config, data_dir)
  test = sources["test"]
  experiment_lib.check_source(test, experiment.config)
  sentences = {}
  if "zero_shot" in tasks:
    for label_set in config.label_sets:
      names = test.label_sets[label_set]
      sentences[label_set] = prompts.load(label_set, names, config.prompts)
  indices = {k: index_lib.load_index(s) for k, s in sources.items()}
  experiments = [experiment]
  if experiment.name != "random":
    twin = experiment_lib.random_twin(experiment, mesh, test.num_samples)
    experiments.append(twin)
  extractor = features.Extractor(experiment, mesh)
  frozen = [
    _freeze(each, extractor, sources, sentences, config.batch_size)
    for each in experiments
  ]
  documents = []
  for label_set in config.label_sets:
    per_task = []
    for task in tasks:
      score = _zero_shot if task == "zero_shot" else _linear_probe
      encoders = [
        results.Encoder(
          each.name,
          score(of_each, indices, test, label_set, sentences, config),
          each.checkpoint,
          each.step,
        )
        for each, of_each in zip(experiments, frozen, strict=True)
      ]
      result = results.make_result(
        task,
        config.dataset,
        label_set,
        encoders,
        config_hash=experiment_lib.config_hash(experiment.config),
        label_mode=test.label_mode,
        min_positives=config.min_positives,
        num_bootstrap=config.num_bootstrap,
        num_permutations=config.num_bootstrap,
      )
      if jax.process_index() == 0:
        per_task.append(results.write(workdir, result)[1])
    documents.append(per_task)
  if jax.process_index() == 0:
    _show(documents, workdir)


@dataclasses.dataclass(frozen=True)
class _Frozen:
  """What the tasks read of one encoder.

  Attributes:
    ecg: embeddings of the records of each split.
    prompts: embedding of each sentence.
  """

  ecg: dict[str, cgdmer.Embedding]
  prompts: dict[str, np.ndarray]


def _open_sources(tasks, config, data_dir) -> dict[str, EcgSource]:
  """The splits that the tasks need; UserError where one asks in vain."""
  unknown = set(tasks) - set(TASKS)
  if unknown:
    raise UserError(
      f"unknown task {', '.join(sorted(unknown))}; known: {', '.join(TASKS)}"
    )
  splits = ("test",)
  if "linear_probe" in tasks:
    splits = ("train", "validation", "test")
  sources = {
    split: EcgSource(config.dataset, config[split], data_dir)
    for split in splits
  }
  test = sources["test"]
  for name in config.label_sets:
    if name not in test.label_sets:
      raise UserError(
        f"{test.name} has no label set {name!r}; it has "
        + ", ".join(test.label_sets)
      )
  return sources


def _freeze(experiment, extractor, sources, sentences, batch_size) -> _Frozen:
  """Everything that is computed with the model, once."""
  logging.info(
    "features of the %s encoder: %d records",
    experiment.name,
    sum(map(len, sources.values())),
  )
  ecg = {
    split: extractor.ecg(experiment, source, batch_size)
    for split, source in sources.items()
  }
  texts = sorted(
    {
      text
      for of_label_set in sentences.values()
      for of_label in of_label_set.values()
      for text in of_label
    }
  )
  if not texts:
    return _Frozen(ecg, {})
  vectors = extractor.report(experiment, texts)
  return _Frozen(ecg, dict(zip(texts, vectors, strict=True)))


def _zero_shot(frozen, indices, test, label_set, sentences, config):
  classes = {
    name: np.stack([frozen.prompts[text] for text in texts])
    for name, texts in sentences[label_set].items()
  }
  index = indices["test"]
  return zero_shot.zero_shot(
    frozen.ecg["test"].shared,
    classes,
    index.labels[label_set],
    index.subject_ids,
    test.label_sets[label_set],
    record_ids=index.ids,
    min_positives=config.min_positives,
    num_bootstrap=config.num_bootstrap,
  )


def _linear_probe(frozen, indices, test, label_set, sentences, config):
  del sentences
  return linear_probe.linear_probe(
    {
      split: features.represent(z, config.representation)
      for split, z in frozen.ecg.items()
    },
    {split: index.labels[label_set] for split, index in indices.items()},
    indices["test"].subject_ids,
    test.label_sets[label_set],
    record_ids_test=indices["test"].ids,
    fractions=config.fractions,
    seeds=config.seeds,
    min_positives=config.min_positives,
    num_bootstrap=config.num_bootstrap,
  )


def _show(documents, workdir: pathlib.Path) -> None:
  """Tables to the terminal and to a file; one figure per label set."""
  console = rich.console.Console()
  texts = []
  for per_task in documents:
    table = tables.make(per_task)
    console.print(tables.to_rich(table))
    texts.append(tables.to_markdown(table))
    first = per_task[-1]
    series = {
      f"{e['name']}, {e['settings'][-1]['setting']}": e["settings"][-1]
      for e in first["encoders"]
    }
    name = f"auroc-{first['dataset'].replace('/', '-')}-{first['label_set']}"
    figures.save(
      figures.auroc_per_label(series, title=tables.topic(first)),
      workdir / "figures" / f"{name}.png",
    )
  path = workdir / "results" / "tables.md"
  results.write_atomically(path, "\n".join(texts).encode())
  console.print(f"tables: {path}\nfigures: {workdir / 'figures'}")
