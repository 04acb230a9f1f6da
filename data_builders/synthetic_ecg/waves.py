"""All waves of a recording at the electrodes."""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_ecg import atrial, dipole, rhythm
from data_builders.synthetic_ecg.findings import Findings

# Seconds before and after the start of QRS in which a beat has its P to U.
_BEFORE, _AFTER = 0.40, 0.80
_PAD = rhythm.MARGIN + max(_BEFORE, _AFTER) + 0.05
_MICRO = 1000.0
_P = slice(dipole.NUM_KERNELS, dipole.NUM_KERNELS + 3)


def potentials(
  rng: np.random.Generator,
  rate: int,
  f: Findings,
  events: rhythm.Events,
  kinds: list[dipole.Beat],
  gains: list[np.ndarray],
  atrial_gains: np.ndarray,
) -> np.ndarray:
  """Potentials of the heart, without noise.

  Args:
    rng: random numbers.
    rate: sampling rate, Hz.
    f: findings to simulate.
    events: beats of the recording.
    kinds: the usual beat and, if there are any, the other one.
    gains: electrode gains of each of these beats, (K, 9, 3).
    atrial_gains: electrode gains of the atria, (9, 3).

  Returns:
    float32 (9, SECONDS * rate), microvolt.
  """
  time, width, amplitude = _ventricles(rng, kinds, gains, events)
  _atria(rng, f, atrial_gains, events, time, width, amplitude)
  out = _beats(rate, events.beats, time, width, amplitude * _MICRO)
  if events.atrial_rate:
    t = np.arange(len(out)) / rate
    wave = atrial.fibrillation if f.rhythm == "AFIB" else atrial.flutter
    out += (wave(rng, events, t) @ (atrial_gains.T * _MICRO)).astype(np.float32)
  return out.T


def _beats(rate, beats, time, width, amplitude) -> np.ndarray:
  """Sum of the Gaussian kernels of all beats.

  Args:
    rate: sampling rate, Hz.
    beats: (N,) start of QRS, seconds.
    time: (N, K) centres, seconds from the start of QRS.
    width: (N, K) standard deviations, seconds.
    amplitude: (N, K, 9) microvolt.

  Returns:
    float32 (SECONDS * rate, 9).
  """
  samples, total = round(rhythm.SECONDS * rate), round(2 * _PAD * rate)
  begin, length = round(_PAD * rate), int((_BEFORE + _AFTER) * rate)
  first = np.floor((beats - _BEFORE) * rate)
  t = np.arange(length, dtype=np.float32) / np.float32(rate)
  scale = (np.sqrt(0.5) / width).astype(np.float32)
  centre = (time + (beats - first / rate)[:, None]).astype(np.float32) * scale
  x = t * scale[..., None]  # (N, K, length): samples last, that is fastest
  x -= centre[..., None]
  np.square(x, out=x)
  np.minimum(x, 40.0, out=x)  # exp(-100) is subnormal, and slow to multiply
  np.negative(x, out=x)
  np.exp(x, out=x)
  waves = np.matmul(x.transpose(0, 2, 1), amplitude.astype(np.float32))
  out = np.zeros((samples + total, 9), np.float32)
  starts = (first + begin).astype(np.int64).tolist()
  for start, wave in zip(starts, waves, strict=True):
    out[start : start + length] += wave
  return out[begin : begin + samples]


def _ventricles(rng: np.random.Generator, kinds, gains, events):
  """QRS, ST, T and U of all beats.

  Returns:
    time, width (N, K + 3) and amplitude (N, K + 3, 9) with room for P.
  """
  n, kind = len(events.beats), events.other.astype(np.intp)
  last, rates = 0.0, []
  # The QT interval follows the heart rate of the last beats, not of one.
  for rr in events.rr.tolist():
    rr = min(max(rr, 0.3), 2.0)
    last = 0.7 * last + 0.3 * rr if last else rr
    rates.append(last)
  time = np.zeros((n, _P.stop))
  width = np.full((n, _P.stop), 0.02)
  amplitude = np.zeros((n, _P.stop, 9))
  time[:, : _P.start] = np.array([k.time for k in kinds])[kind]
  width[:, : _P.start] = np.array([k.width for k in kinds])[kind]
  unit = [
    dipole.at_electrodes(g, k.vector) for g, k in zip(gains, kinds, strict=True)
  ]
  # Breathing moves the heart and fills it more or less.
  z = rng.standard_normal(n + 1)
  phase = 2 * np.pi * (rng.uniform(0.18, 0.32) * events.beats + rng.random())
  size = 1 + 0.04 * abs(z[n]) * np.sin(phase) + 0.012 * z[:n]
  amplitude[:, : _P.start] = np.array(unit)[kind] * size[:, None, None]
  # At fast rates T begins early; it never starts within QRS.
  qrs, qtc = np.array([(k.qrs, k.qtc) for k in kinds])[kind].T
  end = np.maximum(qtc * np.cbrt(rates), qrs + 0.12)
  time[:, dipole.T_EARLY : _P.start] += end[:, None]
  time[:, dipole.T_EARLY] = np.maximum(time[:, dipole.T_EARLY], qrs + 0.06)
  # The ST kernel bridges the gap between QRS and T, however long it is.
  gap = time[:, dipole.T] - qrs
  time[:, dipole.ST] = qrs + 0.30 * gap
  width[:, dipole.ST] = 0.33 * gap
  return time, width, amplitude


def _atria(
  rng: np.random.Generator, f: Findings, gains, events, time, width, amplitude
) -> None:
  """Puts P waves into the last kernels of beats that have one."""
  if f.rhythm == "SVTAC":
    # Hidden in QRS, or a small retrograde wave behind it.
    if rng.random() < 0.5:
      vector = np.array([-0.01, -0.07, 0.05]) * rng.uniform(0.4, 1.2)
      time[:, _P.start] = rng.uniform(0.15, 0.20)
      amplitude[:, _P.start] = gains @ vector
    return
  conducted = np.isfinite(events.p_lead)
  for ectopic in (False, True):
    rows = np.flatnonzero(conducted & (events.p_ectopic == ectopic))
    if not len(rows):
      continue
    vector, at, spread = dipole.atrial_kernels(
      rng, "" if ectopic else f.patient.atria, ectopic
    )
    time[rows, _P] = at - events.p_lead[rows, None]
    width[rows, _P] = spread
    amplitude[rows, _P] = vector @ gains.T
