"""How findings change the dipole kernels of a beat.

Every function changes a `dipole.Beat` in place by the criterion that its
docstring names. Axes: x left, y down, z front; millivolt.
"""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_ecg import dipole
from data_builders.synthetic_ecg.dipole import EXTRA, QRS, ST, T_EARLY, Beat, T
from data_builders.synthetic_ecg.findings import Findings


def _vary(rng: np.random.Generator, v, spread: float = 0.22) -> np.ndarray:
  """`v` with a random gain and random directions of its rows."""
  v = np.asarray(v, float)
  size = np.linalg.norm(v, axis=-1, keepdims=True)
  gain = np.exp(0.8 * spread * rng.standard_normal())
  return gain * (v + 0.7 * spread * size * rng.standard_normal(v.shape))


def left_bundle(rng: np.random.Generator, base: Beat) -> Beat:
  """CLBBB: QRS 122 to 175 ms, no septal q, broad notched R in I, V6, rS in V1.

  Activation goes from right to left and back, so the loop is slow and
  posterior; ST and T are opposite.
  """
  axis = rng.normal(-0.05, 0.35)
  v = np.array([
    [0.15, 0.08, 0.05], [0.38, 0.18, -0.60], [0.35, 0.12, -1.10],
    [0.40, axis, -1.35], [0.50, axis - 0.05, -1.00], [0.25, axis / 2, -0.40],
  ])  # fmt: skip
  v = _vary(rng, v, 0.18) * rng.uniform(0.85, 1.5)
  if rng.random() < 0.5:
    v[0, 2] -= 0.18  # QS instead of rS in V1
  return dipole.wide_beat(rng, v, rng.uniform(0.124, 0.172), base)


def ventricular_focus(rng: np.random.Generator, base: Beat) -> Beat:
  """PVC: QRS 125 to 180 ms of any axis, T opposite."""
  left_origin = rng.random() < 0.45
  x = rng.normal(-0.35 if left_origin else 0.45, 0.35)
  z = rng.normal(0.75 if left_origin else -0.85, 0.3)
  y = rng.normal(0.1, 0.75)
  shape = np.array([0.15, 0.55, 1.0, 1.1, 0.7, 0.3])
  v = shape[:, None] * np.array([x, y, z]) * rng.uniform(0.9, 1.6)
  v += 0.18 * rng.standard_normal(v.shape) * shape[:, None]
  beat = dipole.wide_beat(rng, v, rng.uniform(0.125, 0.18), base)
  beat.qtc = max(beat.qtc, 0.43)
  return beat


def paced(rng: np.random.Generator, base: Beat) -> Beat:
  """Pacing in the apex of the right ventricle: LBBB-like with superior axis."""
  v = np.array([
    [0.12, -0.10, -0.05], [0.30, -0.45, -0.45], [0.30, -0.75, -0.85],
    [0.28, -0.95, -0.95], [0.20, -0.70, -0.70], [0.08, -0.30, -0.30],
  ])  # fmt: skip
  v = _vary(rng, v, 0.2) * rng.uniform(0.8, 1.4)
  beat = dipole.wide_beat(rng, v, rng.uniform(0.135, 0.19), base)
  # The stimulus: a spike of some milliseconds, unipolar ones are large.
  size = rng.uniform(0.15, 0.6) if rng.random() < 0.6 else rng.uniform(0.6, 2.0)
  beat.vector[6] = size * np.array([-0.3, -0.8, -0.5])
  beat.time[6], beat.width[6] = -0.012, 0.0045
  return beat


def right_bundle(rng: np.random.Generator, beat: Beat, complete: bool) -> None:
  """RBBB: late, slow activation of the right ventricle: rsR' in V1, S in I, V6.

  Complete: QRS 120 ms or more with T inversion in V1 and V2; incomplete: 92
  to 116 ms, T turned to the left and back.
  """
  first = beat.qrs * (0.80 if complete else 0.84)
  dipole.stretch(beat, min(first, 0.085))
  duration = (
    rng.uniform(0.122, 0.162) if complete else rng.uniform(0.092, 0.116)
  )
  if complete:
    late = _vary(rng, [[-0.36, -0.14, 0.36], [-0.32, -0.08, 0.36]], 0.25)
    beat.vector[2:6, 2] *= 0.55
    beat.time[EXTRA] = duration - np.array([0.062, 0.030])
    beat.width[EXTRA] = 0.016, 0.015
    turn = np.array([0.05, -0.02, -0.24]) * rng.uniform(0.6, 1.3)
    beat.vector[T] += turn
    beat.vector[T_EARLY] += 0.5 * turn
    beat.vector[ST] += np.array([0.0, 0.0, -0.06])
    beat.qtc += 0.02
  else:
    late = _vary(rng, [[-0.28, -0.12, 0.30], [-0.10, -0.04, 0.12]], 0.25)
    late *= rng.uniform(0.25, 0.95)
    beat.vector[2:6, 2] *= np.array([0.8, 0.6, 0.4, 0.4])
    beat.time[EXTRA] = duration - np.array([0.030, 0.014])
    beat.width[EXTRA] = 0.010, 0.009
    beat.vector[T] += rng.uniform(0.3, 1.0) * np.array([0.15, 0.0, -0.16])
  beat.vector[EXTRA] = late
  beat.place[EXTRA] = -1.0, 0.0, 1.0
  beat.qrs = duration


