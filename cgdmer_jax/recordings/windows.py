"""Recordings of any length as windows of the length that a model reads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec, rejected

WINDOW_SECONDS = 10
_HELD_SECONDS = 0.05  # so much may be lacking at the end; the last sample holds


@dataclasses.dataclass(frozen=True)
class Windows:
  """What a model reads of a recording.

  Attributes:
    ecg: int16 (W, 12, T), microvolt.
    lead_valid: bool (W, 12), False where a lead is missing or unusable.
    starts: seconds (W,), where each window begins in the recording.
    faults: lead -> why it is not used in at least one window, see `codec`.
    unusable: windows that were left out, and why.
  """

  ecg: np.ndarray
  lead_valid: np.ndarray
  starts: tuple[float, ...]
  faults: dict[str, str]
  unusable: tuple[str, ...]


def cut(
  recording: codec.Recording, sampling_rate: int, patch_length: int
) -> Windows:
  """Cuts a recording into windows, and resamples, repairs and rounds them.

  The fewest windows of 10 s that cover it, at equal distances from its first
  sample to its last one; they overlap where the length is no multiple of 10 s.
  A recording below 10 s is cut in the same way into windows of as many whole
  patches as it has. Windows in which no lead is usable are left out.

  Args:
    recording: in microvolt.
    sampling_rate: Hz of the windows.
    patch_length: samples of a patch in the windows.

  Raises:
    rejected.Rejected: shorter than a patch, or no window is usable.
  """
  rate, length = recording.sampling_rate, recording.signal.shape[1]
  if not (math.isfinite(rate) and rate > 0):
    raise rejected.WrongRate(f"{rate:g} Hz")
  total = math.floor((length / rate + _HELD_SECONDS) * sampling_rate)
  size = min(WINDOW_SECONDS * sampling_rate, total)
  size -= size % patch_length
  if not size:
    raise rejected.WrongLength(
      f"{length / rate:.2f} s; at least {patch_length / sampling_rate:g} s are"
      " needed"
    )
  spec = codec.SignalSpec(sampling_rate, size, min_valid_leads=1)
  needed = math.ceil(size * rate / sampling_rate)
  count = math.ceil(max(length - _HELD_SECONDS * rate, 1) / needed)
  begins = np.linspace(0, max(length - needed, 0), count).round().astype(int)
  encoded, starts, unusable, error = [], [], [], None
  for begin in begins.tolist():
    try:
      encoded.append(codec.encode(_part(recording, begin, needed), spec))
      starts.append(begin / rate)
    except rejected.Rejected as e:
      error = error or e
      unusable.append(f"from {begin / rate:.1f} s: {e}")
  if not encoded:
    raise error
  faults = {}
  for window in encoded:
    invalid = np.flatnonzero(~window.lead_valid)
    for i, fault in zip(invalid, window.faults, strict=True):
      faults.setdefault(LEADS[i], fault)
  return Windows(
    np.stack([window.ecg for window in encoded]),
    np.stack([window.lead_valid for window in encoded]),
    tuple(starts),
    faults,
    tuple(unusable),
  )


def _part(
  recording: codec.Recording, begin: int, needed: int
) -> codec.Recording:
  """The recording from a sample on; at least `needed` samples."""
  signal = recording.signal[:, begin : begin + needed + needed // 4]
  lacking = needed - signal.shape[1]
  if lacking > 0:
    signal = np.pad(signal, ((0, 0), (0, lacking)), mode="edge")
  return dataclasses.replace(recording, signal=signal)
