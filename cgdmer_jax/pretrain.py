"""The pretraining loop.

Order of one step, which resuming relies on:
batch -> step -> preemption check -> log -> save -> validate -> stop.
Checkpoint k has seen exactly k updates; the batch after restoring it is batch
k. Everything random is derived from (seed, step).
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import (
  buckets,
  command,
  disk,
  distributed,
  evaluate,
  paths,
  profiling,
  progress,
  sharding,
  trained_model,
  warm_start,
)
from cgdmer_jax.config import saved
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import pipeline
from cgdmer_jax.data import reports as reports_lib
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import pretrained
from cgdmer_jax.evaluators.scores import summary
from cgdmer_jax.figures import curves, reconstructions, style
from cgdmer_jax.pages import report
from cgdmer_jax.train import (
  checkpoint,
  checks,
  frozen_reports,
  metrics,
  optim,
  report_checkpoint,
  setup,
  stop_signal,
  train_step,
)
from cgdmer_jax.train import tokenizer as tokenizer_lib
from cgdmer_jax.train.step_program import StepProgram


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A training, and what it reads.

  Attributes:
    training: model, optimizer and step.
    source: the records to train on.
    index: their reports, labels and patients.
    tokenizer: turns their reports into tokens.
    report: `config.report`.
    batch_size: records of the global batch.
    num_workers: reading processes.
  """

  training: setup.Training
  source: EcgSource
  index: index_lib.RecordIndex
  tokenizer: Any
  report: ConfigDict
  batch_size: int
  num_workers: int

  def read_reports(
    self, params: Any, source: EcgSource, index: index_lib.RecordIndex
  ) -> frozen_reports.Reports:
    """Reads the reports of a split; frozen layers are those of `params`."""
    return frozen_reports.read(
      self.training,
      self.report,
      self.batch_size,
      params,
      source,
      index,
      self.tokenizer,
    )

  def host_batches(
    self, reports: frozen_reports.Reports, start_step: int
  ) -> Iterator[pipeline.HostBatch]:
    """Training batches of this process, on the host; close them after use."""
    return pipeline.train_batches(
      self.source,
      self.index.report_ids,
      reports.rows,
      batch_size=self.batch_size,
      seed=self.training.seed,
      start_step=start_step,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
      num_workers=self.num_workers,
    )

  def put(
    self, reports: frozen_reports.Reports
  ) -> Callable[[pipeline.HostBatch], Batch]:
    """Returns a function that puts host arrays on the devices."""
    mesh = self.training.mesh
    return lambda arrays: Batch(
      **sharding.put_batch(arrays, mesh), **reports.resident
    )

  def batches(
    self, reports: frozen_reports.Reports, start_step: int
  ) -> Iterator[Batch]:
    """Training batches on the devices, made ahead; close them after use."""
    return pipeline.prefetch(
      self.host_batches(reports, start_step), self.put(reports)
    )


