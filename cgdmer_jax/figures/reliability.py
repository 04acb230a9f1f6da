"""Reliability diagram: probabilities beside the frequencies that they meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cgdmer_jax.figures import style


@runtime_checkable
class Curve(Protocol):
  """See `scores/reliability.py`."""

  predicted: np.ndarray
  observed: np.ndarray
  low: np.ndarray
  high: np.ndarray
  counts: np.ndarray


def reliability(curves: Mapping[str, Curve], title: str = "") -> Figure:
  """Draws the share of positives over the probability, and how many there are.

  Args:
    curves: name -> what is drawn; bins of equal width.
    title: above the figure.
  """
  figure = style.blank(5.4, 6.4)
  figure.set_layout_engine("constrained")
  upper, lower = figure.subplots(
    2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]}
  )
  upper.plot([0, 1], [0, 1], color=style.MUTED, linewidth=0.8, linestyle="--")
  handles = []
  for k, (name, curve) in enumerate(curves.items()):
    colour, marker = style.COLOURS[k], style.MARKERS[k]
    filled = curve.counts > 0
    x, y = curve.predicted[filled], curve.observed[filled]
    line = {"color": colour, "linewidth": 1.3}
    upper.vlines(x, curve.low[filled], curve.high[filled], alpha=0.6, **line)
    upper.plot(x, y, marker=marker, markersize=5, **line)
    edges = np.linspace(0, 1, len(curve.counts) + 1)
    lower.stairs(curve.counts, edges, baseline=None, **line)
    handles.append(
      Line2D([], [], marker=marker, markersize=5, label=name, **line)
    )
  upper.set(xlim=(0, 1), ylim=(0, 1))
  upper.set_ylabel("share of positives", fontsize=9)
  lower.set_yscale("symlog", linthresh=1)
  lower.set_ylim(bottom=0)
  lower.yaxis.set_major_formatter("{x:,.0f}")
  lower.set_ylabel("records x labels", fontsize=9)
  lower.set_xlabel("probability", fontsize=9)
  for axes in (upper, lower):
    style.plain(axes)
    axes.grid(color="#e6e6e6", linewidth=0.6)
  upper.set_title(title, fontsize=10, loc="left", color=style.INK)
  style.add_legend(figure, handles, "outside upper left", 1)
  return figure
