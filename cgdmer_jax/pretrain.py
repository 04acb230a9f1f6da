"""The pretraining loop.

Order of one step, which resuming relies on:
batch -> step -> preemption check -> log -> save -> validate -> stop.
Checkpoint k has seen exactly k updates; the batch after restoring it is batch
k. Everything random is derived from (seed, step).
"""

from __future__ import annotations

import collections
import functools
import pathlib
import signal
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import (
  checkpoint,
  distributed,
  evaluate,
  experiment,
  figures,
  metrics,
  optim,
  progress,
  reconstruction,
  report_tower,
  sharding,
  train_step,
)
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import pipeline, reports
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer


class Diverged(RuntimeError):
  """A loss term or the gradient is no longer finite."""


def run(config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path):
  """Pretrains (or resumes) in `workdir`, then evaluates.

  Args:
    config: see `configs/pretrain.py`.
    workdir: of the run; the same one resumes it.
    data_dir: where data sets are.
  """
  config = report_tower.resolve(config, workdir)
  _check_schedule(config.train)
  data = config.data
  source = EcgSource(data.dataset, data.train, data_dir)
  validation = EcgSource(data.dataset, data.validation, data_dir)
  experiment.check_source(source, config)
  train_step.check_config(config, source.num_samples)
  mesh = sharding.make_mesh(config.mesh)
  index = index_lib.load_index(source)
  with distributed.first_process_first("prepare the workdir"):
    workdir.mkdir(parents=True, exist_ok=True)
    experiment.write_config(workdir, config)
    tokenizer = experiment.prepare_tokenizer(workdir, index.reports, config)
  model = train_step.build_model(
    config, source.num_samples, reports.vocabulary(tokenizer)
  )
  optimizer = optim.make_optimizer(config, config.train.steps)
  state, abstract = train_step.create_state(
    model, config, optimizer, source.num_samples, mesh
  )
  logging.info("%d records, %s", len(source), dict(mesh.shape))
  _log_sizes(state, model)
  step_fn = jax.jit(
    train_step.make_train_step(model, config, optimizer, mesh),
    donate_argnums=0,
    out_shardings=(jax.tree.map(lambda x: x.sharding, abstract), None),
  )
  with checkpoint.Checkpointer(
    workdir, keep=config.train.keep_checkpoints
  ) as checkpointer:
    restored = checkpointer.restore_latest(abstract)
    if restored is not None:
      state = restored[1]
      logging.info("resuming %s at step %d", workdir, restored[0])
    elif report_tower.is_pretrained(config):
      state = report_tower.import_weights(state, config)

    def read_reports(source, index):
      return report_tower.read_reports(
        config, model, state.params, source, index, tokenizer, mesh
      )

    report_rows = read_reports(source, index)
    validation_index = index_lib.load_index(validation)
    validation_rows = read_reports(validation, validation_index)
    validate = _validator(
      model, config, validation, validation_index, validation_rows, mesh
    )
    batches = pipeline.train_batches(
      source,
      index.report_ids,
      report_rows.rows,
      batch_size=config.train.batch_size,
      seed=config.seed,
      start_step=int(state.step),
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      num_workers=config.data.num_workers,
    )
    state = _train(
      config,
      workdir,
      state,
      functools.partial(_step, step_fn, report_rows, mesh),
      batches,
      validate,
      checkpointer,
    )
  if int(state.step) < config.train.steps:
    return  # preempted; the same command goes on
  trained = experiment.Experiment(
    config.recipe,
    config,
    model,
    state.params,
    tokenizer,
    str(workdir / "checkpoints" / str(config.train.steps)),
    config.train.steps,
  )
  if jax.process_index() == 0:
    rows = metrics.read_metrics(workdir)
    if rows:
      figures.save(figures.loss_curves(rows), workdir / "figures/loss.png")
  if model.reconstruct and config.train.steps:
    reconstruction.draw(trained, validation, workdir / "figures")
  tasks = [
    task
    for task in config.evaluation.tasks
    if model.use_report or task != "zero_shot"
  ]
  if tasks:
    evaluate.evaluate(
      trained, config.evaluation, tasks, mesh, workdir, data_dir
    )


def _check_schedule(train: ConfigDict) -> None:
  """Raises UserError for a number of steps or records that cannot be."""
  for name, value in train.items():
    least = 0 if name == "steps" else 1
    if value < least:
      raise UserError(f"train.{name}={value}; it must be at least {least}")


