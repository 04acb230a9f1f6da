"""Draws patients and what their recordings show.

Probabilities follow how statements occur together in PTB-XL (Wagner et al.,
Scientific Data 2020): age carries conduction disease and atrial fibrillation,
strain comes with left ventricular hypertrophy, fascicular block with right
bundle branch block. Rare findings are over-sampled, so that about 1.5 % or more
of all records carry each code that is simulated.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from data_builders.synthetic_ecg import reader
from data_builders.synthetic_ecg.findings import (
  ANTERIOR,
  WIDE,
  Findings,
  Patient,
  choose,
  limit,
)

_CONDUCTION = {
  "CLBBB": 0.055, "CRBBB": 0.062, "IRBBB": 0.055, "ILBBB": 0.034,
  "IVCD": 0.048, "WPW": 0.036,
}  # fmt: skip
_INFARCT = {
  "IMI": 0.10, "ASMI": 0.085, "AMI": 0.05, "ALMI": 0.045, "LMI": 0.048,
  "ILMI": 0.045,
}  # fmt: skip
_REPOLARISATION = {
  "NDT": 0.085, "NT_": 0.04, "LOWT": 0.05, "INVT": 0.035, "STD_": 0.03,
  "NST_": 0.06, "ISCAL": 0.056, "ISCIN": 0.056, "ISCAS": 0.056, "ISCLA": 0.056,
  "ISCIL": 0.056, "LNGQT": 0.045, "EARLY": 0.035,
}  # fmt: skip
# The same beside a finding that changes ST and T itself, or hides them.
_BESIDE = {
  "NDT": 0.07, "NST_": 0.14, "STD_": 0.05, "LOWT": 0.05, "NT_": 0.03,
  "ISCAL": 0.03, "INVT": 0.02, "LNGQT": 0.02,
}  # fmt: skip
_ECTOPY = {
  "PVC": 0.09, "PAC": 0.055, "BIGU": 0.036, "TRIGU": 0.037,
}  # fmt: skip
_HEALTHY_SHARE = 0.27


def draw_patient(rng: np.random.Generator) -> Patient:
  """Age, sex and chronic findings of one patient."""
  male = bool(rng.random() < 0.52)
  if rng.random() < _HEALTHY_SHARE:
    age = limit(rng.normal(50, 17), 18, 89)
    boost = 2 if age < 40 else 1
    return Patient(
      age, male, conduction=choose(rng, {"IRBBB": 0.025 * boost}),
      voltage=choose(rng, {"LVOLT": 0.015, "HVOLT": 0.02 * boost}),
    )  # fmt: skip
  age = limit(rng.normal(64, 15), 18, 95)
  old = limit((age - 40) / 30, 0.2, 1.6)
  conduction = choose(rng, _CONDUCTION)
  if conduction == "" and rng.random() < 0.042:
    conduction = "PACE"
  fascicle = ""
  if conduction in ("", "CRBBB", "IRBBB"):
    boost = 3 if conduction == "CRBBB" else 1
    table = {"LAFB": 0.09 * boost * min(old, 1.2), "LPFB": 0.037 * boost}
    fascicle = choose(rng, table)
  infarct, hypertrophy = (), ""
  if conduction not in WIDE:
    first = choose(rng, _INFARCT)
    infarct = (first,) if first else ()
    if first in ("IMI", "ASMI") and rng.random() < 0.2:
      infarct = ("ASMI", "IMI")
    rvh = 0.045 if fascicle != "LAFB" and conduction != "ILBBB" else 0.0
    hypertrophy = choose(rng, {"LVH": 0.15, "RVH": rvh})
  fibrillation = conduction != "WPW" and rng.random() < 0.12 * old
  atria = ""
  if not fibrillation:
    lae = 0.10 if hypertrophy == "LVH" else 0.06
    rae = 0.20 if hypertrophy == "RVH" else 0.036
    atria = choose(rng, {"LAO/LAE": lae, "RAO/RAE": rae})
  voltage = ""
  if conduction == "" and not hypertrophy and not infarct:
    high = 0.25 if age < 45 else 0.06
    voltage = choose(rng, {"LVOLT": 0.08, "HVOLT": high})
  return Patient(
    age, male, False, conduction, fascicle, infarct, hypertrophy, atria,
    voltage, bool(fibrillation),
  )  # fmt: skip


def _rhythm(rng: np.random.Generator, p: Patient) -> str:
  if p.conduction == "PACE":
    return "PACE"
  if p.fibrillation:
    return "AFIB"
  table = {"STACH": 0.04, "SBRAD": 0.08, "SARRH": 0.06}
  if not p.healthy:
    table = {"STACH": 0.085, "SBRAD": 0.075, "SARRH": 0.055}
    # With big atrial waves, wide beats or pre-excitation the reader could not
    # tell these rhythms.
    if not p.atria and p.conduction not in WIDE:
      table |= {"AFLT": 0.05, "SVTAC": 0.045}
  return choose(rng, table) or "SR"


def _rate(rng: np.random.Generator, rhythm: str) -> float:
  """Ventricular rate, 1/min; readers call 50 to 60 either way."""
  low, mode, high = {
    "SR": (53, 66, 97), "SBRAD": (38, 51, 58), "STACH": (102, 110, 150),
    "SARRH": (48, 60, 82), "AFIB": (55, 88, 150), "AFLT": (65, 100, 155),
    "SVTAC": (140, 165, 215), "PACE": (58, 68, 88),
  }[rhythm]  # fmt: skip
  return float(rng.triangular(low, mode, high))


def _repolarisation(
  rng: np.random.Generator, p: Patient, rhythm: str, stage: str
) -> str:
  if p.healthy or p.conduction in (*WIDE, "ILBBB"):
    return ""
  if stage in ("recent", "acute"):
    return ""
  if rhythm in ("AFLT", "SVTAC"):
    # Flutter waves and fast rates hide T waves.
    return "NST_" if rng.random() < 0.12 else ""
  if p.conduction == "CRBBB" or p.hypertrophy == "RVH":
    return choose(rng, _BESIDE)
  if p.hypertrophy == "LVH" and rng.random() < 0.7:
    return "STRAIN"
  if rhythm == "AFIB" and rng.random() < 0.42:
    return "DIG"
  if rhythm == "AFIB" or p.hypertrophy == "LVH":
    return choose(rng, _BESIDE)
  table = _REPOLARISATION
  if p.voltage == "HVOLT" or p.age < 45:
    table = table | {"EARLY": 0.13}
  elif p.infarct:
    table = table | {"EARLY": 0.0}
  return choose(rng, table)


def _sokolow(rng: np.random.Generator, p: Patient) -> float:
  if p.hypertrophy == "LVH":
    return float(rng.uniform(3.1, 5.6))
  if p.voltage == "HVOLT":
    return float(rng.uniform(3.6, 5.0))
  return 0.0


def draw_findings(rng: np.random.Generator, patient: Patient) -> Findings:
  """The findings of one recording of `patient`."""
  p = patient
  rhythm = _rhythm(rng, p)
  rate = _rate(rng, rhythm)
  ectopy = focus = ""
  if rhythm in ("SR", "SBRAD", "STACH", "AFIB", "PACE"):
    table = {"PVC": 0.03, "PAC": 0.03} if p.healthy else _ECTOPY
    ectopy = choose(rng, table)
    if rate > 95 and ectopy in ("BIGU", "TRIGU"):
      ectopy = "PVC"
    if ectopy == "PAC" and rhythm in ("AFIB", "PACE"):
      ectopy = "PVC"
    if rhythm == "PACE" and ectopy:
      ectopy = "PVC"
    focus = ectopy
    if ectopy in ("BIGU", "TRIGU"):
      atrial = rhythm != "AFIB" and rng.random() < 0.4
      focus = "PAC" if atrial else "PVC"
  slow_av = 0.09 * (2 if p.fascicle or p.conduction == "CRBBB" else 1)
  long_pr = (
    not p.healthy
    and rhythm in ("SR", "SBRAD", "SARRH")
    and p.conduction != "WPW"
    and rng.random() < slow_av * limit((p.age - 20) / 40, 0.3, 1.5)
  )
  stage, aneurysm = "", False
  if p.infarct:
    stage = ("old", "recent", "acute")[int(rng.choice(3, p=(0.76, 0.12, 0.12)))]
    aneurysm = (
      stage == "old" and p.infarct[0] in ANTERIOR and rng.random() < 0.28
    )
  found = Findings(
    p, rhythm, rate, ectopy, focus, bool(long_pr), stage, bool(aneurysm),
    _repolarisation(rng, p, rhythm, stage), float(rng.uniform(0.05, 1.0)),
    _sokolow(rng, p),
  )  # fmt: skip
  rate_only = set(found.codes) <= {"SR", "SBRAD", "STACH", "SARRH"}
  if rate_only and not found.repolarisation and not found.normal:
    # An ill patient whose draws came out empty: give the commonest finding.
    table = _REPOLARISATION
    weights = np.array(list(table.values()))
    k = int(rng.choice(len(table), p=weights / weights.sum()))
    found = dataclasses.replace(found, repolarisation=list(table)[k])
  return dataclasses.replace(
    found,
    st_t=reader.st_t(rng, found.repolarisation, found.degree),
    extra=reader.repeated(rng, found),
  )
