"""The pretraining loop.

Order of one step, which resuming relies on:
batch -> step -> preemption check -> log -> save -> validate -> stop.
Checkpoint k has seen exactly k updates; the batch after restoring it is batch
k. Everything random is derived from (seed, step).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import signal
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import distributed, evaluate, progress, sharding
from cgdmer_jax import trained_model as experiment
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import pipeline, reports
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.figures import restored as reconstruction
from cgdmer_jax.figures import results as figures
from cgdmer_jax.train import (
  checkpoint,
  metrics,
  objective,
  report_tower,
  train_step,
)
from cgdmer_jax.train import setup as training_lib


class Diverged(UserError):
  """A loss term or the gradient is no longer finite."""


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A training, and what it reads.

  Attributes:
    training: model, optimizer and step.
    source: the records to train on.
    index: of them.
    tokenizer: of the reports.
  """

  training: training_lib.Training
  source: EcgSource
  index: index_lib.RecordIndex
  tokenizer: Any

  def read_reports(self, params, source, index) -> report_tower.Reports:
    """The reports of a split; frozen layers are those of `params`."""
    config, model = self.training.config, self.training.model
    return report_tower.read_reports(
      config, model, params, source, index, self.tokenizer, self.training.mesh
    )

  def host_batches(self, reports: report_tower.Reports, start_step: int):
    """Training batches of this process, on the host; to be closed."""
    config = self.training.config
    return pipeline.train_batches(
      self.source,
      self.index.report_ids,
      reports.rows,
      batch_size=config.train.batch_size,
      seed=config.seed,
      start_step=start_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      num_workers=config.data.num_workers,
    )

  def put(self, reports: report_tower.Reports):
    """Returns a function that takes host arrays to the devices."""
    mesh = self.training.mesh
    return lambda batch: sharding.put_batch(batch, mesh) | reports.resident

  def batches(self, reports: report_tower.Reports, start_step: int):
    """Training batches on the devices, made ahead; to be closed."""
    return pipeline.prefetch(
      self.host_batches(reports, start_step), self.put(reports)
    )