def incomplete_left_bundle(rng: np.random.Generator, beat: Beat) -> None:
  """ILBBB: QRS 103 to 119 ms, septal q lost, R slurred, deep S in V1."""
  beat.vector[0] = _vary(rng, [0.14, 0.05, -0.10])
  beat.vector[1] = _vary(rng, [0.35, 0.12, -0.30])
  beat.vector[3:5, 2] -= rng.uniform(0.2, 0.5)
  beat.vector[3, 0] += 0.3
  beat.vector[T] = beat.vector[T] * 0.3 + np.array([-0.05, 0.0, 0.15])
  dipole.stretch(beat, rng.uniform(0.104, 0.119))


def unspecific_delay(rng: np.random.Generator, beat: Beat) -> None:
  """IVCD: QRS 112 to 135 ms without the pattern of either bundle; notches."""
  dipole.stretch(beat, rng.uniform(0.113, 0.135))
  beat.vector[EXTRA] = 0.16 * rng.standard_normal((2, 3))
  beat.time[EXTRA] = beat.qrs * np.array([0.5, 0.88])
  beat.width[EXTRA] = 0.010, 0.013
  beat.vector[T] *= rng.uniform(0.3, 0.9)


def preexcitation(rng: np.random.Generator, beat: Beat) -> None:
  """WPW: delta wave of 35 to 55 ms, QRS 112 to 150 ms; T against the delta.

  The pathway's side turns the delta to the front (left) or back (right).
  """
  left_side = rng.random() < 0.55
  v = [0.16, 0.10, 0.34] if left_side else [0.36, -0.08, -0.20]
  v = np.array(v) + np.array([0.10, 0.20, 0.08]) * rng.standard_normal(3)
  duration = rng.uniform(0.116, 0.150)
  delta = rng.uniform(0.035, 0.055)
  beat.time[QRS] += delta * 0.75
  beat.vector[EXTRA] = v * np.array([[0.75], [1.15]])
  beat.time[EXTRA] = 0.5 * delta, 1.0 * delta
  beat.width[EXTRA] = 0.36 * delta, 0.36 * delta
  beat.vector[0] = 0.4 * v
  beat.vector[1] = 0.5 * beat.vector[1] + 0.6 * v
  beat.qrs = max(beat.qrs + delta * 0.7, duration)
  beat.vector[T] -= v * rng.uniform(0.2, 0.7)


def left_anterior_fascicle(rng: np.random.Generator, beat: Beat) -> None:
  """LAFB: axis -45 to -80 degrees; qR in aVL, rS in II, III, aVF."""
  v = [
    [0.00, 0.12, 0.14], [0.35, 0.10, 0.15], [0.75, -0.10, -0.12],
    [0.20, -0.26, -0.36], [-0.14, -0.24, -0.32], [-0.10, -0.12, -0.12],
  ]  # fmt: skip
  beat.vector[QRS] = _vary(rng, v) * rng.uniform(0.8, 1.25)
  beat.vector[QRS, 1] -= rng.uniform(-0.03, 0.08)
  dipole.stretch(beat, max(beat.qrs, rng.uniform(0.082, 0.106)))


def left_posterior_fascicle(rng: np.random.Generator, beat: Beat) -> None:
  """LPFB: axis 95 to 140 degrees; rS in I, aVL, qR in III, aVF."""
  v = [
    [0.12, -0.16, 0.14], [0.22, -0.02, 0.16], [0.15, 0.50, -0.20],
    [-0.32, 0.66, -0.35], [-0.34, 0.40, -0.22], [-0.16, 0.12, -0.05],
  ]  # fmt: skip
  beat.vector[QRS] = _vary(rng, v) * rng.uniform(0.8, 1.25)
  dipole.stretch(beat, max(beat.qrs, rng.uniform(0.092, 0.112)))


