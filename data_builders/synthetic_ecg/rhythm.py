"""When atria and ventricles are activated: event times of a recording."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_builders.synthetic_ecg.findings import Findings, limit

SECONDS = 10.0
MARGIN = 0.85  # events this long before 0 s or after 10 s may reach into it


class Events(NamedTuple):
  """Heart beats between -MARGIN and SECONDS + MARGIN.

  Attributes:
    beats: (B,) start of each QRS complex, seconds, ascending.
    other: (B,) bool: not the patient's usual QRS complex.
    other_kind: what the other beats are: "", "PVC" or "ABERRANT".
    rr: (B,) seconds since the beat before.
    p_lead: (B,) seconds from the start of P to QRS; nan: no P wave.
    p_ectopic: (B,) bool: P from a focus outside of the sinus node.
    atrial_rate: rate of flutter or fibrillation waves, Hz; 0 without them.
  """

  beats: np.ndarray
  other: np.ndarray
  other_kind: str
  rr: np.ndarray
  p_lead: np.ndarray
  p_ectopic: np.ndarray
  atrial_rate: float

  @property
  def p_waves(self) -> np.ndarray:
    """(P,) start of each P wave, seconds."""
    return (self.beats - self.p_lead)[np.isfinite(self.p_lead)]


def _sinus_intervals(
  rng: np.random.Generator, n: int, rr: float, rhythm: str
) -> np.ndarray:
  """RR intervals with respiratory and slow random variation.

  Sinus arrhythmia swings by 7 to 20 % to either side, sinus rhythm mostly by
  less. The two overlap, as what readers of PTB-XL call them does.
  """
  breath = rng.uniform(0.16, 0.33)
  arrhythmia = rhythm == "SARRH"
  if arrhythmia:
    depth = rng.uniform(0.065, 0.18)
  else:
    # A slow heart breathes more.
    depth = min(rng.exponential(0.05 if rhythm == "SBRAD" else 0.03), 0.10)
  t = rr * np.arange(n)
  phase = 2 * np.pi * (breath * t + rng.random())
  noise = rng.standard_normal(n)
  noise[1:] = 0.6 * noise[:-1] + 0.8 * noise[1:]
  # Heart rate rises faster than it falls.
  wave = np.sin(phase) + 0.25 * np.sin(2 * phase)
  level = 0.03 if arrhythmia else rng.uniform(0.004, 0.015)
  return rr * (1 + depth * wave + level * noise)


def _fibrillation_intervals(
  rng: np.random.Generator, n: int, rr: float
) -> np.ndarray:
  """Independent, skewed RR intervals: no two alike ("absolute arrhythmia")."""
  spread = rng.uniform(0.15, 0.28)
  out = rr * np.exp(spread * rng.standard_normal(n) - spread**2 / 2)
  return np.clip(out, 0.33, 2.2)


def _flutter_intervals(
  rng: np.random.Generator, n: int, rr: float
) -> tuple[np.ndarray, float]:
  """Every 2nd, 3rd or 4th flutter wave is conducted, or a varying number."""
  ratio = int(limit(round(4.75 * rr), 2, 5))
  rate = limit(ratio / rr, 4.0, 5.6)
  if rng.random() < 0.45:
    waves = ratio + rng.integers(-1, 2, n)
    waves = np.maximum(waves, 2)
  else:
    waves = np.full(n, ratio)
  return waves / rate * (1 + 0.006 * rng.standard_normal(n)), rate


def _intervals(
  rng: np.random.Generator, f: Findings, n: int
) -> tuple[np.ndarray, float]:
  rr = 60 / f.rate
  if f.rhythm == "AFIB":
    return _fibrillation_intervals(rng, n, rr), float(rng.uniform(5.0, 8.5))
  if f.rhythm == "AFLT":
    return _flutter_intervals(rng, n, rr)
  if f.rhythm in ("SVTAC", "PACE"):
    return rr * (1 + 0.004 * rng.standard_normal(n)), 0.0
  return _sinus_intervals(rng, n, rr, f.rhythm), 0.0


def _premature(
  rng: np.random.Generator, f: Findings, beats: np.ndarray
) -> np.ndarray:
  """Which beats come early; at least one well inside of the recording."""
  early = np.zeros(len(beats), bool)
  step = {"BIGU": 2, "TRIGU": 3}.get(f.ectopy)
  if step:
    early[int(rng.integers(step)) + 1 :: step] = True
    return early
  inside = np.flatnonzero((beats > 0.9) & (beats < SECONDS - 0.7))
  count = min(1 + int(rng.poisson(0.7)), max(1, len(inside) // 4))
  early[rng.choice(inside, count, replace=False)] = True
  # Couplets would need rules of their own.
  early[1:] &= ~early[:-1]
  return early


def draw(rng: np.random.Generator, f: Findings, pr: float) -> Events:
  """Event times for the findings `f` and the PR interval `pr` (seconds)."""
  span = SECONDS + 2 * MARGIN
  n = int(span * f.rate / 60 * 1.5) + 4
  rr, atrial_rate = _intervals(rng, f, n)
  beats = np.cumsum(rr) - rr[0] * rng.random() - MARGIN
  other, ectopic_p = np.zeros(n, bool), np.zeros(n, bool)
  other_kind = ""
  silent = f.rhythm in ("AFIB", "AFLT", "SVTAC") or f.patient.fibrillation
  p_lead = np.full(n, np.nan if silent else pr)
  if f.ectopic_focus:
    early = _premature(rng, f, beats)
    mean = float(rr.mean())
    if f.ectopic_focus == "PVC":
      # The sinus node goes on: a full compensatory pause follows.
      coupling = mean * rng.uniform(0.52, 0.70) + 0.02 * rng.standard_normal(n)
      before = np.concatenate([[beats[0] - mean], beats[:-1]])
      moved = np.minimum(before + np.maximum(coupling, 0.34), beats - 0.08)
      beats = np.where(early, moved, beats)
      other, other_kind = early, "PVC"
      p_lead[early] = np.nan
    else:
      # An atrial focus resets the sinus node: later beats move as well.
      advance = np.where(early, mean * rng.uniform(0.22, 0.38), 0.0)
      beats = beats - np.cumsum(advance) * rng.uniform(0.85, 1.0)
      beats[early] -= 0.02 * rng.random(int(early.sum()))
      ectopic_p = early
      p_lead[early] *= rng.uniform(0.85, 1.1)
      if rng.random() < 0.2:
        other, other_kind = early, "ABERRANT"
  keep = (beats > -MARGIN) & (beats < SECONDS + MARGIN)
  gaps = np.diff(beats, prepend=beats[0] - rr[0])
  return Events(
    beats[keep], other[keep], other_kind, gaps[keep], p_lead[keep],
    ectopic_p[keep], atrial_rate,
  )  # fmt: skip
