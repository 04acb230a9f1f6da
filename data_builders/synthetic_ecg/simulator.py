"""Record `index` of the simulated population: from random numbers to leads.

Everything about a record is a function of (seed, index). Records come in
blocks of ten from eight patients; a patient keeps torso, heart and chronic
findings over all recordings.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_builders import scp
from data_builders.synthetic_ecg import atrial
from data_builders.synthetic_ecg import dipole
from data_builders.synthetic_ecg import findings as findings_lib
from data_builders.synthetic_ecg import noise
from data_builders.synthetic_ecg import pathology
from data_builders.synthetic_ecg import report as report_lib
from data_builders.synthetic_ecg import rhythm
from data_builders.synthetic_ecg import torso as torso_lib
from data_builders.synthetic_ecg.findings import Findings

# Position in a block of ten -> position of the patient's first recording.
_OWNER = (0, 1, 2, 3, 3, 5, 6, 7, 7, 9)
_PATIENT, _RECORD, _REPORT = 0, 1, 2  # streams of random numbers
_BEFORE, _AFTER = 0.08, 0.82  # seconds around the start of QRS
_PAD = 1.0  # seconds of room for windows beyond the margin of events
_MICRO = 1000.0


@dataclasses.dataclass(frozen=True)
class Simulation:
  """A record with the truth behind it.

  Attributes:
    findings: what the record shows.
    ecg: int16 (12, T) microvolt, canonical lead order.
    lead_valid: bool (12,); False: no contact, samples are 0.
    events: activation times.
    pr: PR interval, seconds; nan without conducted P waves.
    qrs: duration of the conducted QRS complex, seconds.
    qtc: QT interval at 60/min (Fridericia), seconds.
  """

  findings: Findings
  ecg: np.ndarray
  lead_valid: np.ndarray
  events: rhythm.Events
  pr: float
  qrs: float
  qtc: float


def subject(index: int) -> int:
  """Index of the first recording of the patient of record `index`."""
  return index - index % 10 + _OWNER[index % 10]


def _generator(seed: int, index: int, stream: int) -> np.random.Generator:
  """Philox is counter-based: key and counter name a stream, no state to keep."""
  return np.random.Generator(
    np.random.Philox(
      key=np.array([seed, index], np.uint64),
      counter=np.array([0, 0, 0, stream], np.uint64),
    )
  )


def _draw(seed: int, index: int):
  """Generators (patient's, recording's) after the findings were drawn."""
  patient_rng = _generator(seed, subject(index), _PATIENT)
  rng = _generator(seed, index, _RECORD)
  patient = findings_lib.draw_patient(patient_rng)
  return patient_rng, rng, findings_lib.draw_findings(rng, patient)


def findings(seed: int, index: int) -> Findings:
  """What record `index` shows, without simulating its signal."""
  return _draw(seed, index)[2]


def _pr_interval(rng: np.random.Generator, f: Findings) -> float:
  """PR, seconds: 120 to 198 ms, first-degree block 206 to 340, WPW 80 to 115."""
  if f.patient.conduction == "WPW":
    return float(rng.uniform(0.080, 0.115))
  if f.long_pr:
    longest = min(0.340, 0.30 * 60 / f.rate + 0.08)
    return float(rng.triangular(0.206, 0.225, max(longest, 0.26)))
  mean = 0.154 + 0.0004 * (f.patient.age - 50) - 0.0003 * (f.rate - 70)
  return float(np.clip(mean + 0.017 * rng.standard_normal(), 0.120, 0.195))


def _scale_voltage(
  rng: np.random.Generator, f: Findings, beat: dipole.Beat, gains: np.ndarray
) -> None:
  """Scales the beat to the voltage criteria of the findings, in place.

  Sokolow-Lyon index S(V1) + max(R(V5), R(V6)): as drawn for LVH and high
  voltage, else at most 3.4 mV. Low voltage: no limb lead above 0.5 mV peak to
  peak.
  """
  t = np.linspace(-0.02, beat.qrs + 0.02, 48)
  g = np.exp(-0.5 * np.square((t - beat.time[:8, None]) / beat.width[:8, None]))
  potentials = np.einsum("kt,kex,kx->et", g, gains[:8], beat.vector[:8])
  leads = torso_lib.lead_matrix() @ potentials
  sokolow = max(-leads[6].min(), 0.05) + max(leads[10].max(), leads[11].max())
  limb = np.ptp(leads[:6], axis=1).max()
  size = float(np.exp(0.26 * rng.standard_normal()))
  t_size = size**0.6
  if f.patient.voltage == "LVOLT":
    size = rng.uniform(0.28, 0.47) / limb
    t_size = min(size, 1.0) ** 0.5
  elif f.sokolow == f.sokolow:
    size = f.sokolow / sokolow
    t_size = min(max(size, 0.8), 1.3)
  else:
    most = 3.4 / sokolow
    if f.patient.conduction in findings_lib.WIDE:
      most = 5.0 / sokolow
    # Without low voltage some limb lead exceeds 0.55 mV.
    size = float(max(min(size, most), min(0.57 / limb, most)))
    t_size = size**0.6
  beat.vector[:8] *= size
  beat.vector[8:] *= t_size


def _beats(
  rng, f: Findings, base: dipole.Beat, own: dipole.Beat, events
) -> list[dipole.Beat]:
  """Kernels for each kind of beat: NORMAL, PVC, ABERRANT."""
  kinds = [own, own, own]
  if (events.kind == rhythm.PVC).any():
    kinds[rhythm.PVC] = pathology.ventricular_focus(rng, base)
  if (events.kind == rhythm.ABERRANT).any():
    aberrant = dataclasses.replace(
      own, vector=own.vector.copy(), time=own.time.copy(),
      width=own.width.copy(), place=own.place.copy(),
    )  # fmt: skip
    if f.patient.conduction == "":
      pathology.right_bundle(rng, aberrant, complete=True)
    kinds[rhythm.ABERRANT] = aberrant
  return kinds


def _add_waves(out, rate, start, time, width, amplitude, seconds) -> None:
  """Adds Gaussian kernels to electrode potentials.

  Args:
    out: (T, 9) microvolt, with room for all windows; changed in place.
    rate: sampling rate, Hz.
    start: (N,) beginning of each window, seconds from the first row of `out`.
    time: (N, K) or (1, K) centres, seconds from the window's start.
    width: (N, K) or (1, K) standard deviations, seconds.
    amplitude: (N, K, 9) or (1, K, 9) microvolt.
    seconds: length of a window.
  """
  samples = int(np.ceil(seconds * rate))
  first = np.floor(start * rate).astype(np.int64)
  t = np.arange(samples, dtype=np.float32) / np.float32(rate)
  late = (start - first / rate)[:, None]  # of the event after its first sample
  scale = (np.sqrt(0.5) / width).astype(np.float32)
  x = t[None, :, None] * scale[:, None, :]
  x = x - ((time + late) * scale).astype(np.float32)[:, None, :]
  np.square(x, out=x)
  np.negative(x, out=x)
  np.exp(x, out=x)
  waves = np.matmul(x, amplitude.astype(np.float32))
  for s, wave in zip(first.tolist(), waves, strict=True):
    out[s : s + samples] += wave


def _ventricles(rng, out, rate, kinds, gains, events) -> None:
  """Adds QRS, ST, T and U of all beats."""
  n = len(events.beats)
  # The QT interval follows the heart rate of the last beats, not of one.
  rr = np.clip(events.rr, 0.3, 2.0)
  smooth = rr.copy()
  for i in range(1, n):
    smooth[i] = 0.7 * smooth[i - 1] + 0.3 * rr[i]
  cube_root = np.cbrt(smooth)
  table_time = np.stack([k.time for k in kinds])
  time = table_time[events.kind]
  qtc = np.array([k.qtc for k in kinds])[events.kind]
  # At fast rates T begins early; it never starts within QRS.
  qrs = np.array([k.qrs for k in kinds])[events.kind]
  end = np.maximum(qtc * cube_root, qrs + 0.12)
  time[:, dipole.T_EARLY :] += end[:, None]
  time[:, dipole.ST] = qrs + 0.042
  time[:, dipole.T_EARLY] = np.maximum(time[:, dipole.T_EARLY], qrs + 0.06)
  width = np.stack([k.width for k in kinds])[events.kind]
  unit = np.stack([
    np.einsum("kex,kx->ke", g, k.vector) for g, k in zip(gains, kinds, strict=True)
  ])  # fmt: skip
  amplitude = unit[events.kind] * _MICRO
  # Breathing moves the heart and fills it more or less.
  breath = 0.04 * np.abs(rng.standard_normal())
  phase = 2 * np.pi * (rng.uniform(0.18, 0.32) * events.beats + rng.random())
  size = 1 + breath * np.sin(phase) + 0.012 * rng.standard_normal(n)
  amplitude *= size[:, None, None]
  start = events.beats + rhythm.MARGIN + _PAD - _BEFORE
  _add_waves(
    out, rate, start, time + _BEFORE, width, amplitude, _BEFORE + _AFTER
  )


def _atria(rng, out, rate, f: Findings, torso, events) -> None:
  """Adds P, fibrillation or flutter waves."""
  gains = torso_lib.electrode_gains(torso, atrial.PLACE)[0] * _MICRO
  if f.rhythm in ("AFIB", "AFLT"):
    t = np.arange(len(out)) / rate - rhythm.MARGIN - _PAD
    if f.rhythm == "AFIB":
      waves = atrial.fibrillation(rng, events.atrial_rate, t)
    else:
      waves = atrial.flutter(rng, events, t)
    out += (waves @ gains.T).astype(np.float32)
    return
  if f.rhythm == "SVTAC":
    # Hidden in QRS, or a small retrograde wave behind it.
    if rng.random() < 0.5:
      vector = np.array([[-0.01, -0.07, 0.05]]) * rng.uniform(0.4, 1.2)
      start = events.beats + rng.uniform(0.09, 0.14)
      _add_waves(
        out, rate, start + rhythm.MARGIN + _PAD, np.array([[0.06]]),
        np.array([[0.018]]), (vector @ gains.T)[None], 0.13,
      )  # fmt: skip
    return
  if not len(events.p_waves):
    return
  sinus = dipole.atrial_kernels(rng, f.patient.atria, False)
  focus = dipole.atrial_kernels(rng, "", True)
  for (vector, time, width, _), rows in (
    (sinus, ~events.p_ectopic), (focus, events.p_ectopic)
  ):  # fmt: skip
    start = events.p_waves[rows] + rhythm.MARGIN + _PAD
    _add_waves(
      out, rate, start - 0.03, (time + 0.03)[None], width[None],
      (vector @ gains.T)[None], 0.26,
    )  # fmt: skip


def simulate(seed: int, index: int, sampling_rate: int = 100) -> Simulation:
  """Simulates record `index`.

  Args:
    seed: of the population.
    index: of the record, 0 or more.
    sampling_rate: Hz. All but the noise is the same at any rate.

  Returns:
    Signal and truth.
  """
  patient_rng, rng, f = _draw(seed, index)
  p = f.patient
  torso = torso_lib.draw(patient_rng)
  turn = dipole.rotation(patient_rng, p.age)
  base = dipole.normal_beat(patient_rng, p.age, p.male, turn)
  own = pathology.conducted_beat(rng, f, base)
  own_gains = torso_lib.electrode_gains(torso, own.place)
  _scale_voltage(rng, f, own, own_gains)
  pr = _pr_interval(rng, f)
  events = rhythm.draw(rng, f, pr)
  kinds = _beats(rng, f, base, own, events)
  gains = [own_gains] + [
    own_gains if k is own else torso_lib.electrode_gains(torso, k.place)
    for k in kinds[1:]
  ]
  padding = rhythm.MARGIN + _PAD
  samples = int(rhythm.SECONDS * sampling_rate)
  first = int(round(padding * sampling_rate))
  total = int(np.ceil((rhythm.SECONDS + 2 * padding) * sampling_rate)) + 2
  out = np.zeros((total, 9), np.float32)
  _ventricles(rng, out, sampling_rate, kinds, gains, events)
  _atria(rng, out, sampling_rate, f, torso, events)
  potentials = out[first : first + samples].T
  lost = int(rng.integers(3, 9)) if rng.random() < 0.02 else None
  ecg = torso_lib.leads(potentials + noise.draw(rng, sampling_rate))
  lead_valid = np.ones(12, bool)
  if lost is not None:  # a chest electrode without contact
    lead_valid[lost + 3] = False
    ecg[lost + 3] = 0
  has_p = f.rhythm in ("SR", "SBRAD", "STACH", "SARRH", "PACE")
  return Simulation(
    f, ecg, lead_valid, events, pr if has_p else float("nan"), own.qrs, own.qtc
  )


def record(seed: int, index: int, sampling_rate: int = 100) -> dict:
  """Record `index` as the schema of `data_builders.schema` wants it.

  Args:
    seed: of the population.
    index: of the record.
    sampling_rate: Hz; the record lasts 10 s.

  Returns:
    id, subject_id, ecg int16 (12, 10 * rate) microvolt, lead_valid bool (12,),
    report, labels (label set -> uint8 vector).
  """
  simulated = simulate(seed, index, sampling_rate)
  return {
    "id": f"{seed}-{index}",
    "subject_id": f"{seed}-{subject(index)}",
    "ecg": simulated.ecg,
    "lead_valid": simulated.lead_valid,
    "report": report(seed, index),
    "labels": scp.labels(simulated.findings.codes),
  }


def report(seed: int, index: int) -> str:
  """The report of record `index`, without simulating its signal."""
  rng = _generator(seed, index, _REPORT)
  return report_lib.write(rng, findings(seed, index))