def prepare(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> Prepared:
  """Opens the data and makes the model; writes config and tokenizer.

  Args:
    config: see `configs/pretrain.py`.
    workdir: of the run; made if missing.
    data_dir: where data sets are.

  Raises:
    UserError: no such data, or the configuration does not fit.
  """
  config = report_tower.resolve(config, workdir)
  _check_schedule(config.train)
  source = EcgSource(config.data.dataset, config.data.train, data_dir)
  experiment.check_source(source, config)
  train_step.check_config(config, source.num_samples)
  index = index_lib.load_index(source)
  with distributed.first_process_first("prepare the workdir"):
    workdir.mkdir(parents=True, exist_ok=True)
    experiment.write_config(workdir, config)
    tokenizer = experiment.prepare_tokenizer(workdir, index.reports, config)
  logging.info("%d records", len(source))
  training = training_lib.assemble(
    config, source.num_samples, reports.vocabulary(tokenizer)
  )
  return Prepared(training, source, index, tokenizer)


def run(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> bool:
  """Pretrains (or resumes) in `workdir`, then evaluates; see `prepare`.

  Returns:
    Whether it came to the end. If not it was stopped; the same call goes on.
  """
  validation = EcgSource(config.data.dataset, config.data.validation, data_dir)
  prepared = prepare(config, workdir, data_dir)
  training = prepared.training
  config, model = training.config, training.model
  with checkpoint.Checkpointer(
    workdir, keep=config.train.keep_checkpoints
  ) as checkpointer:
    restored = checkpointer.restore_latest(training.abstract)
    if restored is None:
      state = training.fresh_state()
    else:
      state = restored[1]
      logging.info("resuming %s at step %d", workdir, restored[0])
    rows = prepared.read_reports(state.params, prepared.source, prepared.index)
    validate = _validator(prepared, validation, state.params)
    batches = prepared.batches(rows, int(state.step))
    state = _train(training, workdir, state, batches, validate, checkpointer)
  if int(state.step) < config.train.steps:
    return False
  trained = experiment.Experiment(
    config.recipe,
    config,
    model,
    state.params,
    prepared.tokenizer,
    str(workdir / "checkpoints" / str(config.train.steps)),
    config.train.steps,
  )
  if jax.process_index() == 0:
    rows = metrics.read_metrics(workdir)
    if rows:
      figures.save(figures.loss_curves(rows), workdir / "figures/loss.png")
  if model.reconstruct and config.train.steps:
    reconstruction.draw(trained, validation, workdir / "figures")
  if config.evaluation.tasks:
    names = str(workdir) if config.recipe == "random" else f"{workdir},random"
    evaluate.evaluate(
      names, config.evaluation, training.mesh, workdir, data_dir
    )
  return True


def _check_schedule(train: ConfigDict) -> None:
  """Raises UserError for a number of steps or records that cannot be."""
  for name, value in train.items():
    least = 0 if name == "steps" else 1
    if value < least:
      raise UserError(f"train.{name}={value}; it must be at least {least}")


def _train(
  training, workdir, state, batches, validate, checkpointer
) -> train_step.TrainState:
  """The loop; returns the state after the last step that was made."""
  train = training.config.train
  start = int(state.step)
  logs = jax.process_index() == 0  # nobody else may open the file
  means = _Means()
  unread = None  # step and metrics that are still on the device

  def read(step, values) -> None:
    """Waits for a step, and tells of it."""
    shown = None
    means.add(step, values)
    if step in saved or step % train.log_every == 0:
      shown = means.take()
      if logs:
        writer.write(step, {f"train/{k}": v for k, v in shown.items()})
    bar.update(step, shown)

  saved = set()  # steps
  with (
    contextlib.closing(batches),
    _StopSignal() as stop,
    (
      metrics.MetricWriter(workdir, start) if logs else contextlib.nullcontext()
    ) as writer,
    progress.Progress(train.steps, start, train.batch_size) as bar,
  ):
    for step in range(start + 1, train.steps + 1):
      batch = next(batches)
      with jax.profiler.StepTraceAnnotation("train", step_num=step):
        state, values = training.step(state, batch)
      if unread:  # one step late: meanwhile the devices have the next one
        read(*unread)
      unread = step, values
      stops = stop.asked or checkpointer.reached_preemption(step)
      last = step == train.steps
      saves = stops or last or step % train.checkpoint_every == 0
      if saves:
        saved.add(step)
        read(*unread)  # nothing is saved that is not finite
        unread = None
        checkpointer.save(step, state)
      if last or step % train.validate_every == 0:
        if unread:
          read(*unread)
          unread = None
        with bar.paused():
          values = validate(state.params)
        if logs and values:
          writer.write(step, {f"validation/{k}": v for k, v in values.items()})
      if stops:
        checkpointer.wait()
        logging.info("stopped at step %d; the same command resumes", step)
        break
  return state


class _Means:
  """Means of the metrics since the last time."""

  def __init__(self):
    self._sums = collections.defaultdict(float)
    self._count = 0

  def add(self, step: int, values) -> None:
    """Waits for the metrics of a step.

    Raises:
      Diverged: a value is not finite.
    """
    for name, value in jax.device_get(values).items():
      if not np.isfinite(value):
        raise Diverged(
          f"step {step}: {name} is {value}; nothing was saved after it. Lower "
          "optim.lr, or restart from the last checkpoint with another seed"
        )
      self._sums[name] += float(value)
    self._count += 1

  def take(self) -> dict[str, float]:
    """The means; begins anew."""
    means = {k: v / self._count for k, v in sorted(self._sums.items())}
    self.__init__()
    return means


def _validator(prepared: Prepared, source: EcgSource, params):
  """Returns `validate(params)`: mean loss terms over the validation split.

  Masks are the same every time. The contrastive terms depend on the batch, so
  it has the training size; the records of an incomplete last batch are left
  out, never padded.
  """
  training = prepared.training
  config, model, mesh = training.config, training.model, training.mesh
  index = index_lib.load_index(source)
  reports = prepared.read_reports(params, source, index)
  put = prepared.put(reports)

  @jax.jit
  def terms(params, batch, number):
    key = train_step.step_key(config.seed, number)
    return objective.loss_terms(model, config, params, batch, key, mesh)

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
      batch |= reports.rows(index.report_ids[batch.pop("index")])
      values.append(terms(params, put(batch), number))
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
