"""What a reader calls the findings: names of ST-T changes, repeated statements.

Readers agree on large changes and differ on small ones: the same depressed ST
segment is ischaemia to one, strain to another, a nonspecific change to a third.
Reports of PTB-XL (Wagner et al., Scientific Data 2020) name ST-T changes beside
nearly every other diagnosis. So the name depends on kind and degree of a
change, and statements may be added to any name.
"""

from __future__ import annotations

import numpy as np

from data_builders.synthetic_ecg.findings import Findings, choose

ISCHAEMIA = ("ISCAL", "ISCIN", "ISCAS", "ISCLA", "ISCIL")

# Kind of change -> what it is called, one of these; "": not at all. "own" is
# the kind itself.
_NAME = {
  "STRAIN": {"ISC_": 0.88, "NDT": 0.06, "NST_": 0.06},
  "ISCHAEMIA": {"own": 0.85, "ISC_": 0.11, "NST_": 0.04},
  "NST_": {"own": 0.78, "STD_": 0.12, "NDT": 0.10},
  "STD_": {"own": 0.82, "NST_": 0.18},
  "NDT": {"own": 0.84, "NT_": 0.08, "NST_": 0.08},
  "NT_": {"own": 0.84, "NDT": 0.16},
  "LOWT": {"own": 0.84, "NDT": 0.10, "NT_": 0.06},
  "INVT": {"own": 0.84, "NDT": 0.16},
  "DIG": {"own": 0.85, "NST_": 0.15},
}
_NAME_IF_SLIGHT = {
  "STRAIN": {"ISC_": 0.36, "NDT": 0.18, "NST_": 0.16, "": 0.30},
  "ISCHAEMIA": {"own": 0.55, "ISC_": 0.13, "NDT": 0.18, "NST_": 0.14},
}
_SLIGHT = 0.35  # degree below which these apply

# Kind of change -> statements added to its name with a probability of
# a + b * degree.
_ADDED = {
  "STRAIN": {"STD_": (0.35, 0.55), "INVT": (0.05, 0.40), "LOWT": (0.20, -0.20)},
  "ISCHAEMIA": {
    "STD_": (0.15, 0.45), "INVT": (0.05, 0.50), "LOWT": (0.12, -0.12),
  },
  "NST_": {"STD_": (0.12, 0.10), "LOWT": (0.10, 0.0)},
  "STD_": {"NDT": (0.20, 0.0), "LOWT": (0.15, 0.0)},
  "NDT": {"LOWT": (0.15, 0.0), "STD_": (0.06, 0.0), "NT_": (0.08, 0.0)},
  "LOWT": {"NDT": (0.25, 0.0), "NT_": (0.08, 0.0)},
  "INVT": {"NDT": (0.20, 0.0)},
  "DIG": {"STD_": (0.55, 0.0)},
  "LNGQT": {"LOWT": (0.08, 0.0), "NDT": (0.08, 0.0)},
}  # fmt: skip


def st_t(rng: np.random.Generator, kind: str, degree: float) -> tuple[str, ...]:
  """Codes of an ST-T change.

  Args:
    rng: random numbers.
    kind: `Findings.repolarisation`.
    degree: how marked it is, 0 to 1.

  Returns:
    Codes, sorted; of slight strain there may be none.
  """
  if kind in ("", "EARLY"):
    return ()
  group = "ISCHAEMIA" if kind in ISCHAEMIA else kind
  names = _NAME.get(group, {"own": 1.0})
  if degree < _SLIGHT:
    names = _NAME_IF_SLIGHT.get(group, names)
  name = choose(rng, names)
  codes = {kind if name == "own" else name}
  for code, (base, slope) in _ADDED.get(group, {}).items():
    if rng.random() < base + slope * degree:
      codes.add(code)
  return tuple(sorted(codes - {""}))


def repeated(rng: np.random.Generator, f: Findings) -> tuple[str, ...]:
  """Statements that repeat a finding, which some readers add; sorted codes."""
  p, u = f.patient, rng.random(4)
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
  if p.hypertrophy:
    abnormal_qrs = max(abnormal_qrs, 0.5 if p.hypertrophy == "RVH" else 0.2)
  if u[0] < abnormal_qrs:
    extra.add("ABQRS")
  if f.long_pr and u[3] < 0.5:
    extra.add("LPR")
  return tuple(sorted(extra))
