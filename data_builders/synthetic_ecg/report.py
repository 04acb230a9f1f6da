"""Writes reports: a small grammar over findings.

A report is terse machine lines, a physician's sentences or a list of plain
names. Readers leave some findings out, hedge, sum up by class and add remarks
that say nothing about the signal. They never state what is not there.
"""

from __future__ import annotations

import numpy as np

from data_builders import scp
from data_builders.synthetic_ecg import phrases, remarks
from data_builders.synthetic_ecg.findings import Findings

_OMIT_RHYTHM = 0.08
_OMIT_FINDING = 0.05
_OMIT_EXTRA = 0.25
_RHYTHM = ("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC", "PACE")
_HEDGED = ("IMI", "ASMI", "AMI", "ALMI", "LMI", "ILMI", "LVH", "RVH",
           "LAO/LAE", "RAO/RAE", "ISCAL", "ISCIN", "ISCAS", "ISCLA",
           "ISCIL")  # fmt: skip


def _pick(rng: np.random.Generator, options):
  return options[int(rng.random() * len(options))]


def statements(f: Findings) -> list[str]:
  """Keys of `phrases.WORDINGS` that are true of `f`, most urgent first."""
  codes = set(f.codes) - {"NORM"}
  if f.stage == "acute" and "STE_" in codes:
    codes = (codes - {"STE_"}) | {"ACUTE"}
  order = {key: i for i, key in enumerate(phrases.WORDINGS)}
  return sorted(codes, key=order.__getitem__)


def _mentioned(rng: np.random.Generator, f: Findings) -> list[str]:
  """Chooses the statements that the reader writes down, in their order."""
  rhythm, rest = [], []
  for key in statements(f):
    if key in _RHYTHM:
      if f.normal and key != "SR" or rng.random() > _OMIT_RHYTHM:
        rhythm.append(key)
    elif key in ("PVC", "PAC") and f.ectopy != key:
      # "Bigeminy" usually names the focus already.
      if rng.random() < 0.5:
        rest.append(key)
    else:
      omit = _OMIT_EXTRA if key in f.extra else _OMIT_FINDING
      if rng.random() > omit:
        rest.append(key)
  if not rest and not f.normal:
    rest = [key for key in statements(f) if key not in _RHYTHM]
    if not rest:
      rhythm = [f.rhythm]
  if len(rest) > 1 and rng.random() < 0.4:
    rng.shuffle(rest)
  if rng.random() < 0.1:
    return rest + rhythm
  return rhythm + rest


def _word(
  rng: np.random.Generator, f: Findings, key: str, register: int
) -> str:
  """One statement in words."""
  text = _pick(rng, phrases.WORDINGS[key][register])
  if "{" in text:
    speed = "slow" if f.rate < 62 else "fast" if f.rate > 105 else ""
    text = text.format(
      stage=_pick(rng, remarks.STAGE.get(f.stage, ("old",))),
      response=_pick(rng, remarks.RESPONSE[speed]),
      focus="ventricular" if f.ectopic_focus == "PVC" else "atrial",
    ).strip()
  hedge = 0.25 if register < 2 else 0.05
  if key in _HEDGED and rng.random() < hedge and "possibl" not in text:
    text = f"{_pick(rng, remarks.HEDGES)} {text}"
  return text


def _classes(f: Findings) -> list[str]:
  found = (scp.BY_CODE[c].diagnostic_class for c in f.codes)
  return [c for c in dict.fromkeys(found) if c in remarks.CLASSES]


def _summary(rng: np.random.Generator, f: Findings) -> str:
  """Superclass words, or "abnormal ECG", or nothing."""
  classes = _classes(f)
  if classes and rng.random() < 0.35:
    names = [_pick(rng, remarks.CLASSES[c]) for c in classes]
    text = ", ".join(names) if rng.random() < 0.5 else " and ".join(names)
    return f"abnormal ECG: {text}" if rng.random() < 0.3 else text
  if rng.random() < 0.2:
    return "abnormal ECG"
  return ""


def _capital(text: str) -> str:
  return text[:1].upper() + text[1:]


def write(rng: np.random.Generator, f: Findings) -> str:
  """The report of a recording with the findings `f`."""
  register = int(rng.choice(3, p=(0.45, 0.4, 0.15)))
  lines = [_word(rng, f, key, register) for key in _mentioned(rng, f)]
  if f.normal:
    plain = f.unremarkable
    options = remarks.NORMAL if plain else remarks.OTHERWISE_NORMAL
    if plain and rng.random() < 0.1:
      lines = []
    lines.append(_pick(rng, options[register]))
  else:
    summary = _summary(rng, f)
    if summary:
      lines.insert(len(lines) if rng.random() < 0.7 else 0, summary)
  u = rng.random(3)
  remarks_left = list(remarks.FILLERS)
  for _ in range(int(u[0] < 0.35) + int(u[0] < 0.07)):
    lines.append(remarks_left.pop(int(rng.random() * len(remarks_left))))
  if register == 0:
    if u[1] < 0.15:
      return "\n".join(lines).upper().replace("\n", ". ")
    return ". ".join(_capital(line) for line in lines) + ("." if u[2] < 0.5
                                                          else "")  # fmt: skip
  if register == 1:
    return ". ".join(_capital(line) for line in lines) + "."
  return _capital(", ".join(lines))
