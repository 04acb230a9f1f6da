"""What a simulated patient has, and which SCP codes a reader would write.

A patient has chronic findings (old infarct, bundle branch block, hypertrophy);
each recording adds its own (rate, ectopic beats, ST-T changes). Probabilities
follow how statements occur together in PTB-XL (Wagner et al., Scientific Data
2020): age carries conduction disease and atrial fibrillation, strain comes with
left ventricular hypertrophy, fascicular block with right bundle branch block.
Rare findings are over-sampled, so that about 1.5 % or more of all records carry
each code that is simulated.
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Bundle branch block, pre-excitation and pacing hide infarcts and hypertrophy.
WIDE = ("CLBBB", "WPW", "PACE")
ISCHAEMIA = ("ISCAL", "ISCIN", "ISCAS", "ISCLA", "ISCIL")
ANTERIOR = ("ASMI", "AMI", "ALMI")

_CONDUCTION = {
  "CLBBB": 0.055, "CRBBB": 0.062, "IRBBB": 0.055, "ILBBB": 0.034,
  "IVCD": 0.048, "WPW": 0.036,
}  # fmt: skip
_INFARCT = {
  "IMI": 0.10, "ASMI": 0.085, "AMI": 0.05, "ALMI": 0.045, "LMI": 0.048,
  "ILMI": 0.045,
}  # fmt: skip
_REPOLARISATION = {
  "NDT": 0.085, "NT_": 0.04, "LOWT": 0.05, "INVT": 0.035, "STD_": 0.04,
  "NST_": 0.06, "ISCAL": 0.05, "ISCIN": 0.046, "ISCAS": 0.046, "ISCLA": 0.046,
  "ISCIL": 0.046, "LNGQT": 0.045, "EARLY": 0.035,
}  # fmt: skip
_ECTOPY = {
  "PVC": 0.09, "PAC": 0.055, "BIGU": 0.036, "TRIGU": 0.037,
}  # fmt: skip
_HEALTHY_SHARE = 0.27


@dataclasses.dataclass(frozen=True)
class Patient:
  """What all recordings of a patient share.

  Attributes:
    age: years.
    male: sex, as far as amplitudes depend on it.
    healthy: no chronic finding at all.
    conduction: "", CLBBB, CRBBB, IRBBB, ILBBB, IVCD, WPW or PACE.
    fascicle: "", LAFB or LPFB.
    infarct: territories of infarcts, as codes (IMI, ASMI, ...).
    hypertrophy: "", LVH or RVH.
    atria: "", LAO/LAE or RAO/RAE.
    voltage: "", LVOLT (low), HVOLT (high).
    fibrillation: permanent atrial fibrillation.
  """

  age: float
  male: bool
  healthy: bool = True
  conduction: str = ""
  fascicle: str = ""
  infarct: tuple[str, ...] = ()
  hypertrophy: str = ""
  atria: str = ""
  voltage: str = ""
  fibrillation: bool = False


@dataclasses.dataclass(frozen=True)
class Findings:
  """What one recording shows.

  Attributes:
    patient: the chronic findings.
    rhythm: SR, SBRAD, STACH, SARRH, AFIB, AFLT, SVTAC or PACE.
    rate: mean ventricular rate without ectopic beats, 1/min.
    ectopy: "", PVC, PAC, BIGU or TRIGU.
    ectopic_focus: "", "PVC" or "PAC": where ectopic beats come from.
    long_pr: PR above 200 ms.
    stage: age of the infarct: "", "old", "recent" (inverted T) or "acute" (ST
      elevation).
    aneurysm: ST elevation that stayed after an anterior infarct.
    repolarisation: "", a code of `_REPOLARISATION`, "STRAIN" or "DIG".
    sokolow: S(V1) + max R(V5, V6) to aim for, millivolt; 0: no aim.
    extra: codes that describe the same signal once more and that not every
      reader writes (ABQRS, QWAVE, LPR, ...).
  """

  patient: Patient
  rhythm: str
  rate: float
  ectopy: str = ""
  ectopic_focus: str = ""
  long_pr: bool = False
  stage: str = ""
  aneurysm: bool = False
  repolarisation: str = ""
  sokolow: float = 0.0
  extra: tuple[str, ...] = ()

  @property
  def normal(self) -> bool:
    """No finding but the rate, and at most respiratory variation of it."""
    return (
      self.patient.healthy
      and self.rhythm in ("SR", "SBRAD", "STACH", "SARRH")
      and not (self.ectopy or self.long_pr or self.repolarisation)
    )

  @property
  def codes(self) -> tuple[str, ...]:
    """SCP codes, sorted."""
    p = self.patient
    found = {self.rhythm, self.ectopy, self.ectopic_focus, *self.extra}
    found |= {p.conduction, p.fascicle, p.hypertrophy, p.atria, *p.infarct}
    found.add(p.voltage)
    # Young adults exceed the limit without hypertrophy.
    if self.sokolow >= 3.5 and (p.hypertrophy or p.age >= 40):
      found.add("VCLVH")
    if self.long_pr:
      found.add("1AVB")
    if self.aneurysm:
      found.add("ANEUR")
    if self.stage == "acute" or self.repolarisation == "EARLY":
      found.add("STE_")
    if self.repolarisation == "STRAIN":
      found.add("ISC_")
    elif self.repolarisation != "EARLY":
      found.add(self.repolarisation)
    if self.normal:
      found.add("NORM")
    return tuple(sorted(found - {""}))


def limit(x: float, low: float, high: float) -> float:
  """`x` moved into [low, high]; `np.clip` takes ten times as long."""
  return float(min(max(x, low), high))


def _choose(rng: np.random.Generator, table: dict[str, float]) -> str:
  """One key with its probability, "" with what is left."""
  u = rng.random()
  for name, p in table.items():
    u -= p
    if u < 0:
      return name
  return ""


def draw_patient(rng: np.random.Generator) -> Patient:
  """Age, sex and chronic findings of one patient."""
  male = bool(rng.random() < 0.52)
  if rng.random() < _HEALTHY_SHARE:
    age = limit(rng.normal(50, 17), 18, 89)
    return Patient(age, male)
  age = limit(rng.normal(64, 15), 18, 95)
  old = limit((age - 40) / 30, 0.2, 1.6)
  conduction = _choose(rng, _CONDUCTION)
  if conduction == "" and rng.random() < 0.042:
    conduction = "PACE"
  fascicle = ""
  if conduction in ("", "CRBBB", "IRBBB"):
    boost = 3 if conduction == "CRBBB" else 1
    table = {"LAFB": 0.09 * boost * min(old, 1.2), "LPFB": 0.037 * boost}
    fascicle = _choose(rng, table)
  infarct, hypertrophy = (), ""
  if conduction not in WIDE:
    first = _choose(rng, _INFARCT)
    infarct = (first,) if first else ()
    if first in ("IMI", "ASMI") and rng.random() < 0.2:
      infarct = ("ASMI", "IMI")
    rvh = 0.045 if fascicle != "LAFB" and conduction != "ILBBB" else 0.0
    hypertrophy = _choose(rng, {"LVH": 0.15, "RVH": rvh})
  fibrillation = conduction != "WPW" and rng.random() < 0.12 * old
  atria = ""
  if not fibrillation:
    lae = 0.10 if hypertrophy == "LVH" else 0.06
    rae = 0.20 if hypertrophy == "RVH" else 0.036
    atria = _choose(rng, {"LAO/LAE": lae, "RAO/RAE": rae})
  voltage = ""
  if conduction == "" and not hypertrophy and not infarct:
    high = 0.25 if age < 45 else 0.06
    voltage = _choose(rng, {"LVOLT": 0.08, "HVOLT": high})
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
  return _choose(rng, table) or "SR"


def _rate(rng: np.random.Generator, rhythm: str) -> float:
  """Ventricular rate, 1/min; readers call 50 to 60 either way."""
  low, mode, high = {
    "SR": (53, 66, 97), "SBRAD": (38, 51, 58), "STACH": (102, 110, 150),
    "SARRH": (55, 66, 88), "AFIB": (55, 88, 150), "AFLT": (65, 100, 155),
    "SVTAC": (140, 165, 215), "PACE": (58, 68, 88),
  }[rhythm]  # fmt: skip
  return float(rng.triangular(low, mode, high))


def _repolarisation(
  rng: np.random.Generator, p: Patient, rhythm: str, stage: str
) -> str:
  if p.healthy or p.conduction in (*WIDE, "CRBBB", "ILBBB"):
    return ""
  if p.hypertrophy == "LVH":
    return "STRAIN" if rng.random() < 0.65 else ""
  if p.hypertrophy == "RVH" or stage in ("recent", "acute"):
    return ""
  if rhythm == "AFIB" and rng.random() < 0.45:
    return "DIG"
  if rhythm in ("AFLT", "SVTAC"):
    # Flutter waves and fast rates hide T waves.
    return "NST_" if rng.random() < 0.3 else ""
  table = _REPOLARISATION
  if p.voltage == "HVOLT" or p.age < 45:
    table = table | {"EARLY": 0.13}
  elif p.infarct:
    table = table | {"EARLY": 0.0}
  return _choose(rng, table)


def _sokolow(rng: np.random.Generator, p: Patient) -> float:
  if p.hypertrophy == "LVH":
    return float(rng.uniform(3.1, 5.6))
  if p.voltage == "HVOLT":
    return float(rng.uniform(3.6, 5.0))
  return 0.0


def _extra(rng: np.random.Generator, f: Findings) -> tuple[str, ...]:
  """Statements that repeat a finding, which some readers add."""
  p, u = f.patient, rng.random(6)
  extra = set()
  abnormal_qrs = 0.0
  if p.infarct:
    abnormal_qrs = 0.6
    if f.stage != "acute" and u[1] < 0.45:
      extra.add("QWAVE")
    if f.stage == "recent" and u[2] < 0.7:
      extra.add("INVT")
  if p.conduction == "WPW":
    abnormal_qrs = 0.8
  elif p.conduction not in ("", "PACE") or p.fascicle:
    abnormal_qrs = max(abnormal_qrs, 0.35)
  if p.hypertrophy == "RVH":
    abnormal_qrs = max(abnormal_qrs, 0.5)
  if u[0] < abnormal_qrs:
    extra.add("ABQRS")
  if f.long_pr and u[3] < 0.5:
    extra.add("LPR")
  if f.repolarisation in ("STRAIN", *ISCHAEMIA):
    if u[4] < 0.4:
      extra.add("STD_")
    if u[5] < 0.35:
      extra.add("INVT")
  if f.repolarisation == "DIG" and u[4] < 0.6:
    extra.add("STD_")
  if f.repolarisation in ("NDT", "LOWT") and u[4] < 0.2:
    extra.add("NT_")
  return tuple(sorted(extra))


def draw_findings(rng: np.random.Generator, patient: Patient) -> Findings:
  """The findings of one recording of `patient`."""
  p = patient
  rhythm = _rhythm(rng, p)
  rate = _rate(rng, rhythm)
  ectopy = focus = ""
  if rhythm in ("SR", "SBRAD", "STACH", "AFIB", "PACE"):
    table = {"PVC": 0.02, "PAC": 0.02} if p.healthy else _ECTOPY
    ectopy = _choose(rng, table)
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
    _repolarisation(rng, p, rhythm, stage), _sokolow(rng, p),
  )  # fmt: skip
  if set(found.codes) <= {"SR", "SBRAD", "STACH", "SARRH"} and not found.normal:
    # An ill patient whose draws came out empty: give the commonest finding.
    table = _REPOLARISATION
    weights = np.array(list(table.values()))
    k = int(rng.choice(len(table), p=weights / weights.sum()))
    found = dataclasses.replace(found, repolarisation=list(table)[k])
  return dataclasses.replace(found, extra=_extra(rng, found))
