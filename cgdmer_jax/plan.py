"""Plans a training: compiles its step for devices that need not be there."""

from __future__ import annotations

import json
import pathlib
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import rich.console
import rich.table
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import command, files, sharding
from cgdmer_jax.data import batch as batch_lib
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.planning import estimate, hlo, memory, remedy, target
from cgdmer_jax.train import checks, flops, setup, step_program
from cgdmer_jax.train.setup import Training


def run(
  config: ConfigDict, workdir: pathlib.Path, data_dir: pathlib.Path
) -> bool:
  """Plans the training of `config`; writes `plan-<preset>-<slice>.json`.

  Args:
    config: see `configs/plan.py`.
    workdir: folder of the result.
    data_dir: not read.

  Returns:
    True: a plan is never stopped before its end.

  Raises:
    UserError: there is no such slice, no compiler for it, or the mesh or the
      batch does not fit it.
  """
  del data_dir
  plan = config.plan
  place = target.find(plan.topology, plan.num_slices, plan.compile)
  checks.check(config, plan.num_samples)
  words = config.model.report.vocab_size or config.data.vocab_size
  vocabulary = Vocabulary(words, 0, 1, 4, (0, 1, 2, 3, 4))
  training = setup.assemble(config, vocabulary, place.devices)
  batch = abstract_batch(training, config)
  document = _facts(training, config, place, batch)
  document |= _expected(training, batch, place)
  if plan.compile:
    document |= _compiled(training, batch, config, place, document)
  fits = document["fits"]
  if not fits:
    parts = document["expected_memory_bytes"]
    document["remedy"] = remedy.find(training, batch, config, place, parts)
  document["start"] = _start(config, place)
  path = workdir / f"plan-{plan.preset}-{place.name.replace(' ', '')}.json"
  files.write(path, json.dumps(document, indent=1))
  rich.console.Console().print(table(document))
  print(f"plan: {path}")
  return True


def abstract_batch(training: Training, config: ConfigDict) -> Batch:
  """Shapes of the global batch of a training, with reports of full length."""
  plan, model = config.plan, training.model
  cut = sharding.batch_sharding(training.mesh)
  batch = jax.eval_shape(
    lambda: batch_lib.zeros(
      plan.num_samples, config.train.batch_size, plan.tokens
    )
  )
  if model.num_frozen and model.use_report:  # their outputs are known
    shape = *batch.tokens.shape, model.config.report.width
    batch = batch.replace(states=jax.ShapeDtypeStruct(shape, jnp.float32))
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut), batch
  )


def _facts(
  training: Training, config: ConfigDict, place: target.Target, batch: Batch
) -> dict[str, Any]:
  """What is planned, and the arithmetic that it takes."""
  count, train = len(place.devices), config.train
  operations = flops.count_step(
    training.objective, training.abstract.params, batch
  )
  return {
    "preset": config.plan.preset,
    "recipe": config.recipe,
    "slice": place.name,
    "devices": count,
    "device": place.devices[0].device_kind,
    "mesh": dict(training.mesh.shape),
    "batch_size": train.batch_size,
    "microbatches": train.microbatches,
    "compute": config.compute.to_dict(),
    "tokens": config.plan.tokens,
    "parameters": sum(
      x.size for x in jax.tree.leaves(training.abstract.params)
    ),
    "flops_per_example": operations / train.batch_size,
    "flops_per_device": operations / count,
    "corpus": config.plan.corpus,
    "steps": train.steps,
    "epochs": train.steps * train.batch_size / config.plan.corpus,
    "jax": jax.__version__,
  }


def _expected(
  training: Training, batch: Batch, place: target.Target
) -> dict[str, Any]:
  """Memory as it is expected before the step is compiled."""
  parts = memory.expected(training, batch, place.is_tpu)
  total = sum(parts.values())
  hbm = place.slice.chip.hbm
  logging.info(
    "expected: %.1f of %.1f GiB of each device", total / 2**30, hbm / 2**30
  )
  return {
    "hbm_bytes": hbm,
    "expected_memory_bytes": parts,
    "expected_total_bytes": total,
    "expected_to_fit": total <= hbm,
    "fits": total <= hbm,
  }


