"""Sheets of ECG paper as paths of an SVG."""

from __future__ import annotations

import dataclasses

import numpy as np

from cgdmer_jax.figures.paper import Line, Sheet

_UNITS = 100  # of a path, in a millimetre; templates scale it down


@dataclasses.dataclass(frozen=True)
class DrawnStrip:
  """`paper.Strip` with paths in place of its lines; lengths in mm."""

  lead: str
  is_rhythm: bool
  has_edge: bool
  left: float
  top: float
  zero: float
  height: float
  recorded: str
  restored: tuple[str, ...]
  hidden: tuple[tuple[float, float], ...]
  remark: str


@dataclasses.dataclass(frozen=True)
class DrawnSheet:
  """`paper.Sheet` with paths in place of its lines; lengths in mm."""

  width: float
  height: float
  start: float
  pulses: tuple[str, ...]
  strips: tuple[DrawnStrip, ...]


def draw(sheet: Sheet) -> DrawnSheet:
  """What the template `ecg` needs."""
  strips = [
    DrawnStrip(
      s.lead,
      s.is_rhythm,
      s.is_second_lead_in_row,
      *(round(x, 3) for x in (s.left, s.top, s.zero)),
      round(s.bottom - s.top, 3),
      path(s.recorded) if s.recorded else "",
      tuple(path(x) for x in s.restored),
      tuple((round(a, 3), round(b, 3)) for a, b in s.hidden),
      s.remark,
    )
    for s in sheet.strips
  ]
  pulses = tuple(path(x) for x in sheet.pulses)
  return DrawnSheet(
    sheet.width, sheet.height, sheet.start, pulses, tuple(strips)
  )


def path(line: Line) -> str:
  """The `d` of a line: every sample, to 0.01 mm; NaN breaks it."""
  known = np.flatnonzero(np.isfinite(line.y))
  parts = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
  pieces = []
  for part in parts:
    if len(part) < 2:
      continue
    places = np.stack([line.x[part], line.y[part]], axis=1) * _UNITS
    places = np.rint(places).astype(int)
    # Steps of rounded places: errors do not add up.
    steps = np.diff(places, axis=0).ravel().tolist()
    begin = " ".join(map(str, places[0].tolist()))
    pieces.append(f"M{begin}l{' '.join(map(str, steps)).replace(' -', '-')}")
  return "".join(pieces)