def right_ventricle(rng: np.random.Generator, beat: Beat) -> None:
  """RVH: R in V1 above 0.7 mV or R/S above 1, right axis, strain in V1-V3."""
  v = [
    [-0.05, -0.05, 0.25], [0.20, 0.15, 0.40], [0.10, 0.40, 0.50],
    [-0.40, 0.40, 0.30], [-0.50, 0.10, 0.10], [-0.30, -0.10, 0.05],
  ]  # fmt: skip
  beat.vector[QRS] = _vary(rng, v) * rng.uniform(0.9, 1.5)
  strain = rng.uniform(0.2, 1.2)
  beat.vector[T] += np.array([0.0, -0.10, -0.26]) * strain
  beat.vector[T_EARLY] += np.array([0.0, -0.03, -0.12]) * strain
  beat.vector[ST] += np.array([0.0, -0.03, -0.08]) * strain


def left_ventricle(rng: np.random.Generator, beat: Beat) -> None:
  """LVH: more leftward and posterior, less early anterior forces.

  Voltage is scaled later.
  """
  beat.vector[:2, 2] *= rng.uniform(0.3, 0.9)
  beat.vector[2:5] += _vary(
    rng, [[0.35, 0.05, -0.30], [0.35, 0.0, -0.50], [0.0, 0.0, -0.30]]
  )
  dipole.stretch(beat, max(beat.qrs, rng.uniform(0.078, 0.108)))


# Directions in which each territory's muscle lies.
_TERRITORY = {
  "IMI": ((0.0, 1.0, -0.1),),
  "ASMI": ((0.15, 0.0, 1.0),),
  "AMI": ((0.45, 0.1, 0.9),),
  "ALMI": ((0.8, -0.1, 0.75),),
  "LMI": ((1.0, -0.35, -0.15),),
  "ILMI": ((0.6, 0.85, -0.15),),
}


def infarct(
  rng: np.random.Generator, beat: Beat, code: str, stage: str, aneurysm: bool
) -> None:
  """Necrosis turns the first 30 to 50 ms of QRS away from the territory.

  Old: Q waves (>= 30 ms where the scar is large), R lost, T flat or inverted.
  Recent: T deeply inverted. Acute: ST elevation over the territory, with
  reciprocal depression on the other side, Q waves still small. An aneurysm
  keeps the ST segment up.
  """
  away = np.array(_TERRITORY[code][0])
  if code == "ASMI":
    away[0] += rng.uniform(0.0, 0.5)  # the scar may reach V4
  away = away / np.linalg.norm(away)
  away = away + 0.12 * rng.standard_normal(3)
  away /= np.linalg.norm(away)
  scar = rng.uniform(0.28, 0.95) * (0.4 if stage == "acute" else 1.0)
  early = beat.vector[QRS]
  along = early @ away
  # Forces towards the scar vanish; those of the wall opposite are unopposed.
  lost = np.array([1.0, 0.95, 0.75, 0.45, 0.2, 0.1]) * min(scar, 1.0)
  early -= np.outer(np.maximum(along, 0) * lost, away)
  unopposed = np.array([0.17, 0.32, 0.22, 0.06, 0, 0]) * scar
  unopposed *= {"IMI": 0.75, "ASMI": 1.5}.get(code, 1.15)
  early -= np.outer(unopposed, away)
  t_turn, st = 0.0, 0.0
  if stage == "acute":
    st, t_turn = rng.uniform(0.14, 0.42), -rng.uniform(0.0, 0.35)
  elif stage == "recent":
    st, t_turn = rng.uniform(0.0, 0.06), rng.uniform(0.25, 0.5)
  else:
    t_turn = rng.uniform(-0.12, 0.15)
  if aneurysm:
    st += rng.uniform(0.16, 0.32)
  beat.vector[T] -= t_turn * away
  beat.vector[T_EARLY] += (0.6 * st - 0.3 * max(t_turn, 0)) * away
  beat.vector[ST] += st * away


_LEAD_GROUP = {
  "ISCAL": (0.85, 0.0, 0.55), "ISCIN": (0.0, 1.0, -0.1),
  "ISCAS": (-0.05, 0.0, 1.0), "ISCLA": (1.0, -0.3, -0.1),
  "ISCIL": (0.7, 0.75, -0.1), "STRAIN": (0.95, 0.3, -0.15),
}  # fmt: skip