def prepare(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> tuple[Prepared, ConfigDict]:
  """Opens the data and makes the model; writes config and tokenizer.

  Args:
    config: see `configs/pretrain.py`.
    workdir: folder of the run; made if missing.
    data_dir: folder of the built data sets.

  Returns:
    The training with its data, and the configuration with the architecture of
    a pretrained report encoder.

  Raises:
    UserError: there are no such data, or the configuration does not fit.
  """
  is_begun = bool(checkpoint.steps(workdir))
  before = saved.read(workdir) if is_begun else None
  config = report_checkpoint.resolve(config, before)
  source = EcgSource(config.data.dataset, config.data.train, data_dir)
  trained_model.check_sampling_rate(
    source.name, source.sampling_rate, config.preprocess
  )
  checks.check(config, source.num_samples)
  index = index_lib.load_index(source)
  given = None if is_begun else warm_start.tokenizer(*_start(config))
  with distributed.first_process_first("prepare the workdir"):
    buckets.follow(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    if saved.write(workdir, config, is_begun):
      shutil.rmtree(workdir / "tokenizer", ignore_errors=True)
    tokenizer = tokenizer_lib.prepare(workdir, index.reports, config, given)
    buckets.upload(workdir)
  logging.info("%d records to train on", len(source))
  training = setup.assemble(config, reports_lib.vocabulary(tokenizer))
  prepared = Prepared(
    training,
    source,
    index,
    tokenizer,
    config.report,
    config.train.batch_size,
    config.data.num_workers,
  )
  return prepared, config


def run(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> bool:
  """Pretrains (or resumes) in `workdir`, then evaluates; see `prepare`.

  Returns:
    Whether the run is complete. If it was stopped, the same call resumes it.
  """
  profiling.check(config.train.steps)
  checks.check_values(config)  # before data are looked for
  if config.evaluation.tasks:  # a missing one would stop the run at its end
    evaluate.open_data_sets(config.evaluation, data_dir)
  validation = EcgSource(config.data.dataset, config.data.validation, data_dir)
  prepared, config = prepare(config, workdir, data_dir)
  schedule = config.train
  keep = schedule.keep_checkpoints
  if not paths.address(workdir):
    leaves = jax.tree.leaves(prepared.training.abstract)
    size = sum(x.size * x.dtype.itemsize for x in leaves)
    missing = keep + 1 - len(checkpoint.steps(workdir))
    disk.check_free(workdir, missing * size, "the checkpoints")
  with checkpoint.Checkpointer(workdir, keep=keep) as checkpointer:
    state = _first_state(prepared.training, checkpointer, config)
    if int(state.step) < schedule.steps:
      (workdir / "complete").unlink(missing_ok=True)  # it is prolonged
    rows = prepared.read_reports(state.params, prepared.source, prepared.index)
    validate = _validator(prepared, validation, state.params)
    batches = prepared.batches(rows, int(state.step))
    state = _train(
      prepared.training.step,
      config,
      workdir,
      state,
      batches,
      validate,
      checkpointer,
    )
  if int(state.step) < schedule.steps:
    return False
  trained = trained_model.TrainedModel(
    config.recipe,
    config,
    prepared.training.objective.forward,
    state.params,
    lambda: prepared.tokenizer,
    str(workdir / "checkpoints" / str(schedule.steps)),
    schedule.steps,
  )
  _finish(trained, validation, config.evaluation, workdir, data_dir)
  return True


def _start(config: ConfigDict) -> tuple[Any, ...]:
  """The arguments of `warm_start.load`."""
  mesh = sharding.make_mesh(config.mesh)
  return config.init_from, config.init_parts, config.preprocess, mesh


def _first_state(
  training: setup.Training,
  checkpointer: checkpoint.Checkpointer,
  config: ConfigDict,
) -> train_step.TrainState:
  """The state of the newest checkpoint, or a fresh one."""
  restored = checkpointer.restore_latest(training.abstract)
  if restored is None:
    start = warm_start.load(*_start(config))
    state = training.fresh_state()
    return warm_start.adopt(state, start, config.init_parts) if start else state
  step, state = restored
  logging.info("resuming at step %d", step)
  return state


def _finish(
  trained: trained_model.TrainedModel,
  validation: EcgSource,
  evaluation: ConfigDict,
  workdir: pathlib.Path,
  data_dir: pathlib.Path,
) -> None:
  """Draws figures of the run, evaluates the trained model, writes the page."""
  if jax.process_index() == 0 and (lines := metrics.read_metrics(workdir)):
    style.save(curves.loss_curves(lines), workdir / "figures/loss.png")
  if trained.model.reconstruct and trained.step:
    reconstructions.draw(trained, validation, workdir / "figures")
  if evaluation.tasks:
    evaluate.evaluate(
      pretrained.beside_random(trained, workdir, evaluation.batch_size),
      evaluate.open_data_sets(evaluation, data_dir),
      evaluation,
      workdir,
    )
  elif jax.process_index() == 0:
    report.write(workdir, (), {})
  if jax.process_index() == 0 and trained.step:
    with metrics.Writers(
      workdir, trained.step, saved.to_json(trained.config)
    ) as writer:
      for path in sorted((workdir / "figures").glob("*.png")):
        writer.figure(trained.step, path)
      writer.write(trained.step, summary.scores(workdir, trained.name))


def _train(
  step_program: StepProgram,
  config: ConfigDict,
  workdir: pathlib.Path,
  state: train_step.TrainState,
  batches: Iterator[Batch],
  validate: Callable[[Any], dict[str, float]],
  checkpointer: checkpoint.Checkpointer,
) -> train_step.TrainState:
  """Runs the loop; returns the state after the last step that was made."""
  start, train = int(state.step), config.train
  learning_rate = optim.warmup_cosine(
    config.optim.lr, config.optim, train.steps
  )
  pace = metrics.Pace(start, train.batch_size)
  logs = jax.process_index() == 0  # only process 0 writes
  means = metrics.Means()
  unread = None  # step and metrics that are still on the device

  def read(step, values) -> None:
    """Waits for the metrics of a step, and shows them."""
    shown = None
    means.add(step, values)
    if step in saved_steps or step % train.log_every == 0:
      shown = means.take()
      if logs:
        shown["learning_rate"] = float(learning_rate(step - 1))
        scalars = {f"train/{k}": v for k, v in shown.items()}
        writer.write(step, scalars | pace.take(step))
    bar.update(step, shown)

  saved_steps = set()
  with (
    contextlib.closing(batches),
    stop_signal.StopSignal() as stop,
    (
      metrics.Writers(workdir, start, saved.to_json(config))
      if logs
      else contextlib.nullcontext()
    ) as writer,
    progress.Progress(train.steps, start, train.batch_size) as bar,
    profiling.Profile(workdir if logs else None, start) as profile,
  ):
    for step in range(start + 1, train.steps + 1):
      state, values = profile.step(step, step_program, state, batches)
      if unread:  # one step late, while the devices run the next one
        read(*unread)
      unread = step, values
      stops = stop.asked or checkpointer.reached_preemption(step)
      last = step == train.steps
      if stops or last or step % train.checkpoint_every == 0:
        saved_steps.add(step)
        read(*unread)  # raises before a state that is not finite is saved
        unread = None
        buckets.upload(workdir)  # a checkpoint is never ahead of its metrics
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


def _validator(
  prepared: Prepared, source: EcgSource, params: Any
) -> Callable[[Any], dict[str, float]]:
  """Returns `validate(params)`: mean loss terms over the validation split.

  Masks are the same every time. The contrastive terms depend on the size of the
  batch, so it is that of training; an incomplete last batch is left out.
  """
  batch_size = prepared.batch_size
  if len(source) < batch_size:
    raise UserError(
      f"{source.name} {source.split} has {len(source)} records, fewer than "
      f"train.batch_size={batch_size}; reduce the batch size"
    )
  training = prepared.training
  index = index_lib.load_index(source)
  reports = prepared.read_reports(params, source, index)
  put = prepared.put(reports)

  @jax.jit
  def terms(params, batch, number):
    key = train_step.step_key(training.seed, number)
    return training.objective.terms(params, batch, key)

  def validate(params: Any) -> dict[str, float]:
    values = []
    batches = pipeline.eval_batches(
      source,
      batch_size=batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )
    for number, batch in enumerate(batches):
      if (number + 1) * batch_size > len(source):
        break
      del batch["valid"]
      batch |= reports.rows(index.report_ids[batch.pop("index")])
      values.append(terms(params, put(batch), number))
    values = jax.device_get(values)
    return {k: float(np.mean([v[k] for v in values])) for k in values[0]}

  return validate


if __name__ == "__main__":
  command.stop("no command; use python -m cgdmer_jax.main --config=pretrain")
