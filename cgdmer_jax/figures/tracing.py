"""A 12-lead tracing on millimetre paper, with what a model restored."""

from __future__ import annotations

import dataclasses
import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.figures.style import INK, MUTED, VERMILION, blank

_FINE, _BOLD, _SHADE = "#f9e3e3", "#efbcbc", "#7f93a8"
_MM_PER_S, _MM_PER_MV, _MM_PER_INCH = 25.0, 10.0, 25.4
_MARGIN_MM = 13.0  # left of each lead: calibration pulse and name
_SIDE_MM = 4.0


@dataclasses.dataclass(frozen=True)
class _Strip:
  """Where a lead is drawn, in mm: its time 0, zero line, bottom and top."""

  left: float
  zero: float
  bottom: float
  top: float


def tracing(
  ecg: np.ndarray,
  rate: float,
  *,
  mask: np.ndarray | None = None,
  reconstruction: np.ndarray | None = None,
  lead_valid: np.ndarray | None = None,
  report: str = "",
  columns: int = 2,
) -> Figure:
  """Draws a recording at 25 mm/s and 10 mm/mV; save it with `figures.save`.

  Printed at full size, a millimetre of the grid is a millimetre. Leads get the
  height that their deflections need, up to 3 mV each way; larger deflections
  overlap the next lead, as they do on paper.

  Args:
    ecg: (12, T) mV, leads in the order of `LEADS`.
    rate: samples per second.
    mask: (12, N) bool, patches hidden from the model; N divides T. Shaded.
    reconstruction: (12, T) mV, drawn over the hidden patches only.
    lead_valid: (12,) bool; an invalid lead is a dashed line.
    report: text above the tracing.
    columns: 1 (12 rows) or 2 (6 rows, limb leads on the left).

  Returns:
    The figure.

  Raises:
    ValueError: the shapes do not fit together.
  """
  ecg = np.asarray(ecg, np.float64)
  valid = (
    np.ones(NUM_LEADS, bool) if lead_valid is None else np.asarray(lead_valid)
  )
  _check(ecg, mask, reconstruction, valid, columns)
  column_mm = _MARGIN_MM + np.ceil(ecg.shape[1] / rate * _MM_PER_S / 5) * 5
  strips, height_mm = _layout(np.where(valid[:, None], ecg, 0.0), columns)
  strips = [
    dataclasses.replace(s, left=s.left * column_mm + _MARGIN_MM) for s in strips
  ]
  page = _Page.around(columns * column_mm, height_mm, report)
  axes = page.figure.add_axes(page.place)
  _draw_paper(axes, columns * column_mm, height_mm)
  for i, name in enumerate(LEADS):
    _draw_pulse(axes, strips[i], name, 10 * min(page.scale, 1.4))
    x = strips[i].left + np.arange(ecg.shape[1]) / rate * _MM_PER_S
    if not valid[i]:
      _draw_missing(axes, strips[i], x, 8 * page.scale)
      continue
    y = _height(strips[i], ecg[i])
    axes.plot(x, y, color=INK, linewidth=0.85 * page.scale)
    if mask is not None:
      restored = None if reconstruction is None else reconstruction[i]
      _draw_hidden(axes, strips[i], x, mask[i], restored, page.scale)
  if mask is not None:
    page.add_legend(_legend(reconstruction is not None))
  return page.figure


@dataclasses.dataclass(frozen=True)
class _Page:
  """A figure with its texts, and room for the tracing.

  Attributes:
    figure: with the report above and the scales below.
    place: of the tracing: left, bottom, width and height as shares.
    scale: of letters and lines. A wide figure is shrunk on the page: larger
      letters stay readable.
  """

  figure: Figure
  place: tuple[float, float, float, float]
  scale: float

  @classmethod
  def around(cls, width_mm: float, height_mm: float, report: str) -> _Page:
    """A page for a tracing of this size."""
    scale = min(max(width_mm / 280, 1.0), 1.7)
    lines = textwrap.wrap(report, int(width_mm / (2.2 * scale)))[:4]
    head_mm = 2.0 + scale * (3.0 + 5.5 * len(lines))
    foot_mm = 8.0 * scale
    width, height = width_mm + 2 * _SIDE_MM, height_mm + head_mm + foot_mm
    figure = blank(width / _MM_PER_INCH, height / _MM_PER_INCH)
    left = _SIDE_MM / width
    figure.text(
      left,
      1 - 3.0 / height,
      "\n".join(lines),
      fontsize=11 * scale,
      color=INK,
      va="top",
      linespacing=1.3,
      parse_math=False,  # a report may hold dollar signs
    )
    figure.text(
      left,
      0.35 * foot_mm / height,
      "25 mm/s   10 mm/mV",
      fontsize=9 * scale,
      color=MUTED,
      va="center",
    )
    place = left, foot_mm / height, width_mm / width, height_mm / height
    return cls(figure, place, scale)

  def add_legend(self, handles: list[Line2D | Patch]) -> None:
    """Says what the shades and colours mean."""
    height_mm = self.figure.get_figheight() * _MM_PER_INCH
    self.figure.legend(
      handles=handles,
      loc="lower right",
      bbox_to_anchor=(1 - self.place[0], 0.6 / height_mm),
      ncols=3,
      frameon=False,
      fontsize=9 * self.scale,
      borderaxespad=0,
    )


