"""The signal that asks a run to stop."""

from __future__ import annotations

import signal

import jax


class StopSignal:
  """Notes a SIGTERM, which asks for a checkpoint and an orderly end.

  A context manager. With `jax.distributed` the preemption service listens
  instead, so all processes stop at the same step.
  """

  asked = False

  def __enter__(self) -> StopSignal:
    self._old = None
    if jax.process_count() == 1:
      self._old = signal.signal(signal.SIGTERM, self._ask)
    return self

  def _ask(self, *_) -> None:
    self.asked = True

  def __exit__(self, *_) -> None:
    if self._old is not None:
      signal.signal(signal.SIGTERM, self._old)
