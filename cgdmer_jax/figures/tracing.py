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

from cgdmer_jax.figures.paper import Line, Sheet, Strip
from cgdmer_jax.figures.style import BLUE, INK, MUTED, blank

_FINE, _BOLD, _SHADE = "#f9e3e3", "#efbcbc", "#7f93a8"
_MM_PER_INCH = 25.4
_SIDE_MM = 4.0
_LETTERS = 1.3  # readable when the figure is shrunk to half its size


def tracing(sheet: Sheet, *, report: str = "", note: str = "") -> Figure:
  """Draws a sheet of paper; save it with `style.save`.

  Printed at full size, a millimetre of the grid is a millimetre.

  Args:
    sheet: from `paper.arrange`.
    report: text above the tracing.
    note: text below it.
  """
  page = _Page.around(sheet, report, note)
  axes = page.figure.add_axes(page.place)
  _draw_paper(axes, sheet.width, sheet.height)
  for pulse in sheet.pulses:
    _draw(axes, pulse, INK, 0.9)
  for strip in sheet.strips:
    _draw_strip(axes, strip)
  if any(strip.hidden for strip in sheet.strips):
    restored = any(strip.restored for strip in sheet.strips)
    page.add_legend(_legend(restored))
  return page.figure


@dataclasses.dataclass(frozen=True)
class _Page:
  """A figure with its texts, and room for the tracing.

  Attributes:
    figure: with the report above and the scales below.
    place: of the tracing: left, bottom, width and height as shares.
  """

  figure: Figure
  place: tuple[float, float, float, float]

  @classmethod
  def around(cls, sheet: Sheet, report: str, note: str) -> _Page:
    """A page for a sheet."""
    size = int(sheet.width / (2.0 * _LETTERS))
    head = textwrap.wrap(report, size)[:4]
    foot = textwrap.wrap(note, int(size * 1.15))[:4]
    head_mm = 2.0 + _LETTERS * (3.0 + 5.0 * len(head))
    foot_mm = _LETTERS * (7.0 + 4.4 * len(foot))
    width = sheet.width + 2 * _SIDE_MM
    height = sheet.height + head_mm + foot_mm
    figure = blank(width / _MM_PER_INCH, height / _MM_PER_INCH)
    left = _SIDE_MM / width
    below = (foot_mm - 2.0) / height
    scales = "25 mm/s   10 mm/mV"
    texts = (
      (1 - 3.0 / height, "\n".join(head), 11, INK),
      (below, scales, 9, MUTED),
      (below - 5.0 * _LETTERS / height, "\n".join(foot), 9, MUTED),
    )
    for y, text, letters, colour in texts:
      figure.text(
        *(left, y, text),
        fontsize=letters * _LETTERS,
        color=colour,
        va="top",
        linespacing=1.3,
        parse_math=False,  # a report may hold dollar signs
      )
    place = left, foot_mm / height, sheet.width / width, sheet.height / height
    return cls(figure, place)

  def add_legend(self, handles: list[Line2D | Patch]) -> None:
    """Says what the shades and colours mean."""
    height_mm = self.figure.get_figheight() * _MM_PER_INCH
    top = self.place[1] - 1.2 / height_mm
    self.figure.legend(
      handles=handles,
      loc="upper right",
      bbox_to_anchor=(1 - self.place[0], top),
      ncols=3,
      frameon=False,
      fontsize=9 * _LETTERS,
      borderaxespad=0,
    )


def _draw(axes: Axes, line: Line, colour: str, width: float) -> None:
  axes.plot(line.x, line.y, color=colour, linewidth=width, zorder=3)


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
  axes.set_ylim(height_mm, 0)
  axes.set_axis_off()


def _draw_strip(axes: Axes, strip: Strip) -> None:
  """Draws a lead with its name, what is hidden of it and what was restored."""
  if strip.is_second_lead_in_row:
    x, zero = strip.left, strip.zero
    axes.plot([x, x], [zero - 4, zero + 4], color=MUTED, linewidth=0.8)
  name = f"{strip.lead} ({strip.remark})" if strip.remark else strip.lead
  axes.text(
    *(strip.left + 1.2, strip.top + 1.0, name),
    fontsize=9.5 * _LETTERS,
    fontweight="bold",
    color=INK if strip.recorded else MUTED,
    va="top",
    zorder=5,
  )
  if strip.recorded:
    _draw(axes, strip.recorded, INK, 1.0)
  for begin, end in strip.hidden:
    axes.add_patch(
      Rectangle(
        (begin, strip.top + 0.3),
        *(end - begin, strip.bottom - strip.top - 0.6),
        facecolor=_SHADE,
        edgecolor="none",
        alpha=0.25,
        zorder=1,
      )
    )
  for line in strip.restored:
    axes.plot(line.x, line.y, color=BLUE, linewidth=1.7, alpha=0.9, zorder=4)


def _legend(restored: bool) -> list:
  handles = [
    Line2D([], [], color=INK, linewidth=1.2, label="recorded"),
    Patch(facecolor=_SHADE, alpha=0.35, label="hidden from the model"),
  ]
  if restored:
    handles.append(Line2D([], [], color=BLUE, linewidth=2.4, label="restored"))
  return handles
