"""Figures of runs and results: loss curves and AUROC per label.

Tracings are in `ecg_figure`.

Every function returns a `matplotlib.figure.Figure` made without pyplot, so that
nothing global is touched and no display is needed; `save` writes it. Colours
are from the Okabe-Ito palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

import math
import os
import pathlib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

INK = "#1a1a1a"
MUTED = "#666666"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
_COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_NOISY = 200  # longer curves are drawn light, with their running mean


@runtime_checkable
class Row(Protocol):
  """A number of an encoder with its interval, see `comparison.Row`."""

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

  Args:
    figure: from one of the functions below.
    path: folders are made.
    dpi: of PNG.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.savefig(path, dpi=dpi, facecolor="white")


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
  panels: dict[str, dict[str, tuple[list, list]]] = {}
  for row in rows:
    for key, value in row.items():
      if key == step or value is None or step not in row:
        continue
      prefix, _, name = key.rpartition("/")
      series = panels.setdefault(name, {}).setdefault(prefix, ([], []))
      series[0].append(row[step])
      series[1].append(value)
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
      k = prefixes.index(prefix)
      sparse = len(x) <= 30
      colour = _COLOURS[k % len(_COLOURS)]
      noisy = len(x) > _NOISY
      axes.plot(
        x,
        y,
        color=colour,
        linewidth=0.6 if noisy else 1.2,
        alpha=0.3 if noisy else 1.0,
        marker=_MARKERS[k % len(_MARKERS)] if sparse else None,
        markersize=3.5,
      )
      if noisy:
        axes.plot(x, running_mean(y, len(y) // 50), color=colour, linewidth=1.4)
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
    figure.legend(
      handles=handles,
      loc="outside upper left",
      ncols=len(handles),
      frameon=False,
      fontsize=9,
    )
  return figure


def running_mean(values: Sequence[float], width: int) -> np.ndarray:
  """Centred mean over 2 * (width // 2) + 1 values, fewer at the ends."""
  half = width // 2
  total = np.cumsum(np.r_[0.0, values])
  i = np.arange(len(values))
  first = np.maximum(i - half, 0)
  last = np.minimum(i + half + 1, len(values))
  return (total[last] - total[first]) / (last - first)


def _plain(axes: Axes) -> None:
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(labelsize=8, length=3)
  axes.set_axisbelow(True)


def _style(k: int) -> dict:
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

  def draw(values: Sequence[float], **style) -> None:
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
  first = series[names[0]]
  labels = [r for name, r in first.items() if name != "macro"]
  scored = [r for r in labels if r.value is not None]
  if not scored:
    figure = blank(7.2, 1.5)
    text = "no label has enough positives and negatives in test"
    figure.text(0.5, 0.5, text, ha="center", color=MUTED)
    return figure
  scored.sort(key=lambda r: r.value)
  height = 0.24 * (len(scored) + 2) + 1.5
  figure = blank(7.2, height)
  figure.set_layout_engine("constrained")
  axes = figure.add_subplot()
  top = len(scored) + 0.6
  offsets = 0.28 * (0.5 - (np.arange(len(series)) + 0.5) / len(series))
  lowest = 0.5
  for name, of_label in series.items():
    k = encoders.index(name)
    points = [(i, of_label.get(r.label)) for i, r in enumerate(scored)]
    points.append((top, of_label["macro"]))
    for y, e in points:
      if e is None or e.value is None:
        continue
      lowest = min(lowest, e.value if e.low is None else e.low)
      y = y + 2 * offsets[names.index(name)] if len(series) > 1 else y
      _draw_value(axes, e, y, k, size=6 if y > top - 0.5 else 4.5)
  right = axes.get_yaxis_transform()
  for i, r in enumerate(scored):
    if i % 2:
      axes.axhspan(i - 0.5, i + 0.5, color="#f4f4f4", zorder=0, linewidth=0)
    axes.text(1.12, i, f"{r.num_positive:,}", transform=right, **_COUNT)
    axes.text(1.24, i, f"{100 * r.prevalence:.1f} %", transform=right, **_COUNT)
  axes.text(1.12, top, "positives", transform=right, **_COUNT)
  axes.text(1.24, top, "share", transform=right, **_COUNT)
  axes.axhline(len(scored) - 0.2, color=MUTED, linewidth=0.6)
  axes.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
  axes.set_yticks(
    [*range(len(scored)), top], [r.label for r in scored] + ["macro average"]
  )
  axes.get_yticklabels()[-1].set_fontweight("bold")
  axes.set_ylim(-0.6, top + 0.7)
  axes.set_xlim(max(0.0, lowest - 0.02), 1.005)
  axes.grid(axis="x", color="#e0e0e0", linewidth=0.6)
  _plain(axes)
  axes.tick_params(axis="y", length=0, labelsize=8.5)
  axes.set_xlabel("AUROC with 95 % interval (dotted: chance)", fontsize=9)
  if title:
    axes.set_title(title, fontsize=11, loc="left", color=INK)
  _legend(figure, names, encoders)
  skipped = [r.label for r in labels if r.value is None]
  if skipped:
    text = "Too few positives or negatives in test: " + ", ".join(skipped)
    figure.supxlabel(
      "\n".join(textwrap.wrap(text, 110)), fontsize=7.5, color=MUTED
    )
  return figure


_COUNT = {"fontsize": 8, "color": MUTED, "ha": "right", "va": "center"}


def _legend(
  figure: Figure, names: Sequence[str], encoders: Sequence[str]
) -> None:
  """The encoders that are shown, by their colours and markers."""
  handles = [
    Line2D([], [], label=name, **_style(encoders.index(name))) for name in names
  ]
  width = 0.6 + 0.075 * max(map(len, names))  # of an entry, in inches
  columns = int(figure.get_figwidth() / width)
  figure.legend(
    handles=handles,
    loc="outside upper right",
    ncols=min(len(handles), 4, max(1, columns)),
    frameon=False,
    fontsize=9,
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
  axes.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=":", zorder=1)
  axes.set_yticks(range(len(settings)), settings[::-1])
  axes.set_ylim(-0.6, len(settings) - 0.4)
  axes.grid(axis="x", color="#e0e0e0", linewidth=0.6)
  _plain(axes)
  axes.tick_params(axis="y", length=0, labelsize=8.5)
  axes.set_xlabel("macro AUROC with 95 % interval (dotted: chance)", fontsize=9)
  if title:
    axes.set_title(title, fontsize=11, loc="left", color=INK)
  _legend(figure, names, encoders)
  return figure


def unexplained(
  rows: Sequence[Row], encoders: Sequence[str], title: str = ""
) -> Figure:
  """Error of the reconstruction by lead and by region of the beat.

  Args:
    rows: measures "unexplained variance, PART" in settings "hidden_leads" and
      "hidden_times".
    encoders: as for `auroc_per_label`.
    title: above the plot.
  """
  settings = list(dict.fromkeys(r.setting for r in rows))
  names = _shown(encoders, rows)
  figure = blank(7.2, 2.4 * len(settings) + 0.6)
  figure.set_layout_engine("constrained")
  grid = figure.subplots(len(settings), 1, squeeze=False, sharex=True)[:, 0]
  for axes, setting in zip(grid, settings, strict=True):
    these = [r for r in rows if r.setting == setting]
    parts = list(dict.fromkeys(r.metric.split(", ")[1] for r in these))
    for row in these:
      x = parts.index(row.metric.split(", ")[1])
      x += 0.6 * ((names.index(row.encoder) + 0.5) / len(names) - 0.5)
      _draw_value(axes, row, x, encoders.index(row.encoder), upright=True)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_xticks(range(len(parts)), parts)
    axes.set_yscale("log")  # an untrained decoder may be wrong by any factor
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(axis="y", color="#e0e0e0", linewidth=0.6)
    _plain(axes)
    axes.set_ylabel(f"{setting.replace('_', ' ')}:\nunexplained", fontsize=9)
  if title:
    grid[0].set_title(title, fontsize=11, loc="left", color=INK)
  _legend(figure, names, encoders)
  return figure
