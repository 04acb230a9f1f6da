"""Figures of runs and results: loss curves, AUROCs, measures by part.

Tracings are in `tracing.py`.

Every function returns a `matplotlib.figure.Figure` made without pyplot, so that
nothing global is touched and no display is needed; `save` writes it. Colours
are from the Okabe-Ito palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import math
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import LogLocator, NullLocator

from cgdmer_jax import files

INK = "#1a1a1a"
MUTED = "#666666"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
_COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_COUNT = {"fontsize": 8, "color": MUTED, "ha": "right", "va": "center"}
_NOISY = 200  # longer curves are drawn light, with their running mean


@runtime_checkable
class Row(Protocol):
  """A number of an encoder with its interval; see `scores/row.py`."""

  encoder: str
  setting: str
  metric: str
  label: str
  value: float | None
  low: float | None
  high: float | None
  num_positive: int | None
  prevalence: float | None


def save(figure: Figure, path: str | os.PathLike, dpi: int = 150) -> None:
  """Writes a figure as PNG, PDF or SVG by the ending of its name.

  Texts are shown as they are: a dollar sign in the name of a run begins no
  formula, and a character that the font lacks is shown as a box.

  Args:
    figure: from one of the functions below.
    path: folders are made.
    dpi: dots per inch of PNG.
  """
  for text in figure.findobj(Text):
    text.set_parse_math(False)
  with files.replacing(path) as temporary, warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Glyph .* missing from font")
    figure.savefig(temporary, dpi=dpi, facecolor="white")


def blank(width: float, height: float) -> Figure:
  """An empty figure of width x height inches that can be drawn anywhere."""
  figure = Figure(figsize=(width, height))
  FigureCanvasAgg(figure)
  return figure


def loss_curves(
  rows: Sequence[Mapping[str, float | None]], step: str = "step"
) -> Figure:
  """Small multiples of every logged term over steps.

  A quantity logged as "train/x" and as "validation/x" (any prefix with a slash)
  shares one panel "x". Long curves are drawn light below their running mean.
  Missing and undefined values are passed over.

  Args:
    rows: one mapping per logged step, as read from `metrics.jsonl`.
    step: key of the step.

  Returns:
    The figure.

  Raises:
    ValueError: no row has a step and a value.
  """
  panels = _panels(rows, step)
  if not panels:
    raise ValueError(f"no row has {step!r} and a value to draw")
  prefixes = list(dict.fromkeys(p for panel in panels.values() for p in panel))
  columns = min(3, len(panels))
  lines = math.ceil(len(panels) / columns)
  figure = blank(3.6 * columns + 0.3, 2.5 * lines + 0.5)
  figure.set_layout_engine("constrained")
  for i, (name, panel) in enumerate(panels.items()):
    axes = figure.add_subplot(lines, columns, i + 1)
    for prefix, (x, y) in panel.items():
      _draw_curve(axes, x, y, prefixes.index(prefix))
    axes.set_title(name, fontsize=10, loc="left", color=INK)
    _plain(axes)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    if i >= len(panels) - columns:
      axes.set_xlabel("step", fontsize=9)
  if prefixes != [""]:
    handles = [
      Line2D([], [], color=_COLOURS[k % len(_COLOURS)], label=p or "run")
      for k, p in enumerate(prefixes)
    ]
    _add_legend(figure, handles, "outside upper left", len(handles))
  return figure


# Steps and values.
_Curve = tuple[list[float], list[float]]


def _panels(
  rows: Sequence[Mapping[str, float | None]], step: str
) -> dict[str, dict[str, _Curve]]:
  """Name of a quantity -> prefix, such as "train" -> its curve."""
  panels: dict[str, dict[str, _Curve]] = {}
  for row in rows:
    for key, value in row.items():
      if key == step or value is None or step not in row:
        continue
      prefix, _, name = key.rpartition("/")
      steps, values = panels.setdefault(name, {}).setdefault(prefix, ([], []))
      steps.append(row[step])
      values.append(value)
  return panels


def _draw_curve(
  axes: Axes, steps: Sequence[float], values: Sequence[float], k: int
) -> None:
  """The k-th curve of a panel; a long one with its running mean."""
  colour = _COLOURS[k % len(_COLOURS)]
  noisy = len(steps) > _NOISY
  axes.plot(
    steps,
    values,
    color=colour,
    linewidth=0.6 if noisy else 1.2,
    alpha=0.3 if noisy else 1.0,
    marker=_MARKERS[k % len(_MARKERS)] if len(steps) <= 30 else None,
    markersize=3.5,
  )
  if noisy:
    mean = running_mean(values, len(values) // 50)
    axes.plot(steps, mean, color=colour, linewidth=1.4)


def running_mean(values: Sequence[float], width: int) -> np.ndarray:
  """Centred mean over 2 * (width // 2) + 1 values, fewer at the ends."""
  half = width // 2
  total = np.cumsum(np.r_[0.0, values])
  i = np.arange(len(values))
  first = np.maximum(i - half, 0)
  last = np.minimum(i + half + 1, len(values))
  return (total[last] - total[first]) / (last - first)


def _plain(axes: Axes) -> None:
  """Takes away what is not needed to read a plot."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(labelsize=8, length=3)
  axes.set_axisbelow(True)


def _style(k: int) -> dict[str, Any]:
  """Colour and marker of the k-th encoder, another for each of 36."""
  colour = _COLOURS[k % len(_COLOURS)]
  return {
    "color": colour,
    "marker": _MARKERS[(k + k // len(_COLOURS)) % len(_MARKERS)],
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
    figure = blank(7.2, 1.5)
    text = "no label has enough positives and negatives in test"
    figure.text(0.5, 0.5, text, ha="center", color=MUTED)
    return figure
  scored.sort(key=lambda r: r.value)
  figure = blank(7.2, 0.24 * (len(scored) + 2) + 1.5)
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
  axes.axhline(len(scored) - 0.2, color=MUTED, linewidth=0.6)
  _finish_scores(
    axes, [*places.values()], [r.label for r in scored] + ["macro average"]
  )
  axes.get_yticklabels()[-1].set_fontweight("bold")
  axes.set_ylim(-0.6, top + 0.7)
  ends = [r.value if r.low is None else r.low for r in shown]
  axes.set_xlim(max(0.0, min(0.5, *ends) - 0.02), 1.005)
  axes.set_xlabel("AUROC with 95 % interval (dotted: chance)", fontsize=9)
  _title(axes, title)
  _legend(figure, names, encoders)
  skipped = [r.label for r in labels if r.value is None]
  if skipped:
    text = "Too few positives or negatives in test: " + ", ".join(skipped)
    figure.supxlabel(
      "\n".join(textwrap.wrap(text, 110)), fontsize=7.5, color=MUTED
    )
  return figure


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
  axes.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
  axes.set_yticks(places, names)
  axes.grid(axis="x", color="#e0e0e0", linewidth=0.6)
  _plain(axes)
  axes.tick_params(axis="y", length=0, labelsize=8.5)


def _title(axes: Axes, title: str) -> None:
  """A title above the plot, if there is one."""
  if title:
    axes.set_title(title, fontsize=11, loc="left", color=INK)


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
  _add_legend(
    figure, handles, "outside upper right", min(len(handles), 4, columns)
  )


def _add_legend(
  figure: Figure, handles: Sequence[Line2D], place: str, columns: int
) -> None:
  """A legend outside the plots, see `Figure.legend` for `place`."""
  figure.legend(
    handles=handles, loc=place, ncols=columns, frameon=False, fontsize=9
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
  figure = blank(7.2, 1.4 + 0.16 * len(settings) * (len(names) + 1.5))
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
  figure = blank(7.2, 2.4 * len(settings) + 0.6)
  figure.set_layout_engine("constrained")
  grid = figure.subplots(len(settings), 1, squeeze=False, sharex=True)[:, 0]
  for axes, setting in zip(grid, settings, strict=True):
    chosen = [row for row in rows if row.setting == setting]
    ticks = list(dict.fromkeys(_part(row) for row in chosen))
    for row in chosen:
      x = ticks.index(_part(row))
      x += 0.6 * ((names.index(row.encoder) + 0.5) / len(names) - 0.5)
      _draw_value(axes, row, x, encoders.index(row.encoder), upright=True)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_yscale("log")  # an untrained decoder may be wrong by any factor
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#e0e0e0", linewidth=0.6)
    _plain(axes)
    axes.set_ylabel(f"{setting.replace('_', ' ')}:\n{quantity}", fontsize=9)
  _title(grid[0], title)
  _legend(figure, names, encoders)
  return figure


def _part(row: Row) -> str:
  """The part in "NAME, PART"."""
  return row.metric.split(", ")[1]
