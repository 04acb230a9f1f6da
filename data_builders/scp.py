"""SCP-ECG statements and the label sets made of them.

The 71 statements of PTB-XL (Wagner et al., Scientific Data 2020) with their
diagnostic class and subclass and whether they describe form or rhythm. Every
data set that carries SCP codes takes its labels from here.

Label names are the statement or (sub)class names without the underscores that
PTB-XL pads some of them with (`NST_` -> `NST`, `_AVB` -> `AVB`), as in the
published split files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Statement:
  """One SCP statement; `diagnostic_class` is empty where it has none."""

  code: str
  description: str
  diagnostic_class: str = ""
  diagnostic_subclass: str = ""
  form: bool = False
  rhythm: bool = False


STATEMENTS: tuple[Statement, ...] = (
  Statement("NDT", "non-diagnostic T abnormalities", "STTC", "STTC", form=True),
  Statement("NST_", "non-specific ST changes", "STTC", "NST_", form=True),
  Statement("DIG", "digitalis-effect", "STTC", "STTC", form=True),
  Statement("LNGQT", "long QT-interval", "STTC", "STTC", form=True),
  Statement("NORM", "normal ECG", "NORM", "NORM"),
  Statement("IMI", "inferior myocardial infarction", "MI", "IMI"),
  Statement("ASMI", "anteroseptal myocardial infarction", "MI", "AMI"),
  Statement("LVH", "left ventricular hypertrophy", "HYP", "LVH"),
  Statement("LAFB", "left anterior fascicular block", "CD", "LAFB/LPFB"),
  Statement("ISC_", "non-specific ischemic", "STTC", "ISC_"),
  Statement("IRBBB", "incomplete right bundle branch block", "CD", "IRBBB"),
  Statement("1AVB", "first degree AV block", "CD", "_AVB"),
  Statement(
    "IVCD",
    "non-specific intraventricular conduction disturbance (block)",
    "CD",
    "IVCD",
  ),
  Statement("ISCAL", "ischemic in anterolateral leads", "STTC", "ISCA"),
  Statement("CRBBB", "complete right bundle branch block", "CD", "CRBBB"),
  Statement("CLBBB", "complete left bundle branch block", "CD", "CLBBB"),
  Statement("ILMI", "inferolateral myocardial infarction", "MI", "IMI"),
  Statement("LAO/LAE", "left atrial overload/enlargement", "HYP", "LAO/LAE"),
  Statement("AMI", "anterior myocardial infarction", "MI", "AMI"),
  Statement("ALMI", "anterolateral myocardial infarction", "MI", "AMI"),
  Statement("ISCIN", "ischemic in inferior leads", "STTC", "ISCI"),
  Statement(
    "INJAS",
    "subendocardial injury in anteroseptal leads",
    "MI",
    "AMI",
  ),
  Statement("LMI", "lateral myocardial infarction", "MI", "LMI"),
  Statement("ISCIL", "ischemic in inferolateral leads", "STTC", "ISCI"),
  Statement("LPFB", "left posterior fascicular block", "CD", "LAFB/LPFB"),
  Statement("ISCAS", "ischemic in anteroseptal leads", "STTC", "ISCA"),
  Statement(
    "INJAL",
    "subendocardial injury in anterolateral leads",
    "MI",
    "AMI",
  ),
  Statement("ISCLA", "ischemic in lateral leads", "STTC", "ISCA"),
  Statement("RVH", "right ventricular hypertrophy", "HYP", "RVH"),
  Statement(
    "ANEUR",
    "ST-T changes compatible with ventricular aneurysm",
    "STTC",
    "STTC",
  ),
  Statement("RAO/RAE", "right atrial overload/enlargement", "HYP", "RAO/RAE"),
  Statement(
    "EL",
    "electrolytic disturbance or drug (former EDIS)",
    "STTC",
    "STTC",
  ),
  Statement("WPW", "Wolf-Parkinson-White syndrome", "CD", "WPW"),
  Statement("ILBBB", "incomplete left bundle branch block", "CD", "ILBBB"),
  Statement("IPLMI", "inferoposterolateral myocardial infarction", "MI", "IMI"),
  Statement("ISCAN", "ischemic in anterior leads", "STTC", "ISCA"),
  Statement("IPMI", "inferoposterior myocardial infarction", "MI", "IMI"),
  Statement("SEHYP", "septal hypertrophy", "HYP", "SEHYP"),
  Statement("INJIN", "subendocardial injury in inferior leads", "MI", "IMI"),
  Statement("INJLA", "subendocardial injury in lateral leads", "MI", "AMI"),
  Statement("PMI", "posterior myocardial infarction", "MI", "PMI"),
  Statement("3AVB", "third degree AV block", "CD", "_AVB"),
  Statement(
    "INJIL",
    "subendocardial injury in inferolateral leads",
    "MI",
    "IMI",
  ),
  Statement("2AVB", "second degree AV block", "CD", "_AVB"),
  Statement("ABQRS", "abnormal QRS", form=True),
  Statement("PVC", "ventricular premature complex", form=True),
  Statement("STD_", "non-specific ST depression", form=True),
  Statement(
    "VCLVH",
    "voltage criteria (QRS) for left ventricular hypertrophy",
    form=True,
  ),
  Statement("QWAVE", "Q waves present", form=True),
  Statement("LOWT", "low amplitude T-waves", form=True),
  Statement("NT_", "non-specific T-wave changes", form=True),
  Statement("PAC", "atrial premature complex", form=True),
  Statement("LPR", "prolonged PR interval", form=True),
  Statement("INVT", "inverted T-waves", form=True),
  Statement(
    "LVOLT",
    "low QRS voltages in the frontal and horizontal leads",
    form=True,
  ),
  Statement("HVOLT", "high QRS voltage", form=True),
  Statement("TAB_", "T-wave abnormality", form=True),
  Statement("STE_", "non-specific ST elevation", form=True),
  Statement("PRC(S)", "premature complex(es)", form=True),
  Statement("SR", "sinus rhythm", rhythm=True),
  Statement("AFIB", "atrial fibrillation", rhythm=True),
  Statement("STACH", "sinus tachycardia", rhythm=True),
  Statement("SARRH", "sinus arrhythmia", rhythm=True),
  Statement("SBRAD", "sinus bradycardia", rhythm=True),
  Statement("PACE", "normal functioning artificial pacemaker", rhythm=True),
  Statement("SVARR", "supraventricular arrhythmia", rhythm=True),
  Statement(
    "BIGU",
    "bigeminal pattern (unknown origin, SV or Ventricular)",
    rhythm=True,
  ),
  Statement("AFLT", "atrial flutter", rhythm=True),
  Statement("SVTAC", "supraventricular tachycardia", rhythm=True),
  Statement("PSVT", "paroxysmal supraventricular tachycardia", rhythm=True),
  Statement(
    "TRIGU",
    "trigeminal pattern (unknown origin, SV or Ventricular)",
    rhythm=True,
  ),
)

BY_CODE = {s.code: s for s in STATEMENTS}


def _label(name: str) -> str:
  return name.strip("_")


def _unique(names: Iterable[str]) -> tuple[str, ...]:
  return tuple(dict.fromkeys(_label(n) for n in names if n))


LABEL_SETS: dict[str, tuple[str, ...]] = {
  "superclass": ("NORM", "MI", "STTC", "CD", "HYP"),
  "subclass": _unique(s.diagnostic_subclass for s in STATEMENTS),
  "form": _unique(s.code for s in STATEMENTS if s.form),
  "rhythm": _unique(s.code for s in STATEMENTS if s.rhythm),
  "all": _unique(s.code for s in STATEMENTS),
}


def labels(codes: Iterable[str]) -> dict[str, np.ndarray]:
  """Multi-hot labels of a record, one uint8 vector per label set.

  As in the PTB-XL benchmark (Strodthoff et al., IEEE JBHI 2021) a statement
  counts whatever its likelihood is. A record without a statement of a label set
  has an all-zero row there and does not belong to that set.

  Args:
    codes: SCP codes of the record, for instance ("NORM", "SR").

  Returns:
    Label set name -> uint8 (number of labels,), order of `LABEL_SETS`.

  Raises:
    ValueError: a code is not an SCP statement of PTB-XL.
  """
  names: dict[str, set[str]] = {k: set() for k in LABEL_SETS}
  for code in codes:
    if code not in BY_CODE:
      raise ValueError(f"unknown SCP code {code!r}; see data_builders/scp.py")
    s = BY_CODE[code]
    names["all"].add(_label(code))
    if s.diagnostic_class:
      names["superclass"].add(_label(s.diagnostic_class))
      names["subclass"].add(_label(s.diagnostic_subclass))
    if s.form:
      names["form"].add(_label(code))
    if s.rhythm:
      names["rhythm"].add(_label(code))
  return {
    key: np.array([n in names[key] for n in LABEL_SETS[key]], np.uint8)
    for key in LABEL_SETS
  }
