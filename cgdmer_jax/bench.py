"""How fast training is: the step alone, the input alone, and both together."""

from __future__ import annotations

import contextlib
import json
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import flax
import jax
import numpy as np
import rich.console
import rich.table
from ml_collections import ConfigDict

from cgdmer_jax import command, files, pretrain, sharding
from cgdmer_jax.data import pipeline
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models.cgdmer import CGDMER
from cgdmer_jax.train import checks, flops, setup, step_program
from cgdmer_jax.train.setup import Training
from cgdmer_jax.train.train_step import TrainState

_WARM_UP = 3  # steps after compilation


def run(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> bool:
  """Measures the training of `config`; prints and writes `bench-<name>.json`.

  With a data set, three things are measured: the compiled step on a batch that
  is on the devices, the input pipeline of this process up to the host, and the
  training loop with both. Without one: the step on noise of
  `bench.num_samples` samples.

  Args:
    config: see `configs/bench.py`.
    workdir: folder of the result.
    data_dir: folder of the built data sets.

  Returns:
    True: a benchmark is never stopped before its end.
  """
  if config.data.dataset:
    training, document = _with_data(config, workdir, data_dir)
  else:
    training, document = _with_noise(config)
  document = _facts(training, config) | document
  if jax.process_index():
    return True
  path = workdir / f"bench-{config.bench.name}.json"
  files.write(path, json.dumps(document, indent=1))
  rich.console.Console().print(_table(document))
  print(f"results: {path}")
  return True


def _with_data(config, workdir, data_dir):
  prepared, config = pretrain.prepare(
    config, workdir / config.bench.name, data_dir
  )
  training, bench = prepared.training, config.bench
  size = config.train.batch_size
  state = training.fresh_state()
  rows = prepared.read_reports(state.params, prepared.source, prepared.index)
  with contextlib.closing(prepared.batches(rows, 0)) as batches:
    batch = next(batches)
  state, document = _step(training, state, batch, bench, size)
  document |= _input(
    lambda: prepared.host_batches(rows, 0),
    bench.steps,
    size,
    config.data.num_workers,
  )
  document |= _loop(
    training.step, state, lambda: prepared.batches(rows, 0), bench.steps, size
  )
  document["dataset"] = config.data.dataset
  document["samples"] = prepared.source.num_samples
  return training, document


def _with_noise(config):
  num_samples, size = config.bench.num_samples, config.train.batch_size
  checks.check(config, num_samples)
  words = config.model.report.vocab_size or config.data.vocab_size
  vocabulary = Vocabulary(words, 0, 1, 4, (0, 1, 2, 3, 4))
  training = setup.assemble(config, vocabulary)
  fields = noise(
    training.model,
    num_samples,
    size // jax.process_count(),
    config.report.max_length,
  )
  batch = Batch(**sharding.put_batch(fields, training.mesh))
  state = training.fresh_state()
  _, document = _step(training, state, batch, config.bench, size)
  return training, document | {"samples": num_samples}


def noise(
  model: CGDMER, num_samples: int, size: int, length: int
) -> pipeline.HostBatch:
  """Makes this process's part of a batch of noise, with reports of full length.

  Args:
    model: the model that reads the batch.
    num_samples: T, samples of a lead.
    size: records of this process.
    length: tokens of every report.
  """
  rng = np.random.default_rng(jax.process_index())
  shape = (size, NUM_LEADS, num_samples)
  batch = {
    "ecg": rng.integers(-500, 500, shape).astype(np.int16),
    "lead_valid": np.ones((size, NUM_LEADS), bool),
    "tokens": rng.integers(5, model.vocabulary.size, (size, length), np.int32),
    "statement": np.zeros((size, length), np.int32),
    "report": np.arange(size, dtype=np.int32),
    "has_text": np.ones(size, bool),
  }
  if model.num_frozen and model.use_report:  # their outputs are known
    width = model.config.report.width
    batch["states"] = rng.normal(size=(size, length, width)).astype(np.float32)
  return batch


def _step(
  training: Training,
  state: TrainState,
  batch: Batch,
  bench: ConfigDict,
  size: int,
) -> tuple[TrainState, dict[str, Any]]:
  """Measures the compiled step on one batch that stays on the devices."""
  program = training.step.compile(batch)
  for _ in range(_WARM_UP):
    state, metrics = training.step(state, batch)
  jax.block_until_ready(metrics)
  seconds = []
  for _ in range(bench.repeats):
    start = time.perf_counter()
    for _ in range(bench.steps):
      state, metrics = training.step(state, batch)
    jax.block_until_ready(metrics)
    seconds.append((time.perf_counter() - start) / bench.steps)
  median = statistics.median(seconds)
  operations = flops.count_step(
    training.objective, training.abstract.params, batch
  )
  document = {
    "step_ms": 1e3 * median,
    "step_ms_of_each_repeat": [1e3 * s for s in seconds],
    "step_examples_per_second": size / median,
    "flops_per_example": operations / size,
    "flops_per_second": operations / median,
    "memory_bytes": step_program.memory(training.abstract, batch, program),
  }
  peak = flops.peak(jax.devices()[0].device_kind)
  if peak and training.model.compute.dtype == "bfloat16":
    total_peak = peak * jax.device_count()
    document |= {"peak_flops_per_second": total_peak}
    document |= {"mfu": operations / median / total_peak}
  used = [d.memory_stats() for d in jax.local_devices()]
  if all(used):
    document["peak_bytes_in_use"] = max(u["peak_bytes_in_use"] for u in used)
  return state, document


def _input(
  batches: Callable[[], Iterator[pipeline.HostBatch]],
  steps: int,
  size: int,
  num_workers: int,
) -> dict[str, float]:
  """Measures the input pipeline of this process, without transfers."""
  with contextlib.closing(batches()) as host:
    for _ in range(2 + num_workers):
      next(host)  # readers start; batches made ahead do not count
    start = time.perf_counter()
    for _ in range(steps):
      next(host)
    seconds = (time.perf_counter() - start) / steps
  per_process = size // jax.process_count()
  return {"input_examples_per_second_and_process": per_process / seconds}


def _loop(
  step: step_program.StepProgram,
  state: TrainState,
  batches: Callable[[], Iterator[Batch]],
  steps: int,
  size: int,
) -> dict[str, float]:
  """Measures steps on fresh batches, as training makes them."""
  seconds = waiting = 0.0
  for _ in range(2):  # the first one compiles for each length of reports
    seconds = waiting = 0.0
    with contextlib.closing(batches()) as device_batches:
      unread = None
      for number in range(_WARM_UP + steps):
        if number == _WARM_UP:
          jax.block_until_ready(unread)
          begin, waiting = time.perf_counter(), 0.0
        asked = time.perf_counter()
        batch = next(device_batches)
        waiting += time.perf_counter() - asked
        state, values = step(state, batch)
        jax.block_until_ready(unread)
        unread = values
      jax.block_until_ready(unread)
      seconds = time.perf_counter() - begin
  return {
    "loop_examples_per_second": steps * size / seconds,
    "share_of_time_waiting_for_data": waiting / seconds,
  }


def _facts(training: Training, config: ConfigDict) -> dict[str, Any]:
  """Describes model, devices and versions of the measurement."""
  device = jax.devices()[0]
  return {
    "name": config.bench.name,
    "recipe": config.recipe,
    "batch_size": config.train.batch_size,
    "parameters": sum(
      x.size for x in jax.tree.leaves(training.abstract.params)
    ),
    "compute": config.compute.to_dict(),
    "mesh": dict(training.mesh.shape),
    "device": device.device_kind,
    "platform": device.platform,
    "devices": jax.device_count(),
    "processes": jax.process_count(),
    "versions": {
      "python": platform.python_version(),
      "jax": jax.__version__,
      "jaxlib": metadata.version("jaxlib"),
      "flax": flax.__version__,
      "cgdmer_jax": metadata.version("cgdmer-jax"),
    },
  }


def _table(document: dict[str, Any]) -> rich.table.Table:
  """Makes the table for the terminal."""
  table = rich.table.Table(title=f"{document['name']}, {document['recipe']}")
  table.add_column("what")
  table.add_column("measured", justify="right")

  def row(what, key, text, factor=1.0):
    if key in document:
      table.add_row(what, text.format(factor * document[key]))

  mib = 2.0**-20
  row("step", "step_ms", "{:,.1f} ms")
  row("step, resident batch", "step_examples_per_second", "{:,.2f} examples/s")
  row(
    "input alone, each process",
    "input_examples_per_second_and_process",
    "{:,.1f} examples/s",
  )
  row("both together", "loop_examples_per_second", "{:,.2f} examples/s")
  row(
    "  waiting for data",
    "share_of_time_waiting_for_data",
    "{:.1f} % of the time",
    100,
  )
  row("operations", "flops_per_example", "{:,.2f} GFLOP an example", 1e-9)
  row("achieved", "flops_per_second", "{:,.3f} TFLOP/s", 1e-12)
  row("MFU", "mfu", "{:.1f} %", 100)
  for part, value in document["memory_bytes"].items():
    table.add_row(f"memory, {part}", f"{value * mib:,.1f} MiB a device")
  row("peak memory in use", "peak_bytes_in_use", "{:,.1f} MiB", mib)
  table.add_row("parameters", f"{document['parameters']:,}")
  table.add_row(
    "on",
    f"{document['devices']} x {document['device']}, {document['processes']} "
    f"process(es), jax {document['versions']['jax']}",
  )
  return table


if __name__ == "__main__":
  command.stop("no command; use python -m cgdmer_jax.main --config=bench")
