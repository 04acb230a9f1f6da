"""The reports of a split, and the outputs of the frozen layers for them.

The outputs of the frozen layers of the report encoder never change. They are
computed once for each distinct report and kept on disk beside the data set.
Batches read them from there, or from the memory of the devices if they fit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from cgdmer_jax import distributed, files
from cgdmer_jax.data import cache, report_table, reports
from cgdmer_jax.data.index import RecordIndex
from cgdmer_jax.data.report_table import ReportTable
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer, hf_bert
from cgdmer_jax.train import optim
from cgdmer_jax.train.setup import Training

_LONGEST = 512  # tokens kept of reports whose statements are drawn
_BATCH_TOKENS = 8192  # of one device at a time, to fill the cache


@dataclasses.dataclass(frozen=True)
class Reports:
  """Adds the reports of a split to its batches.

  Attributes:
    table: the distinct reports.
    lengths: numbers of tokens that batches may be padded to, ascending.
    states: (T, width), outputs of the frozen layers for all tokens of all
      reports, one report after the other; None if they are on the devices, or
      computed in every step.
    resident: fields of `Batch` that are on the devices already; every batch
      gets them.
  """

  table: ReportTable
  lengths: Sequence[int]
  states: np.ndarray | None = None
  resident: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)

  def rows(
    self, rows: np.ndarray, every_row: np.ndarray | None = None
  ) -> dict[str, np.ndarray]:
    """Host arrays for a part of a batch; see `ReportTable.gather`.

    Also `states` (b, S, width), zero in padding, or `state_start` (b,), where
    the resident states of each report begin.

    Args:
      rows: int (b,), row of `table` for each record.
      every_row: the same for the whole batch, over all processes; its longest
        report decides the length. None: the greatest of `lengths`.
    """
    length = self.lengths[-1]
    if every_row is not None:
      longest = self.table.length[every_row].max()
      length = next(n for n in self.lengths if n >= longest)
    batch = self.table.gather(rows, length)
    starts = self.table.row_starts[rows]
    if self.resident:
      batch["state_start"] = starts.astype(np.int32)
    elif self.states is not None:
      shape = (len(rows), length, self.states.shape[1])
      batch["states"] = np.zeros(shape, self.states.dtype)
      counts = self.table.length[rows]
      for out, start, count in zip(
        batch["states"], starts, counts, strict=True
      ):
        out[:count] = self.states[start : start + count]
    return batch


def read(
  training: Training,
  settings: ConfigDict,
  batch_size: int,
  params: Any,
  source: EcgSource,
  index: RecordIndex,
  tokenizer: Any,
) -> Reports:
  """Tokenises the reports of a split, and runs the frozen layers on them.

  Both are read from their caches if nothing that they depend on has changed.

  Args:
    training: the model, and which statements it reads.
    settings: `config.report`.
    batch_size: records of the global batch; decides the padded lengths.
    params: all parameters of the model.
    source: the split.
    index: its reports, and which record has which.
    tokenizer: turns reports into tokens.
  """
  model, statements = training.model, training.objective.statements
  reads_whole = statements == (0,)
  table = report_table.load(
    source,
    index,
    tokenizer,
    max_length=settings.max_length if reads_whole else _LONGEST,
    normalise=settings.normalise,
  )
  lengths = (table.tokens.shape[1],)
  if reads_whole:
    lengths = table.static_lengths(batch_size)
  facts = report_table.describe(table, model.vocabulary, settings.max_length)
  logging.info("%s split: %s", source.split, facts)
  padded = [min(n, settings.max_length) for n in lengths]
  logging.info("batches are padded to %s tokens", _listed(padded))
  if model.num_frozen is None or not model.use_report:
    return Reports(table, lengths)
  if not reads_whole:
    logging.info(
      "the frozen layers of the report encoder run in every step, because "
      "data.statements=%s draws other statements each time; with (0,) they "
      "run once for each report",
      statements,
    )
    return Reports(table, lengths)
  states = frozen_states(model, params, table, source)
  on_device = place(states, training.mesh, settings.device_cache_mib)
  if on_device is None:
    return Reports(table, lengths, states)
  return Reports(table, lengths, resident={"state_table": on_device})


def _listed(numbers: Sequence[int]) -> str:
  return " or ".join(map(str, numbers))


def frozen_states(
  model: cgdmer.CGDMER, params: Any, table: ReportTable, source: cache.Split
) -> np.ndarray:
  """Computes the outputs of the frozen layers, or reads them from their cache.

  Args:
    model: a model with frozen layers.
    params: all parameters of `model`, on any mesh.
    table: the reports.
    source: the split, beside which the outputs are kept.

  Returns:
    (T, width) for every token of every report, memory-mapped, in the type that
    the model computes in; the rows of report r begin at `table.row_starts[r]`.

  Raises:
    UserError: the outputs cannot be written.
  """
  _, params = optim.split(
    {"report_encoder": params["report_encoder"]}, model.num_frozen
  )
  params = _on_host(params)
  digest = hashlib.sha256(f"{table.key},{model.compute.dtype}".encode())
  for path, x in jax.tree_util.tree_leaves_with_path(params):
    digest.update(jax.tree_util.keystr(path).encode())
    digest.update(np.ascontiguousarray(x).tobytes())
  suffix = f".states-{digest.hexdigest()[:16]}.npy"
  with distributed.first_process_first(suffix):
    states = _load(source, suffix, model.compute.dtype)
    if states is None:
      _fill(model, params, table, source, suffix)
      states = _load(source, suffix, model.compute.dtype)
  return states


def _on_host(params: Any) -> Any:
  """Copies whole arrays to the host, also if each process has only a part."""
  if jax.process_count() > 1:
    return multihost_utils.process_allgather(params, tiled=True)
  return jax.device_get(params)


def _load(source, suffix, dtype) -> np.ndarray | None:
  """Maps the file of the outputs; None if there is none."""
  for path in cache.paths(source, suffix):
    if path.exists():
      return np.load(path, mmap_mode="r").view(jnp.dtype(dtype))
  return None


def _fill(model, params, table, source, suffix) -> None:
  """Computes the outputs into a file; a reader sees the whole file or none."""
  shape = (int(table.length.sum()), model.config.report.width)
  size = np.prod(shape) * jnp.dtype(model.compute.dtype).itemsize / 2**30
  logging.info(
    "running the frozen layers of the report encoder once on %d reports",
    len(table),
  )
  failures = []
  for path in cache.paths(source, suffix):
    try:
      with files.replacing(path) as temporary:
        _compute(model, params, table, temporary, shape)
      logging.info("wrote their outputs to %s (%.3g GiB)", path, size)
      return
    except OSError as e:
      failures.append(f"{path.parent} ({e.strerror or e})")
  raise UserError(
    f"cannot write {size:.3g} GiB of outputs of the frozen layers to "
    f"{' or '.join(failures)}; make room, or set XDG_CACHE_HOME to another "
    "folder"
  )


def _compute(model, params, table, path: pathlib.Path, shape) -> None:
  """Runs the frozen layers on all reports; writes the outputs to `path`."""
  dtype = jnp.dtype(model.compute.dtype)
  # NumPy's file format has no bfloat16.
  stored = np.uint16 if dtype == jnp.bfloat16 else dtype
  out = np.lib.format.open_memmap(path, "w+", stored, shape)
  devices = jax.local_devices()
  mesh = jax.make_mesh(
    (len(devices),), ("data",), (AxisType.Auto,), devices=devices
  )
  by_row = NamedSharding(mesh, PartitionSpec("data"))
  params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
  encoder = hf_bert.BertConfig(**model.report_sizes).build(model.compute)

  @jax.jit
  def run(params, tokens):
    valid = tokens != model.vocabulary.pad_id
    variables = {"params": params["report_encoder"]}
    return encoder.apply(
      variables, tokens, valid, model.num_frozen, method="lower"
    )

  # Four lengths, so four compilations, and little padding.
  quarters = np.array_split(np.argsort(table.length, kind="stable"), 4)
  began, done = time.monotonic(), 0
  for quarter in filter(len, quarters):
    longest = reports.padded_length(int(table.length[quarter].max()))
    longest = min(longest, table.tokens.shape[1])
    count = max(1, _BATCH_TOKENS // longest) * len(devices)
    # Not more than there are, but the same number on every device.
    count = min(count, -(-len(quarter) // len(devices)) * len(devices))
    for first in range(0, len(quarter), count):
      rows = quarter[first : first + count]
      full = np.resize(rows, count)  # the last batch repeats its reports
      tokens = jax.device_put(table.tokens[full, :longest], by_row)
      states = np.asarray(run(params, tokens)).view(stored)
      for row, state in zip(rows, states, strict=False):
        start, length = table.row_starts[row], table.length[row]
        out[start : start + length] = state[:length]
      done += len(rows)
      logging.log_every_n_seconds(
        logging.INFO, "%d reports, %.0f s", 30, done, time.monotonic() - began
      )
  out.flush()


def place(
  states: np.ndarray, mesh: jax.sharding.Mesh, limit_mib: int
) -> jax.Array | None:
  """Cuts the states over all devices by rows; None if they are too large.

  A batch then costs one sum over the devices, of its own states: each device
  contributes those that it has.

  Args:
    states: (T, width), outputs of the frozen layers.
    mesh: devices to cut them over.
    limit_mib: `config.report.device_cache_mib`, most MiB on each device.
  """
  num_rows = -(-len(states) // mesh.size)  # of each device
  size = num_rows * states.shape[1] * states.dtype.itemsize / 2**20
  if size > limit_mib:
    logging.info(
      "outputs of the frozen layers stay on disk: %.0f MiB on each device, "
      "report.device_cache_mib=%d",
      size,
      limit_mib,
    )
    return None
  logging.info("outputs of the frozen layers: %.3g MiB on each device", size)
  shape = (num_rows * mesh.size, states.shape[1])

  def part(index):
    rows = states[index[0]]
    missing = len(range(*index[0].indices(shape[0]))) - len(rows)
    return np.pad(rows, ((0, missing), (0, 0)))

  sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
  return jax.make_array_from_callback(shape, sharding, part)
