"""Where everything of an ECG stands on millimetre paper.

The usual layout: three rows of four leads, a quarter of 10 s of each, and one
lead over all of the time below, at 25 mm/s and 10 mm/mV. What draws a sheet, as
an image or on a page, finds all places here, in mm from its upper left corner.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from cgdmer_jax.data.leads import LEADS, NUM_LEADS

MM_PER_S, MM_PER_MV = 25.0, 10.0
ROW_SECONDS = 10.0
_ROWS, _COLUMNS = 3, 4
_MARGIN_MM = 10.0  # left of each row: its calibration pulse
_EDGE_MM = 2.0
_ABOVE_MM, _BELOW_MM, _MOST_MM = 9.0, 6.0, 25.0  # of a zero line
_RHYTHM_LEADS = ("II", "V1", "V5")  # the first that is there
_ROWS_OF_RHYTHM = 8  # on a sheet of their own
# 1 mV for 0.2 s; mm from the left end, mV.
_PULSE = (np.array([1, 2, 2, 7, 7, 8.0]), np.array([0, 0, 1, 1, 0, 0.0]))


@dataclasses.dataclass(frozen=True)
class Line:
  """A line on paper: x and y in mm, float (n,); NaN in y breaks it."""

  x: np.ndarray
  y: np.ndarray


@dataclasses.dataclass(frozen=True)
class Strip:
  """A part of a lead.

  Attributes:
    lead: name.
    is_rhythm: below the 3 x 4 leads, over all of the time.
    left: with `top` and `bottom`, its place in mm.
    top: see `left`.
    bottom: see `left`.
    zero: where 0 mV is, in mm.
    recorded: its line; None where there is none.
    restored: lines over the hidden parts.
    hidden: left and right ends of the hidden parts, in mm.
    remark: what has to be said of the lead.
  """

  lead: str
  is_rhythm: bool
  left: float
  top: float
  bottom: float
  zero: float
  recorded: Line | None
  restored: tuple[Line, ...]
  hidden: tuple[tuple[float, float], ...]
  remark: str

  @property
  def is_second_lead_in_row(self) -> bool:
    """Whether another lead ends where it begins."""
    return self.left > _MARGIN_MM


@dataclasses.dataclass(frozen=True)
class Sheet:
  """A sheet of paper: `width` x `height` mm, its strips, pulses, first second.

  Attributes:
    width: mm.
    height: mm.
    strips: parts of leads, row by row.
    pulses: calibration pulses of 1 mV and 0.2 s, one for each row.
    start: second of the recording at which it begins.
  """

  width: float
  height: float
  strips: tuple[Strip, ...]
  pulses: tuple[Line, ...]
  start: float


@dataclasses.dataclass(frozen=True)
class _Recording:
  """What is drawn; see `arrange`."""

  ecg: np.ndarray
  rate: float
  hidden: np.ndarray | None
  restored: np.ndarray | None
  missing: Mapping[str, str]
  derived: Sequence[str]


def arrange(
  ecg: np.ndarray,
  rate: float,
  *,
  hidden: np.ndarray | None = None,
  restored: np.ndarray | None = None,
  missing: Mapping[str, str] | None = None,
  derived: Sequence[str] = (),
) -> list[Sheet]:
  """Lays out a recording of any length.

  A row has 10 s, or all of a shorter recording; each of its four leads has a
  quarter of them. Every lead stands once among the 3 x 4. A lead for the rhythm
  follows; of a longer recording its rest is on further sheets. Rows are as high
  as their deflections need, up to 25 mm each way; larger deflections overlap
  the next row, as they do on paper.

  Args:
    ecg: (12, T) mV, leads in the order of `LEADS`; NaN where nothing is known.
    rate: samples per second.
    hidden: (12, N) bool, patches hidden from a model; N divides T.
    restored: (12, T) mV; drawn over hidden patches only.
    missing: lead -> why it is not drawn.
    derived: leads that were computed from others.

  Raises:
    ValueError: the shapes do not fit together.
  """
  ecg = np.asarray(ecg, np.float64)
  _check(ecg, hidden, restored)
  of = _Recording(ecg, rate, hidden, restored, missing or {}, derived)
  row = min(ecg.shape[1], round(ROW_SECONDS * rate))
  width = _MARGIN_MM + np.ceil(row / rate * MM_PER_S / 5) * 5 + _EDGE_MM
  ends = np.linspace(0, row, _COLUMNS + 1).round().astype(int)
  rows = [
    [(i * _ROWS + j, int(ends[i]), int(ends[i + 1])) for i in range(_COLUMNS)]
    for j in range(_ROWS)
  ]
  lead = _rhythm_lead(of)
  begins = range(0, ecg.shape[1], row)
  # A last row of less than 0.2 s shows nothing.
  begins = [x for x in begins if not x or ecg.shape[1] - x > 0.2 * rate]
  rhythm = [[(lead, x, min(x + row, ecg.shape[1]))] for x in begins]
  sheets = [_sheet(of, float(width), [*rows, rhythm[0]], 3)]
  for k in range(1, len(rhythm), _ROWS_OF_RHYTHM):
    sheets.append(_sheet(of, float(width), rhythm[k : k + _ROWS_OF_RHYTHM], 0))
  return sheets


def _check(ecg, hidden, restored) -> None:
  if ecg.ndim != 2 or len(ecg) != NUM_LEADS or not ecg.shape[1]:
    raise ValueError(f"ecg has shape {ecg.shape}, expected (12, T)")
  if hidden is not None and (
    len(hidden) != NUM_LEADS or ecg.shape[1] % hidden.shape[1]
  ):
    raise ValueError(f"hidden {hidden.shape} does not divide ecg {ecg.shape}")
  if restored is not None and restored.shape != ecg.shape:
    raise ValueError(
      f"restored has shape {restored.shape}, expected {ecg.shape}"
    )


def _rhythm_lead(of: _Recording) -> int:
  """Number of the lead that shows the rhythm."""
  order = [LEADS.index(x) for x in _RHYTHM_LEADS]
  order += [i for i in range(NUM_LEADS) if i not in order]
  there = [
    i
    for i in order
    if LEADS[i] not in of.missing and np.isfinite(of.ecg[i]).any()
  ]
  return (there or order)[0]


def _sheet(
  of: _Recording,
  width: float,
  rows: Sequence[Sequence[tuple[int, int, int]]],
  num_grid_rows: int,
) -> Sheet:
  """Puts rows of (lead, first sample, one past the last) below each other."""
  top, strips, pulses = _EDGE_MM, [], []
  for number, row in enumerate(rows):
    above, below = _extent(of, row)
    zero = top + above
    bottom = zero + below
    for lead, begin, end in row:
      place = _MARGIN_MM + (begin - row[0][1]) / of.rate * MM_PER_S, top, bottom
      is_rhythm = number >= num_grid_rows
      strips.append(_strip(of, lead, begin, end, place, zero, is_rhythm))
    x, y = _PULSE
    pulses.append(Line(x, zero - y * MM_PER_MV))
    top = bottom
  height = float(np.ceil((top + _EDGE_MM) / 5) * 5)
  start = rows[0][0][1] / of.rate
  return Sheet(width, height, tuple(strips), tuple(pulses), start)


def _extent(
  of: _Recording, row: Sequence[tuple[int, int, int]]
) -> tuple[float, float]:
  """Room that a row needs above and below its zero line, in mm."""
  above, below = _ABOVE_MM, _BELOW_MM
  for lead, begin, end in row:
    values = of.ecg[lead, begin:end]
    values = values[np.isfinite(values)]
    if LEADS[lead] in of.missing or not values.size:
      continue
    # A single spike must not make a row tall.
    low, high = np.quantile(values, [0.002, 0.998]) * MM_PER_MV
    above, below = max(above, high), max(below, -low)
  return min(above, _MOST_MM) + 2.5, min(below, _MOST_MM) + 1.5


def _strip(
  of: _Recording,
  lead: int,
  begin: int,
  end: int,
  place: tuple[float, float, float],
  zero: float,
  is_rhythm: bool,
) -> Strip:
  left, top, bottom = place

  def line(signal: np.ndarray, first: int, last: int) -> Line:
    x = left + (np.arange(first, last) - begin) / of.rate * MM_PER_S
    return Line(x, zero - signal[lead, first:last] * MM_PER_MV)

  name = LEADS[lead]
  remark = of.missing.get(name, "")
  if not remark and not np.isfinite(of.ecg[lead, begin:end]).any():
    remark = "no signal"
  if remark:
    where = left, top, bottom, zero, None, (), ()
    return Strip(name, is_rhythm, *where, remark)
  spans = []
  if of.hidden is not None:
    patch = of.ecg.shape[1] // of.hidden.shape[1]
    spans = [
      (max(first * patch, begin), min(last * patch, end))
      for first, last in runs(of.hidden[lead])
      if first * patch < end and last * patch > begin
    ]
  restored = of.restored
  return Strip(
    name,
    is_rhythm,
    *(left, top, bottom, zero),
    line(of.ecg, begin, end),
    () if restored is None else tuple(line(restored, *x) for x in spans),
    tuple(
      tuple(left + (edge - begin) / of.rate * MM_PER_S for edge in span)
      for span in spans
    ),
    "computed" if name in of.derived else "",
  )


def runs(hidden: np.ndarray) -> list[tuple[int, int]]:
  """Finds the runs of True in hidden (N,), as (first, one past the last)."""
  edges = np.flatnonzero(np.diff(np.r_[0, np.asarray(hidden, np.int8), 0]))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
