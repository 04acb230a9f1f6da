"""Record `index` of the simulated population: from random numbers to leads.

Everything about a record is a function of (seed, index). Records come in
blocks of ten from eight patients; a patient keeps torso, heart and chronic
findings over all recordings.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from cgdmer_jax.data.leads import NUM_LEADS
from data_builders import scp
from data_builders.synthetic_ecg import (
  atrial,
  dipole,
  noise,
  pathology,
  population,
  rhythm,
  waves,
)
from data_builders.synthetic_ecg import findings as findings_lib
from data_builders.synthetic_ecg import report as report_lib
from data_builders.synthetic_ecg import torso as torso_lib
from data_builders.synthetic_ecg.findings import Findings, limit

# Position in a block of ten -> position of the patient's first recording.
_OWNER = (0, 1, 2, 3, 3, 5, 6, 7, 7, 9)
_PATIENT, _RECORD = 0, 1  # streams of random numbers
_LOST = 0.02  # share of records in which a chest electrode has no contact


@dataclasses.dataclass(frozen=True)
class Simulation:
  """A record with the truth behind it.

  Attributes:
    findings: what the record shows.
    ecg: int16 (12, T) microvolt, canonical lead order.
    lead_valid: bool (12,); False: no contact, samples are 0.
    report: text of the report.
    events: activation times.
    pr: PR interval, seconds; nan without conducted P waves.
    qrs: duration of the conducted QRS complex, seconds.
    qtc: QT interval at 60/min (Fridericia), seconds.
  """

  findings: Findings
  ecg: np.ndarray
  lead_valid: np.ndarray
  report: str
  events: rhythm.Events
  pr: float
  qrs: float
  qtc: float


def subject(index: int) -> int:
  """Index of the first recording of the patient of record `index`."""
  return index - index % 10 + _OWNER[index % 10]


def _generator(seed: int, index: int, stream: int) -> np.random.Generator:
  """A stream of its own; Philox is counter-based, so it costs no jump."""
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
  patient = population.draw_patient(patient_rng)
  return patient_rng, rng, population.draw_findings(rng, patient)


def findings(seed: int, index: int) -> Findings:
  """What record `index` shows, without simulating its signal."""
  return _draw(seed, index)[2]


def _pr_interval(rng: np.random.Generator, f: Findings) -> float:
  """PR, seconds: 120 to 195 ms; first-degree block above 206, WPW below 115."""
  if f.patient.conduction == "WPW":
    return float(rng.uniform(0.080, 0.115))
  if f.long_pr:
    longest = min(0.340, 0.30 * 60 / f.rate + 0.08)
    return float(rng.triangular(0.206, 0.225, max(longest, 0.26)))
  mean = 0.154 + 0.0004 * (f.patient.age - 50) - 0.0003 * (f.rate - 70)
  return limit(mean + 0.017 * rng.standard_normal(), 0.120, 0.195)


def _scale_voltage(
  rng: np.random.Generator, f: Findings, beat: dipole.Beat, gains: np.ndarray
) -> None:
  """Scales the beat to the voltage criteria of the findings, in place.

  Sokolow-Lyon index S(V1) + max(R(V5), R(V6)): as drawn for LVH and high
  voltage, else at most 3.4 mV. Low voltage: no limb lead above 0.5 mV peak to
  peak.
  """
  t = np.arange(-0.02, beat.qrs + 0.02, 0.004)
  g = np.exp(-0.5 * np.square((t - beat.time[:8, None]) / beat.width[:8, None]))
  leads = torso_lib.lead_matrix() @ (
    dipole.at_electrodes(gains[:8], beat.vector[:8]).T @ g
  )
  sokolow = max(-leads[6].min(), 0.05) + max(leads[10].max(), leads[11].max())
  limb = np.ptp(leads[:6], axis=1).max()
  # Ill hearts give less: in PTB-XL by a tenth or more, but for LVH.
  usual = 1.0 if f.patient.healthy else 0.88
  size = usual * float(np.exp(0.26 * rng.standard_normal()))
  t_size = size**0.6
  if f.patient.voltage == "LVOLT":
    size = rng.uniform(0.28, 0.47) / limb
    t_size = min(size, 1.0) ** 0.5
  elif f.sokolow > 0:
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


def _other_beat(
  rng: np.random.Generator,
  f: Findings,
  base: dipole.Beat,
  own: dipole.Beat,
  kind: str,
) -> dipole.Beat:
  """A ventricular premature beat, or an aberrantly conducted atrial one."""
  if kind == "PVC":
    return pathology.ventricular_focus(rng, base)
  beat = dataclasses.replace(
    own, vector=own.vector.copy(), time=own.time.copy(),
    width=own.width.copy(), place=own.place.copy(),
  )  # fmt: skip
  if f.patient.conduction == "":
    pathology.right_bundle(rng, beat, complete=True)
  return beat


def simulate(seed: int, index: int, sampling_rate: int = 100) -> Simulation:
  """Simulates record `index`.

  Args:
    seed: seed of the population.
    index: number of the record, 0 or more.
    sampling_rate: Hz. All but the noise is the same at any rate.

  Returns:
    Signal and truth.
  """
  patient_rng, rng, f = _draw(seed, index)
  text = report_lib.write(rng, f)
  p = f.patient
  torso = torso_lib.draw(patient_rng)
  turn = dipole.rotation(patient_rng, p.age)
  base = dipole.normal_beat(patient_rng, p.age, p.male, turn)
  own = pathology.conducted_beat(rng, f, base)
  own_gains = torso_lib.electrode_gains(torso, own.place)
  _scale_voltage(rng, f, own, own_gains)
  pr = _pr_interval(rng, f)
  events = rhythm.draw(rng, f, pr)
  kinds, gains = [own], [own_gains]
  if events.other_kind:
    kinds.append(_other_beat(rng, f, base, own, events.other_kind))
    gains.append(torso_lib.electrode_gains(torso, kinds[1].place))
  signal = waves.potentials(
    rng, sampling_rate, f, events, kinds, gains,
    torso_lib.electrode_gains(torso, atrial.PLACE)[0],
  )  # fmt: skip
  lost = 6 + int(rng.integers(6)) if rng.random() < _LOST else None
  ecg = torso_lib.leads(signal + noise.draw(rng, sampling_rate))
  lead_valid = np.ones(NUM_LEADS, bool)
  if lost is not None:
    lead_valid[lost] = False
    ecg[lost] = 0
  if np.isnan(events.p_lead).all():
    pr = float("nan")
  return Simulation(f, ecg, lead_valid, text, events, pr, own.qrs, own.qtc)


def record(seed: int, index: int, sampling_rate: int = 100) -> dict:
  """Record `index` as `cgdmer_jax.data.schema` wants it.

  Args:
    seed: seed of the population.
    index: number of the record, 0 or more.
    sampling_rate: Hz; the record lasts 10 s.

  Returns:
    id, subject_id, ecg int16 (12, 10 * rate) microvolt, lead_valid bool (12,),
    report, labels (label set -> uint8 vector).
  """
  simulated = simulate(seed, index, sampling_rate)
  f = simulated.findings
  return {
    "id": f"{seed}-{index}",
    "subject_id": f"{seed}-{subject(index)}",
    "ecg": simulated.ecg,
    "lead_valid": simulated.lead_valid,
    "report": simulated.report,
    "labels": scp.labels(f.codes),
  }


def report(seed: int, index: int) -> str:
  """The report of record `index`, without simulating its signal."""
  _, rng, f = _draw(seed, index)
  return report_lib.write(rng, f)
