"""Continuous atrial activity: fibrillation and flutter waves.

Both are dipoles (x left, y down, z front; millivolt) in the atria.
"""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_ecg.rhythm import Events

PLACE = np.array(
  [[-3.0, -4.0, -2.5]]
)  # centimetres from the middle of the heart


def fibrillation(
  rng: np.random.Generator, events: Events, t: np.ndarray
) -> np.ndarray:
  """f-waves of 5 to 8.5 Hz: unsteady in rate, size and direction.

  Fine (20 microvolt) to coarse (200 microvolt in V1), as in Bollmann et al.,
  "Analysis of surface electrocardiograms in atrial fibrillation" (Europace
  2006).

  Returns:
    (T, 3) millivolt.
  """
  size = 0.036 * np.exp(0.55 * rng.standard_normal())
  axes = np.array([0.35, 0.75, 1.4]) * np.exp(0.3 * rng.standard_normal(3))
  out = np.zeros((len(t), 3))
  for weight in (1.0, 0.6):
    # Slow random walks of phase and size.
    slow = rng.uniform(0.15, 1.1, 3)
    start = rng.uniform(0, 2 * np.pi, 6)
    swing = rng.uniform(0.2, 0.5)
    f = events.atrial_rate * rng.uniform(0.9, 1.1)
    turns = 2 * np.pi * f * t + swing * f / (2 * slow[0]) * np.sin(
      2 * np.pi * slow[0] * t + start[0]
    )
    level = 1 + 0.45 * np.sin(2 * np.pi * slow[1] * t + start[1])
    for axis in range(3):
      wave = turns + start[3 + axis]
      shape = np.sin(wave) + 0.3 * np.sin(2 * wave + start[2])
      out[:, axis] += weight * axes[axis] * level * shape
  return size * out


def flutter(
  rng: np.random.Generator, events: Events, t: np.ndarray
) -> np.ndarray:
  """Flutter waves: saw teeth, negative in II, III and aVF, upright in V1.

  They keep step with conducted beats, as a circuit does.

  Returns:
    (T, 3) millivolt.
  """
  waves = np.rint(np.diff(events.beats) * events.atrial_rate)
  count = np.concatenate([[0.0], np.cumsum(waves)])
  phase = np.interp(t, events.beats, count)
  before, after = t < events.beats[0], t > events.beats[-1]
  phase[before] = (t[before] - events.beats[0]) * events.atrial_rate
  phase[after] += (t[after] - events.beats[-1]) * events.atrial_rate
  turns = 2 * np.pi * (phase + rng.random())
  size = 0.11 * np.exp(0.35 * rng.standard_normal())
  clockwise = -1.0 if rng.random() < 0.2 else 1.0
  saw = np.zeros((len(t), 2))
  for k, amplitude in enumerate((1.0, 0.42, 0.18), 1):
    saw[:, 0] += amplitude * np.sin(k * turns)
    saw[:, 1] += amplitude * np.sin(k * (turns + 0.9))
  axes = np.array([0.15, 1.0, 0.0]) * clockwise
  out = np.outer(saw[:, 0], axes)
  out[:, 2] = 0.75 * rng.uniform(0.5, 1.5) * saw[:, 1]
  return size * out
