"""Labels of MIMIC-IV-ECG, found in the machine's statements by patterns.

The data set has no labels. These serve retrieval and zero-shot checks within
it; they repeat what the machine says, right or wrong.

Names are those of the SCP-ECG statements and classes of PTB-XL where these mean
the same (`data_builders.scp`), so that prompts and models transfer by name; LAD
and RAD, which PTB-XL lacks, are axis deviations. As in PTB-XL's subclasses, AMI
includes septal, anteroseptal and anterolateral infarcts and IMI inferolateral
and inferoposterior ones; MI is an infarct anywhere. A prolonged PR interval
counts as 1AVB, which it defines, and a supraventricular extrasystole as PAC, as
in the scores of PhysioNet/CinC 2020. LVOLT and STTC count wherever they are.

What is said of a finding decides whether it counts. A sentence falls into
clauses at commas, full stops, colons, hyphens between spaces, "with" and "but".
Within a clause

- "probable", "suggests", "consistent with" are the machine's usual wording for
  what its criteria found: the finding counts;
- "possible", "consider", "may", "could", "cannot rule out", "suspect", "?" are
  for what they did not quite find, and "borderline", "minimal", "equivocal" for
  what is at the limit: findings after them do not count, those before do
  ("inferior infarct, possibly acute" is an infarct, "ST elevation, consider
  acute infarct" is not);
- of two alternatives only the first counts ("PVCs or aberrant conduction");
- findings after "no", "not" or "without" do not count, unless they are the
  reason ("no further analysis due to paced rhythm");
- nothing counts where the whole clause is taken back ("... cannot be excluded",
  "... are borderline", "... if ...").

A sentence that calls its finding a normal variant, normal for the age or early
repolarization has no label.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

import numpy as np


def _infarct(site: str) -> str:
  """Pattern of an infarct with one of the sites, perhaps among others."""
  between = r"(?: (?:and|\+) [\w/]+| wall| myocardial| extension of)*"
  return rf"(?<![\w/])(?:{site}){between} infarct"


_STTC = (
  r"\bst(?:-t)? (?:changes?|abnormalit|abnrm|elev|depr)"
  r"|\bst(?:j| junctional) depression"
  r"|\bt wave (?:changes?|abnormalit|inversion)"
  r"|\bt (?:changes?|abnormalit|abnrm)|\b(?:abnormal|abnrm|tall) t\b"
  r"|\brepol(?:arization)? (?:abnormalit|abnrm|changes?)"
)

# Label -> pattern of the finding in a clause in lower case.
PATTERNS: dict[str, str] = {
  "NORM": r"(?<!otherwise )\bnormal ecg\b(?! except)|\bwithin normal limits\b",
  "SR": r"\bsinus rhythm\b",
  "SBRAD": r"\bsinus bradycardia\b",
  "STACH": r"\bsinus tachycardia\b",
  "SARRH": r"\bsinus arrhythmia\b",
  "AFIB": r"\batrial fibrillation\b|\bflutter/fibrillation\b|\ba-?fib\b|\baf\b",
  "AFLT": r"\bflutter\b|\bafib/flut\b",
  "PACE": r"(?<!wandering atrial )\bpac(?:ed|ing|emaker)\b(?! spikes)",
  "PAC": (
    r"\bpacs?\b|\bpremature atrial (?:contraction|complex|beat)"
    r"|\batrial premature (?:contraction|complex|beat)"
    r"|\bsupraventricular (?:extrasystole|bigeminy)|\bvent & supraven"
  ),
  "PVC": (
    r"\bpvcs?\b|\bpremature ventricular (?:contraction|complex|beat)"
    r"|\bvent(?:ricular)? premature (?:contraction|complex|beat)"
    r"|\bventricular (?:bigeminy|trigeminy|couplet)|\bvent & supraven"
  ),
  "1AVB": (
    r"\b(?:1st|first) deg(?:ree)? a-?v ?b(?:lock)?\b|\bprolonged pr interval\b"
  ),
  "CLBBB": r"(?<!incomplete )\b(?:left bundle branch block|lbbb)\b(?! type)",
  "CRBBB": r"(?<!incomplete )\b(?:right bundle branch block|rbbb)\b(?! type)",
  "IRBBB": r"\bincomplete (?:right bundle branch block|rbbb)\b|\birbbb\b",
  "LAFB": r"\banterior fascicular block\b|\blafb\b",
  "IVCD": (
    r"\b(?:iv|i\.v\.|intraventricular) conduction (?:defect|delay)\b|\bivcd\b"
    r"|\bconduction defect of\b"
  ),
  "LVH": r"\b(?:left |bi)ventricular hypertrophy\b|\b[lb]vh\b",
  "RVH": r"\b(?:right |bi)ventricular hypertrophy\b|\b[rb]vh\b",
  "LAO/LAE": r"\b(?:left |bi)atrial (?:enlargement|abnormality)\b|\blae\b",
  # "(LAD)" after an infarct is the artery.
  "LAD": r"\bleft axis deviation\b|(?<!\()\blad\b|\baxis superior to -30\b",
  "RAD": r"\bright axis deviation\b|\brad\b",
  "LVOLT": r"\blow (?:qrs )?voltages?\b",
  "LNGQT": r"\b(?:long|prolonged) qtc?\b",
  "STTC": _STTC,
  "MI": r"\binfarct(?:ion)?\b",
  "IMI": _infarct("inferior|inferolateral|inferoposterior"),
  "AMI": _infarct("anterior|anteroseptal|anterolateral|septal|ant/septal"),
  "LMI": _infarct("lateral"),
}
NAMES = tuple(PATTERNS)

_FINDINGS = tuple(map(re.compile, PATTERNS.values()))
_VARIANT = re.compile(
  r"\bnormal variant|\bjuvenile\b|\bearly repol|\b(?:are|be|probably) normal\b"
)
_QUERY = re.compile(r"\(\?[^)]*\)")  # "sinus (? atrial) tachycardia"
_CLAUSE = re.compile(
  r",\s+|(?<!i\.v)[.;:]\s+|\s+-\s+|\s+(?:with|but)\s+|\s+w/\s*"
)
_TAKEN_BACK = re.compile(
  r"\bcannot be (?:excluded|ruled out)\b|\b(?:is|are) borderline\b|\bif\b"
)
_NOT_AFTER = re.compile(
  r"(?:\?|\b(?:possibl[ey]|consider|may|might|could|cannot rule out|suspect"
  r"|borderline|minimal|equivocal|or)\b).*"
)
_NEGATED = re.compile(r"\b(?:no|not|without)\b.*?(?:due to|because of|$)")


@functools.lru_cache(maxsize=1 << 16)
def find(sentence: str) -> frozenset[str]:
  """Finds the labels of one sentence.

  Args:
    sentence: a cleaned statement, in any case.

  Returns:
    Some of `NAMES`.
  """
  text = sentence.lower()
  if _VARIANT.search(text):
    return frozenset()
  clauses = [
    _NEGATED.sub("", _NOT_AFTER.sub("", clause))
    for clause in _CLAUSE.split(_QUERY.sub("", text).replace("  ", " "))
    if not _TAKEN_BACK.search(clause)
  ]
  return frozenset(
    name
    for name, finding in zip(NAMES, _FINDINGS, strict=True)
    if any(map(finding.search, clauses))
  )


def labels(sentences: Iterable[str]) -> np.ndarray:
  """Finds the labels of a report.

  Args:
    sentences: the sentences of the report, see `reports.sentences`.

  Returns:
    uint8 (labels,), order of `NAMES`.
  """
  found = frozenset().union(*map(find, sentences))
  return np.array([name in found for name in NAMES], np.uint8)
