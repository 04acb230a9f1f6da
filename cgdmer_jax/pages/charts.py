"""Charts as numbers of an SVG: what a template has to draw, and where.

Colours are classes, so that a page has other ones in the dark. Series differ in
their dashes and markers, too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 320, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 36
NUM_COLOURS = 6
MARKS = (
  "m-2.6 0a2.6 2.6 0 1 0 5.2 0a2.6 2.6 0 1 0-5.2 0",
  "m-2.3-2.3h4.6v4.6h-4.6z",
  "m0-3l2.8 5h-5.6z",
  "m0-3.2l3.2 3.2l-3.2 3.2l-3.2-3.2z",
  "m0 3l2.8-5h-5.6z",
  "m-3-1h2v-2h2v2h2v2h-2v2h-2v-2h-2z",
)


@dataclasses.dataclass(frozen=True)
class Series:
  """Numbers that belong together.

  Attributes:
    number: decides colour, dashes and marker.
    x: float (n,).
    y: float (n,).
    is_line: joined; else markers.
    low: ends of intervals of y, (n,); None without.
    high: see `low`.
    is_faint: in the background.
  """

  number: int
  x: np.ndarray
  y: np.ndarray
  is_line: bool = True
  low: np.ndarray | None = None
  high: np.ndarray | None = None
  is_faint: bool = False


@dataclasses.dataclass(frozen=True)
class Tick:
  """A mark of an axis: its place in the SVG, and its text."""

  place: float
  text: str


@dataclasses.dataclass(frozen=True)
class Panel:
  """A chart.

  Attributes:
    title: above it.
    x_label: below it.
    y_label: beside it.
    x_range: ends of the x axis.
    y_range: ends of the y axis.
    series: what is drawn, the last one on top.
    has_diagonal: a dotted line from corner to corner.
    has_numbers: whether axes have ticks.
  """

  title: str
  x_label: str
  y_label: str
  x_range: tuple[float, float]
  y_range: tuple[float, float]
  series: tuple[Series, ...]
  has_diagonal: bool = False
  has_numbers: bool = True

  left, right = _LEFT, WIDTH - _RIGHT
  top, bottom = _TOP, HEIGHT - _BOTTOM

  def _x(self, x: np.ndarray) -> np.ndarray:
    low, high = self.x_range
    return _LEFT + (np.asarray(x, float) - low) / (high - low) * (
      WIDTH - _LEFT - _RIGHT
    )

  def _y(self, y: np.ndarray) -> np.ndarray:
    low, high = self.y_range
    share = (np.asarray(y, float) - low) / (high - low)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

  @property
  def x_ticks(self) -> list[Tick]:
    """Marks of the x axis."""
    return _ticks(self.x_range, self._x) if self.has_numbers else []

  @property
  def y_ticks(self) -> list[Tick]:
    """Marks of the y axis."""
    return _ticks(self.y_range, self._y) if self.has_numbers else []

  def path(self, series: Series) -> str:
    """The `d` of a line, or of all markers."""
    places = zip(self._x(series.x), self._y(series.y), strict=True)
    if not series.is_line:
      mark = MARKS[series.number % len(MARKS)]
      return "".join(f"M{x:.1f} {y:.1f}{mark}" for x, y in places)
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)

  def whiskers(self, series: Series) -> str:
    """The `d` of intervals; empty without."""
    if series.low is None or series.high is None:
      return ""
    places = zip(
      *(self._x(series.x), self._y(series.low), self._y(series.high)),
      strict=True,
    )
    return "".join(f"M{x:.1f} {a:.1f}V{b:.1f}" for x, a, b in places)


def _ticks(ends: tuple[float, float], place) -> list[Tick]:
  low, high = ends
  values = MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
  margin = 1e-9 * (high - low)
  inside = [x for x in values if low - margin <= x <= high + margin]
  places = place(np.array(inside)).round(1).tolist()
  texts = [f"{x:g}" if x else "0" for x in inside]
  return [Tick(*pair) for pair in zip(places, texts, strict=True)]


def reach(values: Sequence[np.ndarray], room: float = 0.05) -> tuple:
  """Ends of an axis that holds all values, with room at both."""
  every = np.concatenate([np.ravel(x) for x in values])
  low, high = float(every.min()), float(every.max())
  gap = (high - low or abs(high) or 1.0) * room
  return low - gap, high + gap
