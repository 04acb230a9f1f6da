"""The folder of checkpoints: on a disk, or in a bucket."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint._src.serialization import tensorstore_utils

from cgdmer_jax import objects, paths
from cgdmer_jax.errors import UserError, one_line

# TensorStore would try 32 times, a quarter of an hour; this is a minute.
_RETRIES = {"max_retries": 7, "initial_delay": "1s", "max_delay": "16s"}

_MARK = re.compile(r"(\d+)/commit_success\.txt")


def absolute(path: epath.PathLike) -> epath.Path:
  """Absolute path, as Orbax requires, read literally.

  One that stands for a folder in a bucket becomes its address. Orbax marks what
  is complete there with a file, `commit_success.txt`, and does not rename.

  Raises:
    UserError: its name cannot be used; or a package for buckets is missing.
  """
  address = paths.address(path)
  if address:
    objects.connect(address)
    # Orbax 0.12 gives no other way to them.
    tensorstore_utils._BASE_TS_CONTEXT["gcs_request_retries"] = _RETRIES
    tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT["gcs_request_retries"] = (
      _RETRIES
    )
    return epath.Path(address)
  path = paths.LiteralPath(epath.Path(path).expanduser().resolve())
  paths.check_text(path)
  if "\\" in str(path):
    raise UserError(
      f"{path}: checkpoints cannot be kept below a folder with a backslash in "
      "its name; choose another folder"
    )
  return path


def steps(root: epath.Path) -> list[int]:
  """Steps of the complete checkpoints in a folder.

  Raises:
    UserError: its bucket cannot be used.
  """
  if _is_remote(root):
    # Not by Orbax, to which a bucket that does not answer is an empty one.
    marks = map(_MARK.fullmatch, objects.list_all(str(root)))
    return sorted(int(mark[1]) for mark in marks if mark)
  return ocp.utils.checkpoint_steps(root) if root.is_dir() else []


@contextlib.contextmanager
def report_write_errors(root: epath.Path) -> Iterator[None]:
  """Turns errors of writing a checkpoint into a `UserError`.

  Args:
    root: folder of all checkpoints.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as e:
    if _is_remote(root):
      raise UserError(
        f"a checkpoint cannot be written to {root}: {objects.explain(e)}; the"
        " same command resumes at the one before"
      ) from e
    if not isinstance(e, OSError | ValueError):  # that of TensorStore
      raise
    reason = one_line(e, 300)
    newest = max(steps(root), default=None)
    rest = "no other exists" if newest is None else f"the newest is {newest}"
    raise UserError(
      f"a checkpoint cannot be written to {root} ({reason}); "
      f"{rest}; make room or fix the disk, then run the same command again"
    ) from e


def _is_remote(root: epath.Path) -> bool:
  return bool(paths.address(root))
