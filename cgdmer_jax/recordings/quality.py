"""Whether a recording can be trusted: flat, clipped, noisy, swapped, unit.

Flags warn; nothing is corrected and nothing is left out because of one.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings.codec import Recording

FLAT_UV = 5.0  # a second with less, peak to peak, is flat
FLAT_SHARE = 0.2  # of the seconds of a lead
CLIPPED_SECONDS = 0.012  # at the same extreme value without a break
CLIPPED_TIMES = 3  # such plateaus: one may be a spike
NOISE_UV = 40.0  # robust deviation of what a mean over 40 ms leaves
EINTHOVEN_SHARE = 0.25  # of II - I - III, as a share of the three leads
LIKENESS = 0.3  # correlation of I and V6 is below minus this
MIN_AMPLITUDE_UV = 100.0  # below, nothing is said about polarity


@dataclasses.dataclass(frozen=True)
class Flag:
  """A doubt about a recording.

  Attributes:
    kind: flat, clipped, noise, limb_leads or amplitude.
    leads: which leads it is about.
    text: what was seen, for people.
  """

  kind: str
  leads: tuple[str, ...]
  text: str


def amplitude_mv(recording: Recording) -> float:
  """Height of the QRS complexes: range without 0.5 % at both ends, in mV.

  The median over the leads that are there; NaN without any sample.
  """
  step = max(int(recording.sampling_rate / 125), 1)  # QRS lasts 80 ms
  rows = recording.signal[recording.present, ::step]
  rows = rows[np.isfinite(rows).any(axis=1)] if rows.size else rows
  if not rows.size:
    return math.nan
  if not np.isfinite(rows).all():
    low, high = np.nanpercentile(rows, (0.5, 99.5), axis=1)
  else:
    low, high = np.percentile(rows, (0.5, 99.5), axis=1)
  return float(np.median(high - low)) / 1e3


def check(
  recording: Recording, amplitude_range: tuple[float, float] | None = None
) -> tuple[Flag, ...]:
  """Looks for what makes a recording doubtful.

  Args:
    recording: as it was read, in microvolt.
    amplitude_range: usual `amplitude_mv` of training; None: not compared.
  """
  flags = []
  if amplitude_range:
    flags += _check_amplitude(amplitude_mv(recording), amplitude_range)
  rows = np.flatnonzero(recording.present)
  # Single precision halves the time; a microvolt stays exact.
  whole = recording.signal.astype(np.float32)
  if not np.isfinite(whole[rows]).all():
    whole = np.nan_to_num(whole)
  signal = whole[rows]
  rate = recording.sampling_rate
  for kind, found, text in (
    ("flat", _flat(signal, rate), f"no signal in over {FLAT_SHARE:.0%} of"),
    ("clipped", _clipped(signal, rate), "cut off at its largest value:"),
    ("noise", _noisy(signal, rate), "high-frequency noise in"),
  ):
    names = tuple(LEADS[i] for i in rows[found])
    if names:
      flags.append(Flag(kind, names, f"{text} {', '.join(names)}"))
  return (*flags, *_check_limb_leads(recording.present, whole))


def _check_amplitude(amplitude: float, usual: tuple[float, float]):
  low, high = usual
  expected = f"{low:.2f} to {high:.2f} mV in training"
  for factor, what in ((1e3, "small"), (1e-3, "large")):
    if low / 2 <= amplitude * factor <= high * 2 and not (
      low / 3 <= amplitude <= high * 3
    ):
      text = f"about 1,000 times too {what} ({amplitude:.3g} mV; {expected})"
      yield Flag("amplitude", (), f"{text}; is the unit wrong?")
      return
  if not low / 3 <= amplitude <= high * 3:
    yield Flag("amplitude", (), f"unusual: {amplitude:.3g} mV; {expected}")


def _flat(signal: np.ndarray, rate: float) -> np.ndarray:
  seconds = max(int(signal.shape[1] / rate), 1)
  size = signal.shape[1] // seconds
  parts = signal[:, : seconds * size].reshape(len(signal), seconds, size)
  return (np.ptp(parts, axis=2) < FLAT_UV).mean(axis=1) > FLAT_SHARE


def _clipped(signal: np.ndarray, rate: float) -> np.ndarray:
  """Which leads stay at their largest or smallest value again and again."""
  run = max(math.ceil(CLIPPED_SECONDS * rate), 3)
  if signal.shape[1] <= run:
    return np.zeros(len(signal), bool)
  clipped = np.zeros(len(signal), bool)
  height = np.ptp(signal, axis=1)
  for extreme in (signal.max(axis=1), signal.min(axis=1)):
    at = signal == extreme[:, None]
    for i in np.flatnonzero(at.sum(axis=1) >= run * CLIPPED_TIMES):
      edges = np.flatnonzero(np.diff(np.pad(at[i].astype(np.int8), 1)))
      plateaus = (edges[1::2] - edges[::2] >= run).sum()
      clipped[i] |= plateaus >= CLIPPED_TIMES and height[i] > 2 * FLAT_UV
  return clipped


def _noisy(signal: np.ndarray, rate: float) -> np.ndarray:
  """QRS complexes take a tenth of the time: the median does not see them."""
  width = max(round(0.04 * rate), 2)
  if signal.shape[1] <= 2 * width:
    return np.zeros(len(signal), bool)
  step = max(int(rate / 100), 1)  # enough for a median
  total = np.cumsum(signal, axis=1, dtype=np.float64)
  mean = (total[:, width::step] - total[:, :-width:step]) / width
  middle = signal[:, width - width // 2 :: step][:, : mean.shape[1]]
  rest = np.abs(middle - mean[:, : middle.shape[1]])
  return 1.4826 * np.median(rest, axis=1) > NOISE_UV


def _check_limb_leads(has: np.ndarray, signal: np.ndarray):
  """Electrodes or leads that were exchanged.

  Arms: lead I is turned over, and does not look like V6, or without V6, aVR is
  upright. In 252 real recordings this says so of 1.2 %, and of 82 % of the same
  ones after the exchange by arithmetic.
  """
  i, ii, iii, avr, v6 = (signal[k] - signal[k].mean() for k in (0, 1, 2, 3, 11))
  if has[:3].all():
    size = np.sqrt((i**2).mean() + (ii**2).mean() + (iii**2).mean())
    residual = np.sqrt(((ii - i - iii) ** 2).mean())
    if residual > EINTHOVEN_SHARE * size > 0:
      text = f"II is not I + III: the difference is {residual / size:.0%}"
      leads = "I", "II", "III"
      yield Flag("limb_leads", leads, f"{text}; are leads exchanged?")
      return
  # The third power is that of the QRS complexes, with their sign.
  if not has[0] or (i * i * i).mean() > -0.02 * MIN_AMPLITUDE_UV**3:
    return
  arms = "are the arm electrodes exchanged?"
  if has[11]:
    size = np.sqrt((i * i).mean() * (v6 * v6).mean())
    if (i * v6).mean() < -LIKENESS * size:
      text = f"I is turned over and unlike V6: {arms}"
      yield Flag("limb_leads", ("I", "V6"), text)
    return
  avr = avr if has[3] else -(i + ii) / 2
  if (has[3] or has[1]) and (avr * avr * avr).mean() > 0:
    text = f"I is turned over and aVR is upright: {arms}"
    yield Flag("limb_leads", ("I", "aVR"), text)