def _log_sizes(state: train_step.TrainState, model: cgdmer.CGDMER) -> None:
  """Logs how many parameters there are, and what memory they take."""
  trained, frozen = optim.split(state.params, model.num_frozen)

  def size(tree):
    return sum(x.size for x in jax.tree.leaves(tree))

  def mib(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree)) / 2**20

  logging.info(
    "%d parameters train (%.1f MiB, their optimizer %.1f MiB), %d are frozen "
    "(%.1f MiB)",
    size(trained),
    mib(trained),
    mib(state.opt_state),
    size(frozen),
    mib(frozen),
  )


def _step(step_fn, report_rows, mesh, state, batch):
  """One step on a batch of host arrays."""
  batch = sharding.put_batch(batch, mesh)
  return step_fn(state, batch | report_rows.resident)


def _train(
  config, workdir, state, step_fn, batches, validate, checkpointer
) -> train_step.TrainState:
  """The loop; returns the state after the last step that was made."""
  train = config.train
  start = int(state.step)
  window: list[tuple[int, Any]] = []  # metrics that are still on the device
  logs = jax.process_index() == 0
  with (
    _StopSignal() as stop,
    metrics.MetricWriter(workdir, start) as writer,
    progress.Progress(train.steps, start, train.batch_size) as bar,
  ):
    for step in range(start + 1, train.steps + 1):
      batch = next(batches)
      with jax.profiler.StepTraceAnnotation("train", step_num=step):
        state, values = step_fn(state, batch)
      window.append((step, values))
      shown = None
      stops = stop.asked or checkpointer.reached_preemption(step)
      last = step == train.steps
      saves = stops or last or step % train.checkpoint_every == 0
      if saves or step % train.log_every == 0:
        shown = _mean_metrics(window)
        if logs:
          writer.write(step, {f"train/{k}": v for k, v in shown.items()})
      bar.update(step, shown)
      if saves:
        checkpointer.save(step, state)
      if last or step % train.validate_every == 0:
        with bar.paused():
          values = validate(state.params)
        if logs and values:
          writer.write(step, {f"validation/{k}": v for k, v in values.items()})
      if stops:
        checkpointer.wait()
        logging.info("stopped at step %d; the same command resumes", step)
        break
  batches.close()
  return state


def _mean_metrics(window: list[tuple[int, Any]]) -> dict[str, float]:
  """Means over the steps since the last log; empties the window.

  Raises:
    Diverged: a value is not finite.
  """
  sums = collections.defaultdict(float)
  for step, values in window:
    for name, value in jax.device_get(values).items():
      if not np.isfinite(value):
        raise Diverged(
          f"step {step}: {name} is {value}; nothing was saved after it. Lower "
          "optim.lr, or restart from the last checkpoint with another seed"
        )
      sums[name] += float(value)
  count = len(window)
  window.clear()
  return {name: total / count for name, total in sorted(sums.items())}


def _validator(model, config, source, index, report_rows, mesh):
  """Returns `validate(params)`: mean loss terms over the validation split.

  Masks are the same every time. The contrastive terms depend on the batch, so
  it has the training size; the records of an incomplete last batch are left
  out, never padded.
  """

  @jax.jit
  def terms(params, batch, number):
    key = train_step.step_key(config.seed, number)
    return train_step.loss_terms(model, config, params, batch, key, mesh)

  def validate(params) -> dict[str, float]:
    values = []
    batches = pipeline.eval_batches(
      source,
      batch_size=config.train.batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    for number, batch in enumerate(batches):
      if (number + 1) * config.train.batch_size > len(source):
        break
      del batch["valid"]
      batch |= report_rows.rows(index.report_ids[batch.pop("index")])
      batch = sharding.put_batch(batch, mesh) | report_rows.resident
      values.append(terms(params, batch, number))
    values = jax.device_get(values)
    return {k: float(np.mean([v[k] for v in values])) for k in values[0]}

  if len(source) < config.train.batch_size:
    raise UserError(
      f"{source.name} {source.split} has {len(source)} records, fewer than "
      f"train.batch_size={config.train.batch_size}; reduce the batch size"
    )
  return validate


class _StopSignal:
  """SIGTERM asks for a checkpoint and an orderly end; a context manager.

  With `jax.distributed` the preemption service listens instead, so that all
  processes stop at the same step.
  """

  asked = False

  def __enter__(self) -> _StopSignal:
    self._old = None
    if jax.process_count() == 1:
      self._old = signal.signal(signal.SIGTERM, self._ask)
    return self

  def _ask(self, *_) -> None:
    self.asked = True

  def __exit__(self, *_) -> None:
    if self._old is not None:
      signal.signal(signal.SIGTERM, self._old)
