"""How far a run is: a live bar in a terminal, lines of text elsewhere."""

from __future__ import annotations

import collections
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from io import TextIOBase

import rich.console
import rich.progress

_WINDOW_SECONDS = 30.0  # over which examples/s is measured
_LINE_SECONDS = 10.0  # between two lines without a terminal


class Progress:
  """Shows step, loss terms, examples/s and time left; a context manager.

  The time before the first `update` (compilation) and inside `paused()`
  (evaluation, saving) does not count towards examples/s.
  """

  def __init__(
    self,
    total_steps: int,
    start_step: int = 0,
    batch_size: int = 1,
    *,
    unit: str = "step",
    stream: TextIOBase | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Prepares the display; nothing is shown before the context is entered.

    Args:
      total_steps: steps of the whole run.
      start_step: steps already made.
      batch_size: examples in a step, over all processes.
      unit: what a step is called.
      stream: where to write; standard error by default.
      clock: seconds, for tests.
    """
    self._total = total_steps
    self._step = start_step
    self._batch_size = batch_size
    self._unit = unit
    self._stream = stream or sys.stderr
    self._clock = clock
    self._times = collections.deque()  # (seconds, step), oldest first
    self._paused_seconds = 0.0
    self._last_line = None
    self._terms = ""
    self._bar = None
    if self._stream.isatty():
      self._bar = _bar(self._stream)
      self._task = self._bar.add_task(
        "", total=total_steps, completed=start_step, terms="", pace=""
      )

  def update(
    self, step: int, scalars: Mapping[str, float] | None = None
  ) -> None:
    """Reports that `step` steps have been made.

    Args:
      step: steps made.
      scalars: values to show from now on, for instance the loss and its terms;
        None keeps the last ones.
    """
    self._step = step
    if scalars is not None:
      self._terms = "  ".join(f"{k} {v:.4g}" for k, v in scalars.items())
    now = self._clock() - self._paused_seconds
    self._times.append((now, step))
    while len(self._times) > 2 and now - self._times[1][0] >= _WINDOW_SECONDS:
      self._times.popleft()
    if self._bar is not None:
      self._bar.update(
        self._task, completed=step, terms=self._terms, pace=self._pace()
      )
    elif self._line_is_due(now):
      self._last_line = now
      parts = (f"{self._unit} {step}/{self._total}", self._terms, self._pace())
      line = "  ".join(p for p in parts if p)
      print(line, file=self._stream, flush=True)

  def say(self, line: str) -> None:
    """Writes a line that stays, above the bar where there is one."""
    if self._bar is not None:
      self._bar.console.print(line, markup=False, highlight=False)
    else:
      print(line, file=self._stream, flush=True)

  @property
  def examples_per_second(self) -> float | None:
    """Rate over the last half minute; None before the second update."""
    if len(self._times) < 2:
      return None
    (t0, step0), (t1, step1) = self._times[0], self._times[-1]
    return (step1 - step0) * self._batch_size / (t1 - t0) if t1 > t0 else None

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Does not count the time inside as training."""
    start = self._clock()
    try:
      yield
    finally:
      self._paused_seconds += self._clock() - start

  def _pace(self) -> str:
    rate = self.examples_per_second
    if not rate:
      return ""
    seconds = (self._total - self._step) * self._batch_size / rate
    return f"{rate:,.0f} ex/s  eta {_duration(seconds)}"

  def _line_is_due(self, now: float) -> bool:
    last = self._last_line
    return (
      last is None or now - last >= _LINE_SECONDS or self._step >= self._total
    )

  def __enter__(self) -> Progress:
    if self._bar is not None:
      self._bar.start()
    return self

  def __exit__(self, *exc) -> None:
    if self._bar is not None:
      self._bar.stop()


def _bar(stream: TextIOBase) -> rich.progress.Progress:
  return rich.progress.Progress(
    rich.progress.BarColumn(bar_width=20),
    rich.progress.MofNCompleteColumn(),
    rich.progress.TextColumn("{task.fields[terms]}", markup=False),
    rich.progress.TextColumn("{task.fields[pace]}", markup=False),
    console=rich.console.Console(file=stream),
    refresh_per_second=2,
  )


def _duration(seconds: float) -> str:
  """`m:ss`, or `h:mm:ss` from an hour on."""
  minutes, s = divmod(round(seconds), 60)
  h, m = divmod(minutes, 60)
  return f"{h}:{m:02}:{s:02}" if h else f"{m}:{s:02}"
