"""Scalars of a run on disk: `metrics.jsonl` and TensorBoard events."""

from __future__ import annotations

import collections
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from cgdmer_jax import files
from cgdmer_jax.errors import UserError

FILE_NAME = "metrics.jsonl"


class Diverged(UserError):
  """A loss term or the gradient is no longer finite."""


class Means:
  """Means of the metrics since the last `take`."""

  def __init__(self):
    self._sums = collections.defaultdict(float)
    self._count = 0

  def add(self, step: int, values: Mapping[str, Any]) -> None:
    """Waits for the metrics of a step.

    Raises:
      Diverged: a value is not finite.
    """
    for name, value in jax.device_get(values).items():
      if not np.isfinite(value):
        raise Diverged(
          f"step {step}: {name} is {value}, and is not saved; lower optim.lr "
          "or change the seed, and start again in another --workdir"
        )
      self._sums[name] += float(value)
    self._count += 1

  def take(self) -> dict[str, float]:
    """Returns the means, and starts again."""
    means = {k: v / self._count for k, v in sorted(self._sums.items())}
    self.__init__()
    return means


class MetricWriter:
  """Appends scalars to `workdir/metrics.jsonl` and `workdir/tensorboard`.

  A run killed between two checkpoints has written steps that the resumed run
  will write again. Opening the writer therefore drops every line after
  `start_step`, and a last line that was cut off.

  One process of a run writes; use as a context manager.
  """

  def __init__(self, workdir: str | os.PathLike[str], start_step: int = 0):
    """Opens the files.

    Args:
      workdir: local or mounted directory; made if missing.
      start_step: step to resume from; 0 for a new run.
    """
    import tensorboardX

    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / FILE_NAME
    _keep_until(path, start_step)
    self._file = path.open("a", encoding="utf-8")
    # TensorBoard hides later steps of older event files.
    self._events = tensorboardX.SummaryWriter(
      os.fspath(workdir / "tensorboard"), purge_step=start_step + 1
    )

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one line; it is in the file when this returns.

    Args:
      step: number of updates made.
      scalars: name -> value. JSON has no NaN or infinity: those become null.
    """
    values = {k: float(v) for k, v in scalars.items()}
    finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
    line = json.dumps({"step": int(step), **finite}, allow_nan=False)
    self._file.write(line + "\n")
    self._file.flush()
    for key, value in values.items():
      self._events.add_scalar(key, value, int(step))

  def close(self) -> None:
    """Closes the files."""
    self._file.close()
    self._events.close()

  def __enter__(self) -> MetricWriter:
    return self

  def __exit__(self, *exc) -> None:
    self.close()


def read_metrics(workdir: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads the metrics of a run in the order written; null becomes NaN.

  Args:
    workdir: folder of the run.

  Returns:
    One dict for each line: `step` (int) and the scalars. Empty without metrics.
  """
  path = pathlib.Path(workdir) / FILE_NAME
  if not path.exists():
    return []
  rows = [json.loads(line) for line in _complete_lines(path)]
  return [
    {k: math.nan if v is None else v for k, v in row.items()} for row in rows
  ]


def _complete_lines(path: pathlib.Path) -> list[str]:
  """Lines that end with a newline; an incomplete last one is left out."""
  *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
  return lines


def _keep_until(path: pathlib.Path, last_step: int) -> None:
  """Drops the lines of steps after `last_step`, all or nothing."""
  if not path.exists():
    return
  lines = _complete_lines(path)
  kept = [line for line in lines if json.loads(line)["step"] <= last_step]
  files.write(path, "".join(line + "\n" for line in kept))
