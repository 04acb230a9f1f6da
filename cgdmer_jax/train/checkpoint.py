"""Saving and restoring a training state; by Orbax.

The checkpoint named k has seen exactly k updates, so its name alone says where
the data stream and the random streams go on.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils import epath
from jax.experimental import multihost_utils

from cgdmer_jax import keyed
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.train import checkpoint_folder, restorable
from cgdmer_jax.train import checksums as checksums_lib

PyTree = Any

_SUBDIRECTORY = "checkpoints"
_ITEM = "default"  # the name that Orbax gives to a single item


class Checkpointer:
  """Checkpoints of one run in `workdir/checkpoints`; a context manager.

  Saving is asynchronous: the arrays are copied at once, so they may be donated;
  the files are written while the next steps run. A process that is killed
  meanwhile leaves a directory that does not count as a checkpoint. With several
  hosts `workdir` must be on shared storage, and every process makes every call.
  """

  def __init__(self, workdir: epath.PathLike, *, keep: int):
    """Opens the directory; makes it if it is missing.

    Args:
      workdir: folder of the run; its folder `checkpoints` is used.
      keep: how many checkpoints to keep, the newest ones; at least 1.
    """
    self._directory = checkpoint_folder.absolute(workdir) / _SUBDIRECTORY
    # Step and names of the arrays of a save that is not verified yet.
    self._unchecked: tuple[int, list[str]] | None = None
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        cleanup_tmp_directories=True,
        # Wait for a slow save rather than skip the next one.
        enable_should_save_is_saving_in_progress_check=False,
      ),
    )

  @property
  def latest_step(self) -> int | None:
    """Step of the newest checkpoint, even if it is still being written."""
    return self._manager.latest_step()

  def save(self, step: int, state: PyTree) -> bool:
    """Saves a state, unless its step is saved already.

    Args:
      step: number of updates that `state` has seen.
      state: arrays in any pytree.

    Returns:
      Whether a save was started.

    Raises:
      UserError: this checkpoint, or the one before, cannot be written.
    """
    if step == self.latest_step:
      return False
    item = {"state": state, "checksums": checksums_lib.checksums(state)}
    with self._report_write_errors():
      self._finish()
      is_started = self._manager.save(
        step, args=ocp.args.StandardSave(item), force=True
      )
    if is_started:
      self._unchecked = step, list(checksums_lib.leaves_by_path(item))
    return is_started

  def restore_latest(self, abstract_state: PyTree) -> tuple[int, PyTree] | None:
    """Restores the newest complete checkpoint, on any mesh.

    Newer checkpoints that are damaged are moved from `checkpoints` to the
    workdir.

    Args:
      abstract_state: `jax.ShapeDtypeStruct` with `sharding` for each array.

    Returns:
      The step of the checkpoint and the state, whose arrays may be donated;
      None if there is no checkpoint.

    Raises:
      UserError: the checkpoint holds other arrays than `abstract_state`, or
        every checkpoint is damaged.
    """
    self.wait()
    abstract_state = _with_sharding(abstract_state)
    damaged, reason = [], ""
    for step in sorted(checkpoint_folder.steps(self._directory), reverse=True):
      try:
        state = _restore(self._directory / str(step), abstract_state)
      except _Damaged as e:
        logging.warning("checkpoint %d is damaged (%s)", step, e)
        damaged.append(step)
        reason = str(e)
        continue
      self._set_aside(damaged)
      return step, _copied(state)
    if damaged:
      raise UserError(
        f"every checkpoint in {self._directory} is damaged ({reason}); restore "
        "one from a backup, or remove the directory to start again"
      )
    return None

  def _set_aside(self, steps: list[int]) -> None:
    """Moves damaged checkpoints to the workdir, without deleting them."""
    if not steps:
      return
    if jax.process_index() == 0:
      for step in steps:
        target = self._directory.parent / f"damaged-checkpoint-{step}"
        if target.exists():
          target.rmtree()
        (self._directory / str(step)).rename(target)
        logging.warning("set aside as %s", target)
    multihost_utils.sync_global_devices("set damaged checkpoints aside")
    self._manager.reload()

  def reached_preemption(self, step: int) -> bool:
    """Whether the cluster is about to take the machines away.

    Every process gets the same answer. Then save, wait and exit. Without
    `jax.distributed` nothing listens for the signal and the answer is False.
    """
    return self._manager.reached_preemption(step)

  def wait(self) -> None:
    """Waits until everything that was saved is on disk.

    Raises:
      UserError: a checkpoint cannot be written.
    """
    with self._report_write_errors():
      self._finish()

  def close(self) -> None:
    """Waits as `wait` does, then closes."""
    with self._report_write_errors():
      self._finish()
      self._manager.close()

  def _finish(self) -> None:
    """Waits for the last save, and verifies that it can be restored."""
    self._manager.wait_until_finished()
    saved, self._unchecked = self._unchecked, None
    if saved is None or jax.process_index():
      return
    step, names = saved
    item = self._directory / str(step) / _ITEM
    missing = restorable.missing_array(item, names)
    if missing:
      raise OSError(f"checkpoint {step} lacks {missing} after it was saved")

  def _report_write_errors(self) -> contextlib.AbstractContextManager[None]:
    """Turns errors of writing into a `UserError`."""
    return checkpoint_folder.report_write_errors(self._directory)

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, *exc) -> None:
    self.close()


class _Damaged(Exception):
  """A checkpoint cannot be read, or differs from what was written."""


def load_params(path: epath.PathLike, abstract_params: PyTree) -> PyTree:
  """Reads the `params` of a saved state, without the state of the optimizer.

  Args:
    path: a workdir, its `checkpoints` directory (both: the newest checkpoint),
      or one checkpoint, `checkpoints/<step>`.
    abstract_params: `jax.ShapeDtypeStruct` for each parameter; one without
      `sharding` goes to the first local device.

  Raises:
    UserError: no checkpoint there, or one with other parameters.
  """
  directory = find_checkpoint(path)
  try:
    wanted = {"params": _with_sharding(abstract_params)}
    return _restore(directory, wanted, partly=True)["params"]
  except _Damaged as e:
    raise UserError(
      f"checkpoint {directory} is damaged ({e}); choose another step"
    ) from e


def _restore(
  directory: epath.Path, abstract: PyTree, partly: bool = False
) -> PyTree:
  """Reads a checkpoint, and compares it with its checksums.

  Every process returns the same result or raises the same kind of error.

  Args:
    directory: the checkpoint, `checkpoints/<step>`.
    abstract: shapes, types and shardings of what to read.
    partly: whether `abstract` is a dict with only some of the state's entries.

  Raises:
    UserError: the checkpoint belongs to another architecture.
    _Damaged: it cannot be read, or its checksums differ.
  """
  with _reading(directory):
    saved = _saved_arrays(directory)
  if "checksums" not in saved:
    raise UserError(
      f"checkpoint {directory} was written by an older version of this program;"
      " use that version"
    )
  names = sorted(x.removeprefix("state/") for x in saved if x != "checksums")
  wanted = checksums_lib.leaves_by_path(abstract)
  kept = {
    name: saved[f"state/{name}"]
    for name in names
    if not partly or name.partition("/")[0] in abstract
  }
  restorable.check_same(kept, wanted, directory)
  # `partial_restore` leaves out the rest of the state. It also skips what the
  # checkpoint lacks, without an error: hence the check above.
  item = {"state": abstract, "checksums": np.zeros(len(names), np.uint32)}
  with _reading(directory):
    restored = _read(directory, item, partly)
  state = restored["state"]
  checksums = np.asarray(checksums_lib.checksums(state))
  positions = [names.index(name) for name in sorted(wanted)]
  changed = np.flatnonzero(checksums != restored["checksums"][positions])
  if len(changed):
    raise _Damaged(f"the values of {sorted(wanted)[changed[0]]} have changed")
  return state


def _read(directory: epath.Path, item: PyTree, partly: bool) -> PyTree:
  """Reads the arrays of `item`; for `partly` see `_restore`."""
  return ocp.PyTreeCheckpointHandler().restore(
    directory / _ITEM,
    args=ocp.args.PyTreeRestore(
      item=item,
      restore_args=ocp.checkpoint_utils.construct_restore_args(item),
      partial_restore=partly,
    ),
  )


@contextlib.contextmanager
def _reading(directory: epath.Path) -> Iterator[None]:
  """Raises _Damaged in all processes if reading fails in any of them."""
  failure = None
  hook = sys.unraisablehook
  try:
    yield
  except UserError:
    raise
  except Exception as e:  # Orbax raises errors of many kinds.
    failure = e
    # Reads that are still pending would print long tracebacks.
    sys.unraisablehook = lambda _: None
    gc.collect()
    sys.unraisablehook = hook
  failed = multihost_utils.process_allgather(np.array([failure is not None]))
  if failure is not None:
    reason = one_line(failure)
    if restorable.is_unmerged(directory / _ITEM):
      reason = (
        "its parts were not merged, as an older version did in folders with "
        f"brackets; for a run of one process: cp -r {directory}/{_ITEM}/"
        f"ocdbt.process_0/. {directory}/{_ITEM}/"
      )
    raise _Damaged(f"{type(failure).__name__}: {reason}") from failure
  if np.any(failed):
    raise _Damaged("another process cannot read it")


def find_checkpoint(path: epath.PathLike) -> epath.Path:
  """Finds the one checkpoint that `path` means; see `load_params`.

  Raises:
    UserError: there is no checkpoint.
  """
  path = checkpoint_folder.absolute(path)
  if path.name.isdecimal() and (path / _ITEM).is_dir():
    return path
  for root in (path / _SUBDIRECTORY, path):
    found = checkpoint_folder.steps(root)
    if found:
      return root / str(max(found))
  raise UserError(
    f"no checkpoint in {path} or {path / _SUBDIRECTORY}; give a workdir that"
    f" has saved one, or one checkpoint: WORKDIR/{_SUBDIRECTORY}/STEP"
  )


def content(directory: epath.PathLike) -> str:
  """Hash of what a checkpoint holds, wherever it lies.

  It is made of the checksums in the checkpoint; no parameter is read.

  Raises:
    UserError: the checkpoint is damaged.
  """
  directory = checkpoint_folder.absolute(directory)
  try:
    with _reading(directory):
      names = sorted(set(_saved_arrays(directory)) - {"checksums"})
      item = {"checksums": np.zeros(len(names), np.uint32)}
      restored = _read(directory, item, partly=True)
  except _Damaged as e:
    raise UserError(
      f"checkpoint {directory} is damaged ({e}); choose another step"
    ) from e
  sums = np.asarray(restored["checksums"]).tolist()
  return keyed.make_key(names, sums)


def steps(workdir: epath.PathLike) -> list[int]:
  """Steps of the complete checkpoints of a run."""
  return checkpoint_folder.steps(
    checkpoint_folder.absolute(workdir) / _SUBDIRECTORY
  )


def _with_sharding(abstract: PyTree) -> PyTree:
  """Puts arrays without a sharding on the first local device."""
  default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=getattr(x, "sharding", None) or default
    ),
    abstract,
  )


def _copied(state: PyTree) -> PyTree:
  """Copies arrays into buffers of XLA: others may not be donatable."""
  shardings = jax.tree.map(lambda x: x.sharding, state)
  copy = jax.jit(
    lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings
  )
  return copy(state)


def _saved_arrays(directory: epath.Path) -> dict[str, Any]:
  """Name -> shape and dtype of the arrays in a checkpoint; reads no values."""
  metadata = ocp.PyTreeCheckpointHandler().metadata(directory / _ITEM)
  return checksums_lib.leaves_by_path(metadata.tree)