def _check(ecg, mask, reconstruction, valid, columns) -> None:
  if ecg.ndim != 2 or len(ecg) != NUM_LEADS:
    raise ValueError(f"ecg has shape {ecg.shape}, expected (12, T)")
  if columns not in (1, 2):
    raise ValueError(f"columns must be 1 or 2, got {columns}")
  if valid.shape != (NUM_LEADS,):
    raise ValueError(f"lead_valid has shape {valid.shape}, expected (12,)")
  if mask is not None and (
    len(mask) != NUM_LEADS or ecg.shape[1] % mask.shape[1]
  ):
    raise ValueError(f"mask {mask.shape} does not divide ecg {ecg.shape}")
  if reconstruction is not None and reconstruction.shape != ecg.shape:
    raise ValueError(
      f"reconstruction has shape {reconstruction.shape}, expected {ecg.shape}"
    )


def _layout(ecg: np.ndarray, columns: int) -> tuple[list[_Strip], float]:
  """Returns strips, whose `left` is the column, and the paper's height."""
  rows = NUM_LEADS // columns
  # A single spike must not make a strip tall.
  low, high = np.quantile(ecg, [0.002, 0.998], axis=1) * _MM_PER_MV
  above = np.clip(high, 11, 30).reshape(columns, rows) + 2
  below = np.clip(-low, 7, 30).reshape(columns, rows) + 2
  needed = (above + below).sum(axis=1)
  height = float(np.ceil(needed.max() / 5) * 5)
  below += ((height - needed) / rows)[:, None]
  strips = []
  for column in range(columns):
    top = height
    for up, down in zip(above[column], below[column], strict=True):
      strips.append(_Strip(column, top - up, top - up - down, top))
      top -= up + down
  return strips, height


def _height(strip: _Strip, millivolt: np.ndarray) -> np.ndarray:
  return strip.zero + millivolt * _MM_PER_MV


def _draw_paper(axes: Axes, width_mm: float, height_mm: float) -> None:
  """Draws a grid: fine lines every 1 mm and bold ones every 5 mm."""
  for step, colour, width in ((1, _FINE, 0.35), (5, _BOLD, 0.6)):
    lines = [((v, 0), (v, height_mm)) for v in np.arange(0, width_mm + 1, step)]
    lines += [
      ((0, v), (width_mm, v)) for v in np.arange(0, height_mm + 1, step)
    ]
    axes.add_collection(
      LineCollection(lines, colors=colour, linewidths=width, zorder=0)
    )
  axes.set_xlim(0, width_mm)
  axes.set_ylim(0, height_mm)
  axes.set_axis_off()


def _draw_pulse(axes: Axes, strip: _Strip, name: str, fontsize: float) -> None:
  """Draws a calibration pulse of 1 mV and 0.2 s above the lead's name."""
  start = strip.left - _MARGIN_MM + 1.5
  axes.plot(
    start + np.array([0, 1, 1, 6, 6, 7]),
    _height(strip, np.array([0, 0, 1, 1, 0, 0])),
    color=INK,
    linewidth=0.8,
  )
  axes.text(
    start,
    strip.zero - 1.5,
    name,
    fontsize=fontsize,
    fontweight="bold",
    color=INK,
    va="top",
  )


def _draw_missing(
  axes: Axes, strip: _Strip, x: np.ndarray, fontsize: float
) -> None:
  axes.plot(
    x[[0, -1]], [strip.zero] * 2, linestyle="--", color=MUTED, linewidth=0.8
  )
  axes.text(
    x.mean(),
    strip.zero + 1,
    "lead missing or unusable",
    fontsize=fontsize,
    color=MUTED,
    ha="center",
  )


def _draw_hidden(axes, strip, x, hidden, restored, scale) -> None:
  """Shades the hidden patches of a lead and draws what was restored."""
  patch = len(x) // len(hidden)
  step = x[1] - x[0]
  for first, last in runs(hidden):
    begin, end = first * patch, last * patch
    axes.add_patch(
      Rectangle(
        (x[begin], strip.bottom + 0.7),
        (end - begin) * step,
        strip.top - strip.bottom - 1.4,
        facecolor=_SHADE,
        edgecolor="none",
        alpha=0.2,
        zorder=1,
      )
    )
    if restored is not None:
      axes.plot(
        x[begin:end],
        _height(strip, restored[begin:end]),
        color=VERMILION,
        linewidth=1.05 * scale,
        alpha=0.9,
        zorder=4,
      )


def runs(hidden: np.ndarray) -> list[tuple[int, int]]:
  """Finds the runs of True in hidden (N,), as (first, one past the last)."""
  edges = np.flatnonzero(np.diff(np.r_[0, np.asarray(hidden, np.int8), 0]))
  return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _legend(restored: bool) -> list:
  handles = [
    Line2D([], [], color=INK, linewidth=1.2, label="recorded"),
    Patch(facecolor=_SHADE, alpha=0.3, label="hidden from the model"),
  ]
  if restored:
    handles.append(
      Line2D([], [], color=VERMILION, linewidth=1.8, label="restored")
    )
  return handles
