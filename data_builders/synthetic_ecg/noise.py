"""Noise at the electrodes, before leads are formed.

What reaches one electrode reaches every lead that it takes part in, as in a
real recorder. Levels match the spectrum of PTB-XL recordings: baseline wander
below 0.5 Hz, muscle noise up to the recorder's low-pass filter.
"""

from __future__ import annotations

import functools

import numpy as np

from data_builders.synthetic_ecg import rhythm

MAINS_HZ = 50.0
_INT8_VARIANCE = (256**2 - 1) / 12
_BAND_HZ = 150.0  # of the recorder, where the sampling rate allows it


@functools.lru_cache(maxsize=8)
def _shapes(sampling_rate: int) -> tuple[int, np.ndarray, np.ndarray]:
  """FFT length (longer than the recording: no wrap-around) and two spectra.

  Returns:
    length, wander spectrum (F,), muscle spectrum (F,); noise that is
    made of random int8 times either has unit standard deviation.
  """
  length = round(1.08 * rhythm.SECONDS * sampling_rate)
  f = np.fft.rfftfreq(length, 1 / sampling_rate)
  # High-pass of the recorder at 0.05 to 0.1 Hz, then a steep fall.
  wander = np.where(f > 0.04, (f / 0.2) ** 1.0, 0) / (1 + (f / 0.22) ** 3.2)
  edge = min(_BAND_HZ, 0.45 * sampling_rate)
  muscle = (f > 0.3) * (f / (f + 8.0)) / (1 + (f / edge) ** 40)
  out = []
  for shape in (wander, muscle):
    # Both parts of a bin are uniform over int8; bins count twice in a signal.
    variance = 4 * np.square(shape).sum() * _INT8_VARIANCE / length**2
    out.append((shape / np.sqrt(variance)).astype(np.float32))
  return length, out[0], out[1]


def draw(rng: np.random.Generator, sampling_rate: int) -> np.ndarray:
  """(9, T) float32 microvolt: wander, muscle, mains, motion.

  At 100 Hz there is no mains noise: recorders remove it before they reduce
  the rate.
  """
  length, wander, muscle = _shapes(sampling_rate)
  samples = int(rhythm.SECONDS * sampling_rate)
  u = rng.standard_normal(24, np.float32)
  drift = 26.0 * np.exp(0.75 * u[0] + 0.35 * u[1:10])
  tremor = 2.6 * np.exp(0.65 * u[10] + 0.35 * u[11:20])
  # Uniform parts of each frequency make Gaussian noise in time, and raw bytes
  # come ten times as fast as normal numbers.
  number = 18 * len(wander)
  raw = rng.bit_generator.random_raw(-(-number // 8))
  parts = raw.astype("<u8").view(np.int8)[:number].astype(np.float32)
  spectrum = parts.reshape(9, -1).view(np.complex64)
  spectrum *= drift[:, None] * wander + tremor[:, None] * muscle
  out = np.fft.irfft(spectrum, length)[:, :samples].astype(np.float32)
  kinds = rng.random(3)
  if kinds[0] < 0.10:
    _burst(rng, out, sampling_rate)
  if kinds[1] < 0.08:
    _motion(rng, out, sampling_rate)
  if sampling_rate > 2.5 * MAINS_HZ and kinds[2] < 0.4:
    t = np.arange(samples, dtype=np.float32) / sampling_rate
    phase = rng.uniform(0, 2 * np.pi, (9, 1)).astype(np.float32)
    level = 3.0 * rng.exponential(1.0, (9, 1)).astype(np.float32)
    out += level * np.sin(2 * np.pi * MAINS_HZ * t + phase)
  return out


def _burst(
  rng: np.random.Generator, out: np.ndarray, sampling_rate: int
) -> None:
  """Muscle noise of some seconds on one to three electrodes."""
  rows = rng.choice(9, int(rng.integers(1, 4)), replace=False)
  start = int(rng.uniform(0, 0.8) * out.shape[1])
  stop = start + int(rng.uniform(0.5, 3.0) * sampling_rate)
  part = out[rows, start:stop]
  white = rng.standard_normal(part.shape, np.float32)
  white[:, 1:] = 0.5 * (white[:, 1:] + white[:, :-1])
  envelope = np.hanning(part.shape[1] + 2)[1:-1]
  out[rows, start:stop] = part + rng.uniform(20, 90) * envelope * white


def _motion(
  rng: np.random.Generator, out: np.ndarray, sampling_rate: int
) -> None:
  """An electrode is touched: a step that decays within a second or so."""
  row = int(rng.integers(9))
  start = int(rng.uniform(0, 0.95) * out.shape[1])
  t = np.arange(out.shape[1] - start, dtype=np.float32) / sampling_rate
  height = rng.normal(0, 350)
  rise = 1 - np.exp(-t / rng.uniform(0.02, 0.1))
  out[row, start:] += height * rise * np.exp(-t / rng.uniform(0.2, 1.0))
