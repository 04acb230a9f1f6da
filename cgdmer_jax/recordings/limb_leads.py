"""The six limb leads hold two signals: four follow from any two of them.

Einthoven (1913) and Goldberger (1942): with the electrodes' potentials R, L, F,

    I = L - R, II = F - R, III = F - L = II - I,
    aVR = R - (L + F) / 2 = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.

No two of them are multiples of each other, so every pair can be solved.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings.codec import MIN_RANGE_UV, Recording

NUM_LIMB_LEADS = 6
# I, II, III, aVR, aVL, aVF as sums of I and II.
_OF_I_AND_II = np.array(
  [[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]]
)


def derive(recording: Recording) -> tuple[Recording, tuple[str, ...]]:
  """Computes limb leads that a recording lacks from those that it has.

  A lead without any signal (constant, or no sample) counts as lacking. I and II
  are used where both are there, else all limb leads, by least squares.

  Args:
    recording: in microvolt; not modified.

  Returns:
    The recording with all limb leads, or the same one if fewer than two have a
    signal or none is lacking; and the names of the derived leads.
  """
  signal = recording.signal
  has = np.array([_has_signal(row) for row in signal[:NUM_LIMB_LEADS]])
  has &= recording.present[:NUM_LIMB_LEADS]
  lacking = np.flatnonzero(~has)
  if has.sum() < 2 or not lacking.size:
    return recording, ()
  known = [0, 1] if has[:2].all() else np.flatnonzero(has)
  # Exact where I and II are known: the inverse of the identity.
  weights = _OF_I_AND_II[lacking] @ np.linalg.pinv(_OF_I_AND_II[known])
  signal, present = signal.copy(), recording.present.copy()
  signal[lacking], present[lacking] = weights @ signal[known], True
  derived = tuple(LEADS[i] for i in lacking)
  return dataclasses.replace(recording, signal=signal, present=present), derived


def _has_signal(row: np.ndarray) -> bool:
  known = row[np.isfinite(row)]
  return known.size > 0 and float(np.ptp(known)) >= MIN_RANGE_UV
