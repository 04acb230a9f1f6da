"""From heart dipoles to electrode potentials and from those to 12 leads.

Axes of the heart vector, millivolt: x left, y down, z front.

The image vectors of the electrodes (how much each axis contributes to the
potential there) start from the coefficients that Dower, Machado and Osborne
("On deriving the electrocardiogram from vectorcardiographic leads", Clinical
Cardiology 1980) measured on a model torso. I and II are 1.15 times theirs, V1
is 0.87 (x), 0.83 (y) and 0.72 (z) times theirs, as in healthy adults of PTB-XL.
Every patient gets another torso: electrodes slip along and up the chest, body
build changes their gains, and the dipole of each wave sits at its own place,
nearer to some electrodes than to others (potential falls with the square of
distance).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from cgdmer_jax.data.leads import NUM_LEADS

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")

# Rows: leads I, II, then V1..V6 against the central terminal. Columns x, y, z.
_LEAD_VECTORS = np.array([
  [0.727, -0.270, -0.068], [0.270, 1.226, 0.152], [-0.450, 0.130, 0.660],
  [0.044, 0.164, 1.387], [0.882, 0.098, 1.277], [1.213, 0.127, 0.601],
  [1.125, 0.127, 0.086], [0.831, 0.076, -0.230],
])  # fmt: skip

# Precordial electrodes seen from the middle of the heart, centimetres.
_CHEST = np.array([
  [-4.0, -1.5, 7.0], [0.5, -1.5, 7.5], [4.0, 0.0, 7.5], [7.5, 2.0, 6.5],
  [11.0, 2.0, 3.0], [13.0, 2.0, -1.5],
])  # fmt: skip


class Torso(NamedTuple):
  """A patient's volume conductor.

  Attributes:
    image: (9, 3) potential at each electrode per unit dipole in the middle of
      the heart.
    chest: (6, 3) precordial electrode positions, centimetres.
  """

  image: np.ndarray
  chest: np.ndarray


def _electrode_vectors() -> np.ndarray:
  """(9, 3); the limb electrodes sum to 0, so Wilson's terminal is 0."""
  lead_i, lead_ii = _LEAD_VECTORS[:2]
  right_arm = -(lead_i + lead_ii) / 3
  limbs = np.stack([right_arm, lead_i + right_arm, lead_ii + right_arm])
  return np.concatenate([limbs, _LEAD_VECTORS[2:]])


_IMAGE = _electrode_vectors()


def draw(rng: np.random.Generator) -> Torso:
  """A random torso."""
  z = rng.standard_normal(9 + 9 + 6 + 2)
  image = _IMAGE.copy()
  # All chest electrodes slip to the left or right together, each a bit alone.
  slip = np.clip(0.3 * z[24] + 0.12 * z[18:24], -0.9, 0.9)
  chest = _IMAGE[3:]
  left = np.concatenate([chest[:1], chest[:-1]])
  right = np.concatenate([chest[1:], chest[-1:]])
  shift = slip[:, None]
  image[3:] = chest + np.where(shift > 0, right - chest, chest - left) * shift
  image[3:, 1] += 0.12 * z[25]
  image *= np.exp(0.10 * z[:9])[:, None]
  image[3:] += 0.05 * z[9:15, None]
  image[:3] += 0.03 * z[15:18, None]
  # Patients differ in how far the chest wall is from the heart.
  return Torso(image, _CHEST + np.array([0.0, z[25], 0.0]))


def electrode_gains(torso: Torso, place: np.ndarray) -> np.ndarray:
  """Potential at the electrodes per unit dipole at `place`.

  Args:
    torso: the volume conductor.
    place: (K, 3) centimetres from the middle of the heart.

  Returns:
    (K, 9, 3).
  """
  near = np.square(torso.chest - place[:, None]).sum(-1)
  gains = np.empty((len(place), 9, 3))
  gains[:, :3] = torso.image[:3]
  ratio = np.square(torso.chest).sum(-1) / near
  np.multiply(torso.image[3:], ratio[..., None], out=gains[:, 3:])
  return gains


def leads(potentials: np.ndarray) -> np.ndarray:
  """The 12 leads of the electrode potentials.

  Potentials are rounded to integer microvolt first. Bipolar leads are then
  exact integer differences (so I + III = II without rounding), augmented leads
  and V1..V6 are off by rounding of halves and thirds only.

  Args:
    potentials: (9, T) microvolt, order of `ELECTRODES`, right leg = 0.

  Returns:
    int16 (12, T) in the canonical lead order.
  """
  v = np.rint(potentials).astype(np.int32)
  ra, la, ll = v[:3]
  out = np.empty((NUM_LEADS, v.shape[1]), np.int32)
  out[0] = la - ra
  out[1] = ll - ra
  out[2] = ll - la
  out[3:6] = np.rint(_AUGMENTED @ v[:3])
  out[6:] = v[3:] - np.rint((ra + la + ll) * np.float32(1 / 3)).astype(np.int32)
  return np.clip(out, -32768, 32767).astype(np.int16)


_AUGMENTED = np.array(
  [[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1]], np.float32
)


@functools.lru_cache(maxsize=8)
def lead_matrix() -> np.ndarray:
  """(12, 9): leads as linear combinations of electrode potentials."""
  m = np.zeros((NUM_LEADS, 9))
  m[0, [1, 0]] = m[1, [2, 0]] = m[2, [2, 1]] = 1, -1
  m[3:6, :3] = _AUGMENTED
  m[6:, 3:] = np.eye(6)
  m[6:, :3] -= 1 / 3
  return m
