"""`--profile=START:STEPS`: a trace of some steps of a training."""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from absl import flags, logging

from cgdmer_jax import files
from cgdmer_jax.errors import UserError

FOLDER = "profile"  # of a workdir
ANNOTATION = "train"  # name of every step in a trace


class Span(NamedTuple):
  """Steps that are traced, both included."""

  first: int
  last: int

  @property
  def flag(self) -> str:
    """The flag as it was given."""
    return f"--profile={self.first}:{self.last - self.first + 1}"


class _Parser(flags.ArgumentParser):
  """Reads START:STEPS."""

  syntactic_help = "START:STEPS"

  def parse(self, argument: str | Span) -> Span:
    """Returns the steps; ValueError unless both numbers are above 0."""
    if isinstance(argument, Span):
      return argument
    match = re.fullmatch(r"0*([1-9]\d{0,8}):0*([1-9]\d{0,8})", argument)
    if not match:
      raise ValueError(
        "expected START:STEPS, the first step and how many, such as 20:5"
      )
    first, count = map(int, match.groups())
    return Span(first, first + count - 1)


PROFILE = flags.DEFINE(
  _Parser(),
  "profile",
  None,
  "START:STEPS: write a trace of so many steps of a training, from START on, to"
  f" {FOLDER}/ of the workdir; see docs/profiling.md.",
)


def check_task(task: str) -> None:
  """Raises UserError if the flag is given for another task than pretraining."""
  span = PROFILE.value
  if span and task != "pretrain":
    raise UserError(f"{span.flag} is for pretraining, not for {task}")


def check(steps: int) -> None:
  """Checks the flag against the length of a run.

  Raises:
    UserError: the run ends before the trace does.
  """
  span = PROFILE.value
  if span and span.last > steps:
    raise UserError(
      f"{span.flag} ends at step {span.last}, the run at train.steps={steps};"
      " begin earlier"
    )


class Profile:
  """Makes steps, and traces those that the flag names; a context manager.

  The trace gets its name when it is complete. It is of one process, which sees
  its own devices.
  """

  def __init__(self, workdir: pathlib.Path | None, start: int):
    """Prepares the trace.

    Args:
      workdir: folder of the run; None: no trace, only names for steps.
      start: steps that are made already.
    """
    self._span = PROFILE.value if workdir else None
    self._workdir = workdir
    self._trace = contextlib.ExitStack()
    if self._span and self._span.first <= start:
      logging.warning(
        "%s: that step is made already; no trace", self._span.flag
      )
      self._span = None

  def step(
    self,
    number: int,
    step_program: Callable[[Any, Any], tuple[Any, Any]],
    state: Any,
    batches: Iterator[Any],
  ) -> tuple[Any, Any]:
    """Makes a step with the next batch; returns what `step_program` does."""
    import jax

    if self._span and number == self._span.first:
      self._trace.enter_context(_tracing(self._workdir / FOLDER, self._span))
    with jax.profiler.StepTraceAnnotation(ANNOTATION, step_num=number):
      result = step_program(state, next(batches))
    if self._span and number == self._span.last:
      jax.block_until_ready(result)
      self._trace.close()
    return result

  def __enter__(self) -> Profile:
    return self

  def __exit__(self, *exc) -> None:
    self._trace.__exit__(*exc)  # a run that is stopped keeps what it has


@contextlib.contextmanager
def _tracing(folder: pathlib.Path, span: Span) -> Iterator[None]:
  """Traces the body into `folder/steps-FIRST-LAST`, complete or not at all."""
  import jax

  target = folder / f"steps-{span.first}-{span.last}"
  if target.exists():
    raise UserError(f"{target} exists; remove it, or profile other steps")
  with files.replacing(target) as temporary:
    jax.profiler.start_trace(str(temporary))
    try:
      yield
    finally:
      jax.profiler.stop_trace()
  logging.info("trace of steps %d to %d: %s", *span, target)