def _compiled(
  training: Training,
  batch: Batch,
  config: ConfigDict,
  place: target.Target,
  document: dict[str, Any],
) -> dict[str, Any]:
  """What the compiler makes of the step, or why it refuses it."""
  start = time.perf_counter()
  try:
    program = training.step.compile(batch)
  except jax.errors.JaxRuntimeError as error:
    return {
      "compile_seconds": time.perf_counter() - start,
      "fits": False,
      "refused": _refusal(error),
    }
  seconds = time.perf_counter() - start
  parts = step_program.memory(training.abstract, batch, program)
  analysis = program.memory_analysis()
  total = sum(parts.values())
  found = {
    "compile_seconds": seconds,
    "memory_bytes": parts,
    "peak_bytes": getattr(analysis, "peak_memory_in_bytes", 0) or total,
    "fits": True,
    "flops_of_cost_analysis": (program.cost_analysis() or {}).get("flops", 0.0),
  }
  chip, train = place.slice.chip, config.train
  text = hlo.Program(program.as_text())
  slice_size = place.slice.count if place.num_slices > 1 else 0
  found |= estimate.step(
    text,
    document["flops_per_device"],
    chip,
    flops.peak(chip.kind),
    slice_size,
  )
  step_seconds = found["estimated_step_seconds"]
  found["estimated_examples_per_second"] = train.batch_size / step_seconds
  found["estimated_hours"] = step_seconds * train.steps / 3600
  found["estimated_hours_per_epoch"] = (
    config.plan.corpus / train.batch_size * step_seconds / 3600
  )
  found["largest"] = estimate.largest(text)
  return found


def _refusal(error: Exception) -> str:
  """What the compiler says of a program that does not fit, in short."""
  used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", str(error))
  if used:
    return f"needs {used[1]} of {used[2]}"
  if "RESOURCE_EXHAUSTED" in str(error) or "memory" in str(error):
    return one_line(error)
  raise UserError(f"the compiler fails: {one_line(error)}") from error


def _start(config: ConfigDict, place: target.Target) -> str:
  """The command that starts the training on these devices."""
  mesh = ",".join(map(str, config.mesh))
  train, compute = config.train, config.compute
  return " ".join(
    [
      "python -m cgdmer_jax.main",
      f"--config=configs/pretrain.py:{config.plan.preset},"
      f"recipe={config.recipe}",
      f"'--config.mesh=({mesh})'",
      f"--config.train.batch_size={train.batch_size}",
      f"--config.train.steps={train.steps}",
      f"--config.train.microbatches={train.microbatches}",
      f"--config.compute.remat={compute.remat}",
      f"--config.loss.ring={config.loss.ring}",
      *(["--multihost"] if len(place.devices) > 8 else []),
      "--workdir=...",
    ]
  )


def table(document: dict[str, Any]) -> rich.table.Table:
  """Makes the table for the terminal."""
  d = document
  title = f"{d['preset']}, {d['recipe']} on {d['slice']}: nothing was run"
  shown = rich.table.Table(title=title)
  shown.add_column("what")
  shown.add_column("planned", justify="right")
  gib = 2.0**30

  def row(what, text, *values):
    shown.add_row(what, text.format(*values))

  mesh = " x ".join(map(str, d["mesh"].values()))
  row("devices", "{} x {}, mesh {}", d["devices"], d["device"], mesh)
  row("batch", "{:,} in {} part(s)", d["batch_size"], d["microbatches"])
  row("parameters", "{:,}", d["parameters"])
  row("operations", "{:,.1f} GFLOP an example", d["flops_per_example"] / 1e9)
  for part, value in d["expected_memory_bytes"].items():
    row(f"memory, {part}, expected", "{:.2f} GiB", value / gib)
  limit = d["hbm_bytes"] / gib
  total = d["expected_total_bytes"] / gib
  row("memory, expected", "{:.2f} of {:.2f} GiB", total, limit)
  if "peak_bytes" in d:
    row(
      "memory, compiled", "{:.2f} of {:.2f} GiB", d["peak_bytes"] / gib, limit
    )
  if "refused" in d:
    row("the compiler refuses", "{}", d["refused"])
  row("fits", "{}", "yes" if d["fits"] else f"no: {d['remedy']}")
  if "compile_seconds" in d:
    row("compiled in", "{:.0f} s", d["compile_seconds"])
  if "estimated_seconds" in d:
    for x in d["collectives"][:6]:
      where = ", between slices" if x["between_slices"] else ""
      row(
        f"{x['operation']} {x['dtype']} over {x['devices']}{where}",
        "{:,.1f} MiB, estimate {:.2f} ms",
        x["bytes_sent"] / 2**20,
        1e3 * x["estimated_seconds"],
      )
    for what, value in d["estimated_seconds"].items():
      row(f"{what}, estimate", "{:.2f} ms", 1e3 * value)
    for x in d["largest"]:
      row(x["what"], "{:.1f} % of the cycles, estimate", 100 * x["share"])
    row(
      "step, estimate",
      "{:.2f} ms, bound by {}",
      1e3 * d["estimated_step_seconds"],
      d["bound_by"],
    )
    row("MFU, estimate", "{:.0f} %", 100 * d["estimated_mfu"])
    rate = d["estimated_examples_per_second"]
    row("estimate", "{:,.0f} examples/s", rate)
    row("hours, estimate", "{:.1f}", d["estimated_hours"])
  row("epochs", "{:.1f} of {:,} records", d["epochs"], d["corpus"])
  row("start", "{}", d["start"])
  return shown


if __name__ == "__main__":
  command.stop("no command; use python -m cgdmer_jax.main --config=plan")