def repolarisation(
  rng: np.random.Generator, beat: Beat, kind: str, degree: float
) -> None:
  """ST and T changes that do not come from QRS.

  Ischaemia: ST depressed and T inverted where the vector of the lead group
  points, from T a third lower (degree 0) to T deeply inverted with ST down by
  0.2 mV (1). Strain: the same against the lateral leads, after the bigger
  QRS. Long QT: QTc 465 to 550 ms. Digitalis: sagging ST, short QT. Low T: below
  a tenth of R. Non-diagnostic T: nearly normal to slightly inverted.
  """
  v, main = beat.vector, beat.vector[T].copy()
  if kind in _LEAD_GROUP:
    d = np.array(_LEAD_GROUP[kind]) + 0.12 * rng.standard_normal(3)
    d /= np.linalg.norm(d)
    lost = max(main @ d, 0.0) * min(0.35 + 0.8 * degree, 1.0)
    depth = lost + 0.34 * degree * rng.uniform(0.5, 1.1)
    v[T] -= depth * d
    v[T_EARLY] -= 0.45 * depth * d
    v[ST] -= (0.03 + 0.18 * degree) * rng.uniform(0.6, 1.2) * d
    if kind == "STRAIN":
      v[ST, 2] += 0.06 * degree
  elif kind == "INVT":
    d = np.array([rng.uniform(0.3, 1.0), rng.uniform(-0.2, 0.6),
                  rng.uniform(0.0, 0.9)])  # fmt: skip
    d /= np.linalg.norm(d)
    depth = max(main @ d, 0.0) + rng.uniform(0.22, 0.55)
    v[T] -= depth * d
    v[T_EARLY] -= 0.25 * depth * d
  elif kind in ("NDT", "NT_", "LOWT"):
    low, high = {"NDT": (-0.05, 0.92), "NT_": (0.15, 0.50),
                 "LOWT": (-0.30, 0.25)}[kind]  # fmt: skip
    front = (0.5, 1.0) if kind == "LOWT" else (0.2, 0.9)
    v[T] = main * np.array([rng.uniform(low, high),
                            rng.uniform(max(low, -0.1), high + 0.1),
                            rng.uniform(*front)])  # fmt: skip
    v[T_EARLY] *= 0.35
    v[ST] -= rng.uniform(0, 0.06) * np.array([0.9, 0.3, 0.0])
  elif kind in ("STD_", "NST_"):
    low, high = (0.06, 0.18) if kind == "STD_" else (0.02, 0.08)
    d = np.array([0.8, rng.uniform(0.1, 0.7), rng.uniform(-0.2, 0.5)])
    v[ST] -= (low + degree * (high - low)) * d / np.linalg.norm(d)
    v[T] *= rng.uniform(0.1, 0.85)
    v[T_EARLY] *= 0.5
  elif kind == "DIG":
    v[ST] -= rng.uniform(0.08, 0.18) * np.array([0.8, 0.45, -0.1])
    v[T_EARLY] -= rng.uniform(0.08, 0.16) * np.array([0.8, 0.45, 0.0])
    v[T] *= rng.uniform(0.15, 0.5)
    beat.qtc = rng.uniform(0.31, 0.35)
  elif kind == "EARLY":
    v[ST] += rng.uniform(0.09, 0.19) * np.array([0.6, 0.4, 0.7])
    v[T] *= rng.uniform(1.1, 1.6)
    v[EXTRA.start + 1] = rng.uniform(0.08, 0.2) * np.array([0.8, 0.5, 0.1])
    beat.time[7], beat.width[7] = beat.qrs, 0.009  # J wave
  elif kind == "LNGQT":
    beat.qtc = rng.uniform(0.465, 0.55)
    v[T] *= rng.uniform(0.5, 1.0)
    beat.width[T] *= rng.uniform(1.0, 1.4)


def conducted_beat(rng: np.random.Generator, f: Findings, base: Beat) -> Beat:
  """The patient's conducted (or paced) beat with all findings of `f`."""
  p, beat = f.patient, base
  if p.conduction == "PACE":
    return paced(rng, beat)
  if p.fascicle == "LAFB":
    left_anterior_fascicle(rng, beat)
  elif p.fascicle == "LPFB":
    left_posterior_fascicle(rng, beat)
  if p.hypertrophy == "RVH":
    right_ventricle(rng, beat)
  elif p.hypertrophy == "LVH":
    left_ventricle(rng, beat)
  if p.conduction == "CLBBB":
    beat = left_bundle(rng, beat)
  elif p.conduction == "ILBBB":
    incomplete_left_bundle(rng, beat)
  elif p.conduction == "IVCD":
    unspecific_delay(rng, beat)
  for code in p.infarct:
    infarct(rng, beat, code, f.stage, f.aneurysm)
  if p.conduction in ("CRBBB", "IRBBB"):
    right_bundle(rng, beat, p.conduction == "CRBBB")
  elif p.conduction == "WPW":
    preexcitation(rng, beat)
  repolarisation(rng, beat, f.repolarisation, f.degree)
  return beat
