"""The heart dipole of one beat: Gaussian kernels of its waves, P to U.

Each kernel is a dipole of fixed direction and place whose strength is a
Gaussian of time (after McSharry et al., "A dynamical model for generating
synthetic electrocardiogram signals", IEEE TBME 2003, and Sameni et al.,
"Multichannel ECG and noise modeling", EURASIP JASP 2007); the moving dipole of
a wave is the sum of its kernels. Axes: x left, y down, z front; millivolt.

Six QRS kernels follow the order of ventricular activation: septum, apex, free
wall (two), base, latest parts. Their mean and spread are those of the
vectorcardiograms of healthy adults in PTB-XL. Diseases change them by textbook
criteria (Surawicz et al., AHA/ACCF/HRS recommendations, part III, 2009, for
conduction; Thygesen et al., fourth universal definition, 2018, for infarcts).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_builders.synthetic_ecg.findings import limit

QRS, EXTRA, ST, T_EARLY, T, U = slice(0, 6), slice(6, 8), 8, 9, 10, 11
NUM_KERNELS = 12

# Fractions of the QRS duration.
_QRS_TIME = np.array([0.155, 0.29, 0.42, 0.55, 0.69, 0.83])
_QRS_WIDTH = np.array([0.070, 0.079, 0.079, 0.079, 0.084, 0.09])
_QRS_MEAN = np.array([
  [-0.08, -0.05, 0.21], [0.34, 0.13, 0.28], [1.04, 0.46, -0.40],
  [0.26, 0.20, -0.62], [-0.10, 0.01, -0.45], [-0.05, -0.02, -0.12],
])  # fmt: skip
_QRS_SPREAD = np.array([
  [0.07, 0.06, 0.11], [0.22, 0.13, 0.20], [0.24, 0.18, 0.28],
  [0.26, 0.18, 0.22], [0.13, 0.10, 0.19], [0.06, 0.06, 0.10],
])  # fmt: skip
# Where each kernel's dipole is, centimetres from the middle of the heart.
_PLACE = np.array([
  [-0.4, 0.0, 0.5], [0.6, 0.8, 0.7], [0.8, 0.4, 0.2], [0.6, 0.0, 0.0],
  [0.3, -0.8, -0.2], [0.0, -1.0, -0.2], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0],
  [-1.5, -1.5, 0.8], [-1.5, -1.5, 0.8], [-1.5, -1.5, 0.8], [0.0, 0.0, 0.0],
])  # fmt: skip


@dataclasses.dataclass
class Beat:
  """Kernels of one kind of beat; arrays have `NUM_KERNELS` rows.

  Attributes:
    vector: (K, 3) dipole, millivolt.
    time: (K,) seconds from the start of QRS; of T and U, seconds from the end
      of the T wave. That of ST follows from both.
    width: (K,) standard deviation, seconds.
    place: (K, 3) centimetres.
    qrs: duration of QRS, seconds.
    qtc: rate-corrected QT interval (Fridericia), seconds.
  """

  vector: np.ndarray
  time: np.ndarray
  width: np.ndarray
  place: np.ndarray
  qrs: float
  qtc: float


def rotation(rng: np.random.Generator, age: float) -> np.ndarray:
  """(3, 3) how the heart lies in the chest; it turns up left with age.

  The frontal angle has a standard deviation of 16 degrees, the others 12.
  """
  z = np.array([16.0, 12.0, 12.0]) * rng.standard_normal(3)
  z[0] += 2 - 0.33 * (age - 50)
  (ca, cb, cc), (sa, sb, sc) = np.cos(np.deg2rad(z)), np.sin(np.deg2rad(z))
  frontal = np.array([[ca, -sa, 0.0], [sa, ca, 0.0], [0.0, 0.0, 1.0]])
  horizontal = np.array([[cb, 0.0, -sb], [0.0, 1.0, 0.0], [sb, 0.0, cb]])
  sagittal = np.array([[1.0, 0.0, 0.0], [0.0, cc, -sc], [0.0, sc, cc]])
  return sagittal @ horizontal @ frontal


def normal_beat(
  rng: np.random.Generator, age: float, male: bool, turn: np.ndarray
) -> Beat:
  """A healthy ventricular beat.

  QRS 72 to 108 ms, QTc 340 to 430 (men) or 350 to 440 ms (women).
  """
  z = rng.standard_normal(6 + 16)
  vector = np.zeros((NUM_KERNELS, 3))
  qrs = _QRS_MEAN + _QRS_SPREAD * rng.standard_normal((6, 3))
  vector[QRS] = qrs @ turn.T
  # QRS and T loops turn together, but not completely.
  tall = np.exp(0.30 * z[0]) * (1.12 if male else 0.92)
  tall *= 1.0 - 0.004 * (age - 50)
  main = np.array([0.33, 0.11, 0.135]) + z[6:9] * np.array([0.09, 0.05, 0.10])
  main = 0.6 * main * tall + 0.4 * (main @ turn.T) * tall
  vector[T] = main
  vector[T_EARLY] = 0.28 * main + np.array([0.03, 0.0, 0.07]) * tall
  vector[ST, 2] = 0.045 + 0.03 * z[1] + (0.025 if male else -0.01)
  vector[ST, :2] = np.array([0.008, 0.004]) + 0.014 * z[9:11]
  # After T the voltage falls slowly: the U wave, mostly without a peak.
  vector[U] = np.exp(0.5 * z[11]) * np.array([0.006, 0.008, 0.022])
  duration = limit(
    0.083 + (0.003 if male else -0.003) + 0.007 * z[2], 0.066, 0.104
  )
  low, high = (0.340, 0.430) if male else (0.350, 0.440)
  qtc = limit(0.386 + (0 if male else 0.010) + 0.016 * z[3], low, high)
  time, width = np.zeros(NUM_KERNELS), np.full(NUM_KERNELS, 0.02)
  time[QRS] = duration * (_QRS_TIME + 0.012 * z[12:18])
  width[QRS] = duration * _QRS_WIDTH * np.exp(0.08 * z[4])
  falling = limit(0.036 * np.exp(0.14 * z[5]), 0.027, 0.052)
  width[T], time[T] = falling, -2.0 * falling
  width[T_EARLY], time[T_EARLY] = 1.4 * falling, -3.8 * falling
  width[U], time[U] = 0.080, 0.07
  return Beat(vector, time, width, _PLACE.copy(), duration, qtc)


def stretch(beat: Beat, duration: float) -> None:
  """Makes QRS last `duration` seconds; the shape stays."""
  factor = duration / beat.qrs
  beat.time[:8] *= factor
  beat.width[:8] *= factor
  beat.qrs = duration


def wide_beat(
  rng: np.random.Generator, vectors: np.ndarray, duration: float, base: Beat
) -> Beat:
  """A beat that spreads through muscle: slurred, T opposite to QRS.

  Args:
    rng: random numbers.
    vectors: (6, 3) QRS kernels.
    duration: length of QRS, seconds.
    base: the patient's own beat; its T width and QTc are kept.

  Returns:
    The beat. ST and T point against the area of QRS (secondary changes).
  """
  beat = Beat(
    np.zeros((NUM_KERNELS, 3)), base.time.copy(), base.width.copy(),
    np.zeros((NUM_KERNELS, 3)), duration, base.qtc + 0.6 * (duration - 0.09),
  )  # fmt: skip
  z = rng.standard_normal(8)
  beat.vector[QRS] = vectors
  beat.time[QRS] = duration * (_QRS_TIME + 0.015 * z[:6])
  beat.width[QRS] = duration * _QRS_WIDTH
  area = (vectors * beat.width[QRS, None]).sum(0) * 2.5
  beat.vector[T] = -area / 0.11 * np.exp(0.3 * z[6]) * 0.47
  beat.vector[T_EARLY] = 0.55 * beat.vector[T]
  beat.vector[ST] = -area / 0.11 * 0.20 * np.exp(0.25 * z[7])
  return beat


def at_electrodes(gains: np.ndarray, vector: np.ndarray) -> np.ndarray:
  """(K, 9) at the electrodes, of dipoles (K, 3) with gains (K, 9, 3)."""
  return np.matmul(gains, vector[..., None])[..., 0]


def atrial_kernels(
  rng: np.random.Generator, enlarged: str, ectopic: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Kernels of the P wave, right and left, and of the atria's repolarisation.

  Repolarisation points opposite to P, lasts through PR and the beginning of ST,
  and lowers both: the level between T and P is 0.02 to 0.03 mV above PR.

  Left enlargement: P of 120 ms or more, notched, deep negative end in V1.
  Right enlargement: peaked P above 0.25 mV in II.

  Returns:
    vector (3, 3) millivolt, time (3,) and width (3,) in seconds, time from the
    start of P.
  """
  z = rng.standard_normal(10)
  gain = np.exp(0.22 * z[0])
  right = np.array([0.05, 0.05, 0.055]) * gain
  left = np.array([0.115, 0.035, -0.015]) * gain * np.exp(0.15 * z[1])
  right += 0.012 * z[2:5]
  left += 0.012 * z[5:8]
  duration = limit(0.100 + 0.008 * z[8], 0.080, 0.116)
  if enlarged == "LAO/LAE":
    duration = limit(0.130 + 0.008 * z[8], 0.121, 0.155)
    left = np.array([0.11, 0.055, -0.16]) * np.exp(0.2 * z[1])
  elif enlarged == "RAO/RAE":
    right = np.array([0.03, 0.245, 0.11]) * np.exp(0.16 * abs(z[1]))
  if ectopic:
    turn = rotation(rng, 50.0)
    sign = np.array([1, -1 if rng.random() < 0.6 else 0.6, 1])
    right, left = (turn @ right) * sign, (turn @ left) * sign
  back = -0.18 * np.exp(0.3 * z[9]) * (right + left) * np.array([1.2, 1.3, 1.6])
  time = np.array([0.36 * duration, 0.64 * duration, 0.08 + duration])
  width = np.array([0.17 * duration, 0.18 * duration, 0.10])
  return np.stack([right, left, back]), time, width
