"""What a simulated patient and a recording have, and the SCP codes of it.

A patient has chronic findings (old infarct, bundle branch block, hypertrophy);
each recording adds its own (rate, ectopic beats, ST-T changes).
"""

from __future__ import annotations

import dataclasses

import numpy as np

# Bundle branch block, pre-excitation and pacing hide infarcts and hypertrophy.
WIDE = ("CLBBB", "WPW", "PACE")
ANTERIOR = ("ASMI", "AMI", "ALMI")


@dataclasses.dataclass(frozen=True)
class Patient:
  """What all recordings of a patient share.

  Attributes:
    age: years.
    male: sex, as far as amplitudes depend on it.
    healthy: no chronic finding but variants of the norm: incomplete right
      bundle branch block, unusual voltage.
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
    repolarisation: ST-T change of the signal: "", the code of its usual name,
      or "STRAIN".
    degree: how marked that change is, 0.05 to 1: decides the signal of strain,
      ischaemia, STD_ and NST_, and what a reader calls any of them.
    sokolow: S(V1) + max R(V5, V6) to aim for, millivolt; 0: no aim.
    st_t: codes that the reader gives to the ST-T change.
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
  degree: float = 0.5
  sokolow: float = 0.0
  st_t: tuple[str, ...] = ()
  extra: tuple[str, ...] = ()

  @property
  def normal(self) -> bool:
    """Nothing but variants of the norm, ectopic beats and a sinus rhythm."""
    return (
      self.patient.healthy
      and self.rhythm in ("SR", "SBRAD", "STACH", "SARRH")
      and not (self.long_pr or self.repolarisation)
    )

  @property
  def unremarkable(self) -> bool:
    """Nothing to be said but that it is normal."""
    p = self.patient
    remark = self.rhythm != "SR" or self.ectopy or p.conduction or p.voltage
    return self.normal and not remark

  @property
  def codes(self) -> tuple[str, ...]:
    """SCP codes, sorted."""
    p = self.patient
    found = {self.rhythm, self.ectopy, self.ectopic_focus}
    found |= {*self.st_t, *self.extra}
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
    if self.normal:
      found.add("NORM")
    return tuple(sorted(found - {""}))


def limit(x: float, low: float, high: float) -> float:
  """`x` moved into [low, high]; `np.clip` takes ten times as long."""
  return float(min(max(x, low), high))


def choose(rng: np.random.Generator, table: dict[str, float]) -> str:
  """One key with its probability, "" with what is left."""
  u = rng.random()
  for name, p in table.items():
    u -= p
    if u < 0:
      return name
  return ""
