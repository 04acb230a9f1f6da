"""Saving and restoring a training state; the only file that knows Orbax.

The checkpoint named k has seen exactly k updates, so its name alone says where
the data stream and the random streams go on.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from cgdmer_jax.errors import UserError

PyTree = Any

_SUBDIRECTORY = "checkpoints"
_ITEM = "default"  # the name that Orbax gives to a single item


class Checkpointer:
  """Checkpoints of one run in `workdir/checkpoints`; a context manager.

  Saving is asynchronous: the arrays are copied at once and may be donated, the
  files are written behind the next steps. A process killed meanwhile leaves a
  directory that is not seen as a checkpoint. On several hosts `workdir` must be
  on storage that they share, and every process makes every call.
  """

  def __init__(self, workdir: epath.PathLike, *, keep: int):
    """Opens the directory, made if missing.

    Args:
      workdir: of the run.
      keep: newest checkpoints to keep, at least 1.
    """
    self._directory = _absolute(workdir) / _SUBDIRECTORY
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
    """Step of the newest checkpoint, be it still on its way to the disk."""
    return self._manager.latest_step()

  def save(self, step: int, state: PyTree) -> bool:
    """Saves, unless that step is saved already.

    Args:
      step: updates that `state` has seen.
      state: arrays in any pytree.

    Returns:
      Whether a checkpoint was begun.
    """
    if step == self.latest_step:
      return False
    return self._manager.save(
      step, args=ocp.args.StandardSave(state), force=True
    )

  def restore_latest(self, abstract_state: PyTree) -> tuple[int, PyTree] | None:
    """Restores the newest checkpoint, on whatever mesh it was saved.

    Args:
      abstract_state: `jax.ShapeDtypeStruct` with `sharding` for each array.

    Returns:
      Its step and the state, whose arrays may be donated; None if there is no
      checkpoint.

    Raises:
      UserError: the checkpoint holds other arrays than `abstract_state`.
    """
    self.wait()
    step = self.latest_step
    if step is None:
      return None
    directory = self._directory / str(step)
    abstract_state = _with_sharding(abstract_state)
    _check_same(_saved_arrays(directory), _named(abstract_state), directory)
    state = self._manager.restore(
      step, args=ocp.args.StandardRestore(abstract_state)
    )
    return step, _own(state)

  def reached_preemption(self, step: int) -> bool:
    """Whether the cluster takes the machines away: save, wait, leave.

    The same answer in every process. Always False unless `jax.distributed` is
    initialised, as nobody else listens for the signal.
    """
    return self._manager.reached_preemption(step)

  def wait(self) -> None:
    """Returns when all that was saved is on disk."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits and closes."""
    self._manager.close()

  def __enter__(self) -> Checkpointer:
    return self

  def __exit__(self, *exc) -> None:
    self.close()


def load_params(path: epath.PathLike, abstract_params: PyTree) -> PyTree:
  """The `params` of a saved state, without the optimizer.

  Args:
    path: a workdir, its `checkpoints` directory (both: the newest checkpoint),
      or one checkpoint, `checkpoints/<step>`.
    abstract_params: `jax.ShapeDtypeStruct` for each parameter, with `sharding`
      or else placed on one device.

  Raises:
    UserError: no checkpoint there, or one with other parameters.
  """
  directory = find_checkpoint(path)
  abstract_params = _with_sharding(abstract_params)
  saved = _saved_arrays(directory)
  saved = {
    name.removeprefix("params/"): array
    for name, array in saved.items()
    if name.startswith("params/")
  }
  _check_same(saved, _named(abstract_params), directory)
  # `partial_restore` leaves out the rest of the state. It also leaves holes
  # where the checkpoint lacks something: hence the check above.
  item = {"params": abstract_params}
  restored = ocp.PyTreeCheckpointHandler().restore(
    directory / _ITEM,
    args=ocp.args.PyTreeRestore(
      item=item,
      restore_args=ocp.checkpoint_utils.construct_restore_args(item),
      partial_restore=True,
    ),
  )
  return restored["params"]


def find_checkpoint(path: epath.PathLike) -> epath.Path:
  """Directory of the one checkpoint that `path` means; see `load_params`.

  Raises:
    UserError: there is none.
  """
  path = _absolute(path)
  if path.name.isdecimal() and (path / _ITEM).is_dir():
    return path
  for root in (path / _SUBDIRECTORY, path):
    found = _steps(root)
    if found:
      return root / str(max(found))
  raise UserError(
    f"no checkpoint in {path} or {path / _SUBDIRECTORY}; give a workdir that"
    f" has saved one, or one checkpoint: WORKDIR/{_SUBDIRECTORY}/STEP"
  )


def steps(workdir: epath.PathLike) -> list[int]:
  """Steps of the complete checkpoints of a run."""
  return _steps(_absolute(workdir) / _SUBDIRECTORY)


def _steps(root: epath.Path) -> list[int]:
  return ocp.utils.checkpoint_steps(root) if root.is_dir() else []


def _absolute(path: epath.PathLike) -> epath.Path:
  return epath.Path(path).expanduser().resolve()  # Orbax wants it absolute


def _with_sharding(abstract: PyTree) -> PyTree:
  """`abstract` with arrays that name no sharding on the first local device."""
  one = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=getattr(x, "sharding", None) or one
    ),
    abstract,
  )


def _own(state: PyTree) -> PyTree:
  """Copies made by XLA: buffers from elsewhere may not be donatable."""
  shardings = jax.tree.map(lambda x: x.sharding, state)
  copy = jax.jit(
    lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=shardings
  )
  return copy(state)


def _saved_arrays(directory: epath.Path) -> dict[str, Any]:
  """Name -> shape and dtype of the arrays in a checkpoint; reads no values."""
  try:
    metadata = ocp.PyTreeCheckpointHandler().metadata(directory / _ITEM)
  except FileNotFoundError as e:
    raise UserError(
      f"checkpoint {directory} is incomplete; choose another step"
    ) from e
  return _named(metadata.tree)


def _named(tree: PyTree) -> dict[str, Any]:
  """Path such as `params/encoder/kernel` -> leaf."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }


def _check_same(
  saved: dict[str, Any], wanted: dict[str, Any], directory: epath.Path
) -> None:
  for name in sorted(saved | wanted):
    there, here = (_describe(arrays.get(name)) for arrays in (saved, wanted))
    if there != here:
      raise UserError(
        f"checkpoint {directory} belongs to another architecture: {name} is"
        f" {there} in the checkpoint, {here} in this config; use the config"
        " that it was trained with"
      )


def _describe(array: Any) -> str:
  return "missing" if array is None else f"{array.dtype} {tuple(array.shape)}"
