"""Colours, texts and files that all figures have in common.

Figures are made without pyplot, so that nothing global is touched and no
display is needed. Colours are from the Okabe-Ito palette, which colour-blind
readers can tell apart.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from cgdmer_jax import files

INK = "#1a1a1a"
MUTED = "#666666"
BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
COLOURS = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")


def save(figure: Figure, path: str | os.PathLike, dpi: int = 150) -> None:
  """Writes a figure as PNG, PDF or SVG by the ending of its name.

  Texts are shown as they are: a dollar sign in the name of a run begins no
  formula, and a character that the font lacks is shown as a box.

  Args:
    figure: made by `blank`.
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


def plain(axes: Axes) -> None:
  """Takes away what is not needed to read a plot."""
  axes.spines[["top", "right"]].set_visible(False)
  axes.tick_params(labelsize=8, length=3)
  axes.set_axisbelow(True)


def add_legend(
  figure: Figure, handles: Sequence[Line2D], place: str, columns: int
) -> None:
  """A legend outside the plots, see `Figure.legend` for `place`."""
  figure.legend(
    handles=handles, loc=place, ncols=columns, frameon=False, fontsize=9
  )
