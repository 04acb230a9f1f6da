"""Losses over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cgdmer_jax.figures import style

# Shares and sizes that are logged, but are no losses.
_NO_LOSSES = ("padding", "false_negatives_avoided", "learning_rate")
_NOISY = 200  # longer curves are drawn light, with their running mean


def loss_curves(
  rows: Sequence[Mapping[str, float | None]], step: str = "step"
) -> Figure:
  """Small multiples of every logged term over steps.

  A quantity logged as "train/x" and as "validation/x" (any prefix with a slash)
  shares one panel "x"; what is no loss is left out. Long curves are drawn light
  below their running mean. Missing and undefined values are passed over.

  Args:
    rows: one mapping per logged step, as read from `metrics.jsonl`.
    step: key of the step.

  Returns:
    The figure.

  Raises:
    ValueError: no row has a step and a value.
  """
  by_name = panels(rows, step)
  if not by_name:
    raise ValueError(f"no row has {step!r} and a value to draw")
  prefixes = list(dict.fromkeys(p for panel in by_name.values() for p in panel))
  columns = min(3, len(by_name))
  lines = math.ceil(len(by_name) / columns)
  figure = style.blank(3.6 * columns + 0.3, 2.5 * lines + 0.5)
  figure.set_layout_engine("constrained")
  for i, (name, panel) in enumerate(by_name.items()):
    axes = figure.add_subplot(lines, columns, i + 1)
    for prefix, (x, y) in panel.items():
      _draw_curve(axes, x, y, prefixes.index(prefix))
    axes.set_title(name, fontsize=10, loc="left", color=style.INK)
    style.plain(axes)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    if i >= len(by_name) - columns:
      axes.set_xlabel("step", fontsize=9)
  if prefixes != [""]:
    handles = [
      Line2D(
        [], [], color=style.COLOURS[k % len(style.COLOURS)], label=p or "run"
      )
      for k, p in enumerate(prefixes)
    ]
    style.add_legend(figure, handles, "outside upper left", len(handles))
  return figure


# Steps and values.
_Curve = tuple[list[float], list[float]]


def panels(
  rows: Sequence[Mapping[str, float | None]], step: str
) -> dict[str, dict[str, _Curve]]:
  """Name of a quantity -> prefix, such as "train" -> its steps and values."""
  by_name: dict[str, dict[str, _Curve]] = {}
  for row in rows:
    for key, value in row.items():
      if key == step or value is None or step not in row:
        continue
      prefix, _, name = key.rpartition("/")
      if name in _NO_LOSSES:
        continue
      steps, values = by_name.setdefault(name, {}).setdefault(prefix, ([], []))
      steps.append(row[step])
      values.append(value)
  return by_name


def _draw_curve(
  axes: Axes, steps: Sequence[float], values: Sequence[float], k: int
) -> None:
  """The k-th curve of a panel; a long one with its running mean."""
  colour = style.COLOURS[k % len(style.COLOURS)]
  noisy = len(steps) > _NOISY
  axes.plot(
    steps,
    values,
    color=colour,
    linewidth=0.6 if noisy else 1.2,
    alpha=0.3 if noisy else 1.0,
    marker=style.MARKERS[k % len(style.MARKERS)] if len(steps) <= 30 else None,
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
