"""Figures of results: AUROC per label, macro AUROC, parts of a measure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from cgdmer_jax.figures import style

_COUNT = {"fontsize": 8, "color": style.MUTED, "ha": "right", "va": "center"}


@runtime_checkable
class Row(Protocol):
  """A number of an encoder with its interval; see `scores/row.py`."""

  encoder: str
  setting: str
  metric: str
  label: str
  label_in_words: str
  value: float | None
  low: float | None
  high: float | None
  num_positive: int | None
  prevalence: float | None


def _style(k: int) -> dict[str, Any]:
  """Colour and marker of the k-th encoder, another for each of 36."""
  colour = style.COLOURS[k % len(style.COLOURS)]
  return {
    "color": colour,
    "marker": style.MARKERS[(k + k // len(style.COLOURS)) % len(style.MARKERS)],
    "markerfacecolor": colour if k == 0 else "white",
  }


def _draw_value(
  axes: Axes,
  row: Row,
  at: float,
  k: int,
  upright: bool = False,
  size: float = 5,
) -> None:
  """The value of the k-th encoder and its interval, at a place on the axis."""

  def draw(values: Sequence[float], **style: Any) -> None:
    places = [at] * len(values)
    xy = (places, values) if upright else (values, places)
    axes.plot(*xy, zorder=3 + (k == 0), **style)

  style = _style(k)
  if row.low is not None:
    draw([row.low, row.high], color=style["color"], linewidth=1.3, alpha=0.75)
  draw([row.value], markersize=size, **style)


def _shown(encoders: Sequence[str], rows: Sequence[Row]) -> list[str]:
  """Those of the encoders that the rows are about, in their order."""
  present = {r.encoder for r in rows}
  return [name for name in encoders if name in present]


def auroc_per_label(
  rows: Sequence[Row], encoders: Sequence[str], title: str = ""
) -> Figure:
  """Dot plot of the AUROC of every label with its 95 % interval.

  Labels are sorted by the first series; labels that were skipped are named
  below. The counts on the right are the positives in test and their share.

  Args:
    rows: AUROCs of one setting, of every label and of their macro average.
    encoders: all that are compared; their order decides colours and legend.
    title: above the plot.

  Returns:
    The figure.
  """
  names = _shown(encoders, rows)
  series: dict[str, dict[str, Row]] = {name: {} for name in names}
  for row in rows:
    series[row.encoder][row.label] = row
  labels = [r for r in series[names[0]].values() if r.label != "macro"]
  scored = [r for r in labels if r.value is not None]
  if not scored:
    figure = style.blank(7.2, 1.5)
    text = "no label has enough positives and negatives in test"
    figure.text(0.5, 0.5, text, ha="center", color=style.MUTED)
    return figure
  scored.sort(key=lambda r: r.value)
  figure = style.blank(7.2, 0.24 * (len(scored) + 2) + 1.5)
  figure.set_layout_engine("constrained")
  axes = figure.add_subplot()
  top = len(scored) + 0.6
  places = {r.label: i for i, r in enumerate(scored)} | {"macro": top}
  offsets = 0.56 * (0.5 - (np.arange(len(names)) + 0.5) / len(names))
  shown = [r for r in rows if r.value is not None and r.label in places]
  for row in shown:
    size = 6 if row.label == "macro" else 4.5
    y = places[row.label] + offsets[names.index(row.encoder)]
    _draw_value(axes, row, y, encoders.index(row.encoder), size=size)
  _draw_counts(axes, scored, top)
  axes.axhline(len(scored) - 0.2, color=style.MUTED, linewidth=0.6)
  names_in_words = [_in_words(r) for r in scored]
  _finish_scores(axes, [*places.values()], [*names_in_words, "macro average"])
  axes.get_yticklabels()[-1].set_fontweight("bold")
  axes.set_ylim(-0.6, top + 0.7)
  ends = [r.value if r.low is None else r.low for r in shown]
  axes.set_xlim(max(0.0, min(0.5, *ends) - 0.02), 1.005)
  axes.set_xlabel("AUROC with 95 % interval (dotted: chance)", fontsize=9)
  _title(axes, title)
  _legend(figure, names, encoders)
  skipped = [_in_words(r) for r in labels if r.value is None]
  if skipped:
    text = "Too few positives or negatives in test: " + "; ".join(skipped)
    figure.supxlabel(
      "\n".join(textwrap.wrap(text, 110)), fontsize=7.5, color=style.MUTED
    )
  return figure


def _in_words(row: Row) -> str:
  """The label with what it means, shortened where that is long."""
  if not row.label_in_words:
    return row.label
  return f"{textwrap.shorten(row.label_in_words, 44)} ({row.label})"


def _draw_counts(axes: Axes, scored: Sequence[Row], top: float) -> None:
  """Positives in test and their share, right of the plot; shades rows."""
  right = axes.get_yaxis_transform()
  for i, r in enumerate(scored):
    if i % 2:
      axes.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
    axes.text(1.12, i, f"{r.num_positive:,}", transform=right, **_COUNT)
    axes.text(1.24, i, f"{100 * r.prevalence:.1f} %", transform=right, **_COUNT)
  axes.text(1.12, top, "positives", transform=right, **_COUNT)
  axes.text(1.24, top, "share", transform=right, **_COUNT)


def _finish_scores(
  axes: Axes, places: Sequence[float], names: Sequence[str]
) -> None:
  """Chance, grid and names of a plot with AUROCs along x."""
  axes.axvline(0.5, color=style.MUTED, linewidth=0.8, linestyle=":", zorder=1)
  axes.set_yticks(places, names)
  axes.grid(axis="x", color="#e0e0e0", linewidth=0.6)
  style.plain(axes)
  axes.tick_params(axis="y", length=0, labelsize=8.5)


def _title(axes: Axes, title: str) -> None:
  """A title above the plot, if there is one."""
  if title:
    axes.set_title(title, fontsize=11, loc="left", color=style.INK)


def _legend(
  figure: Figure, names: Sequence[str], encoders: Sequence[str]
) -> None:
  """The encoders that are shown, by their colours and markers."""
  handles = [
    # Matplotlib leaves out labels that begin with an underscore.
    Line2D(
      *([], []),
      label=f" {name}" if name.startswith("_") else name,
      **_style(encoders.index(name)),
    )
    for name in names
  ]
  width = 0.6 + 0.075 * max(map(len, names))  # of an entry, in inches
  columns = max(1, int(figure.get_figwidth() / width))
  style.add_legend(
    figure, handles, "outside upper right", min(len(handles), 4, columns)
  )


def macro_scores(
  rows: Sequence[Row],
  headings: Sequence[str],
  encoders: Sequence[str],
  title: str = "",
) -> Figure:
  """Macro AUROC of every encoder in every setting, with 95 % intervals.

  Args:
    rows: macro AUROCs.
    headings: the setting of each row, in words.
    encoders: as for `auroc_per_label`.
    title: above the plot.
  """
  settings = list(dict.fromkeys(headings))
  names = _shown(encoders, rows)
  figure = style.blank(7.2, 1.4 + 0.16 * len(settings) * (len(names) + 1.5))
  figure.set_layout_engine("constrained")
  axes = figure.add_subplot()
  offsets = 0.8 * (0.5 - (np.arange(len(names)) + 0.5) / len(names))
  for row, heading in zip(rows, headings, strict=True):
    if row.value is None:
      continue
    y = len(settings) - 1 - settings.index(heading)
    y += offsets[names.index(row.encoder)]
    _draw_value(axes, row, y, encoders.index(row.encoder))
  _finish_scores(axes, range(len(settings)), settings[::-1])
  axes.set_ylim(-0.6, len(settings) - 0.4)
  axes.set_xlabel("macro AUROC with 95 % interval (dotted: chance)", fontsize=9)
  _title(axes, title)
  _legend(figure, names, encoders)
  return figure


def parts(
  rows: Sequence[Row],
  encoders: Sequence[str],
  title: str = "",
  quantity: str = "",
) -> Figure:
  """A measure of several parts, for instance of leads, in each setting.

  The axis is logarithmic; the dotted line is at 1.

  Args:
    rows: measures named "NAME, PART".
    encoders: as for `auroc_per_label`.
    title: above the plot.
    quantity: what is measured, for the axis.
  """
  settings = list(dict.fromkeys(r.setting for r in rows))
  names = _shown(encoders, rows)
  figure = style.blank(7.2, 2.4 * len(settings) + 0.6)
  figure.set_layout_engine("constrained")
  grid = figure.subplots(len(settings), 1, squeeze=False, sharex=True)[:, 0]
  for axes, setting in zip(grid, settings, strict=True):
    chosen = [row for row in rows if row.setting == setting]
    ticks = list(dict.fromkeys(_part(row) for row in chosen))
    for row in chosen:
      x = ticks.index(_part(row))
      x += 0.6 * ((names.index(row.encoder) + 0.5) / len(names) - 0.5)
      _draw_value(axes, row, x, encoders.index(row.encoder), upright=True)
    axes.axhline(1, color=style.MUTED, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_yscale("log")  # an untrained decoder may be wrong by any factor
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#e0e0e0", linewidth=0.6)
    style.plain(axes)
    axes.set_ylabel(f"{setting.replace('_', ' ')}:\n{quantity}", fontsize=9)
  _title(grid[0], title)
  _legend(figure, names, encoders)
  return figure


def _part(row: Row) -> str:
  """The part in "NAME, PART"."""
  return row.metric.split(", ")[1]
