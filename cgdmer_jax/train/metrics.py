"""Where the numbers of a run go: `metrics.jsonl`, TensorBoard, and others."""

from __future__ import annotations

import collections
import json
import math
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import matplotlib.image
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


class Pace:
  """Examples per second since the last time."""

  def __init__(self, step: int, batch_size: int):
    """Starts the clock at a step."""
    self._step, self._time = step, time.monotonic()
    self._batch_size = batch_size

  def take(self, step: int) -> dict[str, float]:
    """The pace up to a step, and starts again."""
    now = time.monotonic()
    examples = (step - self._step) * self._batch_size
    pace = examples / max(now - self._time, 1e-9)
    self._step, self._time = step, now
    return {"speed/examples_per_second": pace}


class MetricWriter(Protocol):
  """Where the numbers of a run go; `WRITERS` are all that are used.

  One is made for each run by process 0, with the workdir, the step to go on
  from, and the whole configuration as JSON. Names of scalars are paths:
  "train/loss", "validation/loss", "speed/examples_per_second",
  "evaluation/DATASET/LABEL SET/SETTING".
  """

  def __init__(self, workdir: pathlib.Path, start_step: int, config: str):
    """Opens what is written to; steps after `start_step` will come again."""

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars of a step."""

  def figure(self, step: int, path: pathlib.Path) -> None:
    """Writes a figure, from its PNG file."""

  def close(self) -> None:
    """Closes what is written to."""


class JsonLines:
  """Appends what training computes to `workdir/metrics.jsonl`.

  A run killed between two checkpoints has written steps that the resumed run
  will write again. Opening the writer therefore drops every line after
  `start_step`, and a last line that was cut off. Speeds are left out, so two
  equal runs have equal files; so are scores, which are in `results/`.
  """

  def __init__(self, workdir: pathlib.Path, start_step: int, config: str):
    """See `MetricWriter`."""
    del config  # in `config.json`
    path = workdir / FILE_NAME
    _keep_until(path, start_step)
    self._file = path.open("a", encoding="utf-8")

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one line; JSON has no NaN or infinity: those become null."""
    values = {
      name: float(value) if math.isfinite(value) else None
      for name, value in scalars.items()
      if not name.startswith(("speed/", "evaluation/"))
    }
    if values:
      line = json.dumps({"step": int(step), **values}, allow_nan=False)
      self._file.write(line + "\n")
      self._file.flush()

  def figure(self, step: int, path: pathlib.Path) -> None:
    """Does nothing: figures are files already."""

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


class TensorBoard:
  """Writes events to `workdir/tensorboard`."""

  def __init__(self, workdir: pathlib.Path, start_step: int, config: str):
    """See `MetricWriter`."""
    import tensorboardX

    # TensorBoard hides later steps of older event files.
    self._events = tensorboardX.SummaryWriter(
      os.fspath(workdir / "tensorboard"), purge_step=start_step + 1
    )
    text = "\n".join(f"    {line}" for line in config.splitlines())
    self._events.add_text("config", text, start_step)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes a point of each curve."""
    for name, value in scalars.items():
      self._events.add_scalar(name, float(value), int(step))

  def figure(self, step: int, path: pathlib.Path) -> None:
    """Writes the image."""
    image = matplotlib.image.imread(path)[..., :3]
    self._events.add_image(path.stem, image, int(step), dataformats="HWC")

  def close(self) -> None:
    """Closes the file of events."""
    self._events.close()


WRITERS: tuple[type[MetricWriter], ...] = (
  JsonLines,
  TensorBoard,
)


class Writers:
  """All of `WRITERS` as one; a context manager."""

  def __init__(
    self,
    workdir: str | os.PathLike[str],
    start_step: int = 0,
    config: str = "",
  ):
    """Opens them.

    Args:
      workdir: local or mounted directory; made if missing.
      start_step: step to resume from; 0 for a new run.
      config: the configuration as text.
    """
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    self._writers = [make(workdir, start_step, config) for make in WRITERS]

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars of a step: number of updates made."""
    for writer in self._writers:
      writer.write(step, scalars)

  def figure(self, step: int, path: pathlib.Path) -> None:
    """Writes a figure, from its PNG file."""
    for writer in self._writers:
      writer.figure(step, path)

  def close(self) -> None:
    """Closes them."""
    for writer in self._writers:
      writer.close()

  def __enter__(self) -> Writers:
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
