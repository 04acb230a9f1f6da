"""Figures show what they are given; nothing global is touched."""

import dataclasses

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from cgdmer_jax.evaluators.scores.row import Row
from cgdmer_jax.figures import curves, style
from cgdmer_jax.figures import results as figures
from cgdmer_jax.figures import tracing as ecg_figure


def _ecg(samples=1000):
  t = np.arange(samples) / 100
  return np.stack([np.sin(2 * np.pi * (1 + 0.1 * k) * t) for k in range(12)])


def _curves(axes, colour):
  return [line for line in axes.lines if line.get_color() == colour]


def test_restored_parts_are_drawn_over_hidden_patches_only():
  ecg = _ecg()
  mask = np.zeros((12, 40), bool)
  mask[2, 3:5], mask[2, 39], mask[7] = True, True, True
  figure = ecg_figure.tracing(ecg, 100, mask=mask, reconstruction=ecg + 0.2)
  (axes,) = figure.axes
  restored = _curves(axes, style.VERMILION)
  assert [len(line.get_xdata()) for line in restored] == [50, 25, 1000]
  shades = [p for p in axes.patches if isinstance(p, Rectangle)]
  # 25 samples at 100 per second are 0.25 s, 6.25 mm of paper.
  assert [p.get_width() for p in shades] == pytest.approx([12.5, 6.25, 250])
  original = [c for c in _curves(axes, style.INK) if len(c.get_xdata()) == 1000]
  assert len(original) == 12
  # 0.2 mV above the recording are 2 mm.
  gap = restored[2].get_ydata() - original[7].get_ydata()
  np.testing.assert_allclose(gap, 2.0)


def test_paper_is_to_scale():
  figure = ecg_figure.tracing(_ecg(), 100, columns=1)
  (axes,) = figure.axes
  width_mm = axes.get_window_extent().width / figure.dpi * 25.4
  low, high = axes.get_xlim()
  assert width_mm == pytest.approx(high - low)
  height_mm = axes.get_window_extent().height / figure.dpi * 25.4
  assert height_mm == pytest.approx(axes.get_ylim()[1])


def test_missing_lead_is_named_and_not_drawn(tmp_path):
  valid = np.ones(12, bool)
  valid[4] = False
  figure = ecg_figure.tracing(
    _ecg(), 100, lead_valid=valid, report="$5 or $\\no"
  )
  (axes,) = figure.axes
  long = [c for c in _curves(axes, style.INK) if len(c.get_xdata()) == 1000]
  assert len(long) == 11
  texts = [t.get_text() for t in axes.texts]
  assert texts.count("lead missing or unusable") == 1
  assert set(ecg_figure.LEADS) <= set(texts)
  style.save(figure, tmp_path / "a.png", dpi=30)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"ecg": np.zeros((11, 100))}, "expected"),
    ({"mask": np.zeros((12, 7), bool)}, "does not divide"),
    ({"reconstruction": np.zeros((12, 9))}, "reconstruction has shape"),
    ({"lead_valid": np.ones(3, bool)}, "lead_valid has shape"),
    ({"columns": 5}, "columns must be 1 or 2"),
  ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
  arguments = {"ecg": np.zeros((12, 100))} | change
  with pytest.raises(ValueError, match=message):
    ecg_figure.tracing(rate=100, **arguments)


def test_runs():
  mask = np.array([1, 1, 0, 1, 0, 0, 1], bool)
  assert ecg_figure.runs(mask) == [(0, 2), (3, 4), (6, 7)]
  assert ecg_figure.runs(np.zeros(4, bool)) == []


def test_train_and_validation_share_a_panel():
  rows = [{"step": i, "train/loss": 1 / (i + 1)} for i in range(300)]
  rows += [{"step": 299, "validation/loss": 0.5, "lr": 1e-3, "x": None}]
  figure = curves.loss_curves(rows)
  assert [a.get_title(loc="left") for a in figure.axes] == ["loss", "lr"]
  lengths = [len(line.get_xdata()) for line in figure.axes[0].lines]
  assert lengths == [300, 300, 1]  # raw, running mean, validation
  with pytest.raises(ValueError, match="no row has 'step'"):
    curves.loss_curves([{"loss": 1.0}])


def test_running_mean():
  values = [1.0, 2.0, 6.0, 3.0]
  np.testing.assert_allclose(
    curves.running_mean(values, 3), [1.5, 3, 11 / 3, 4.5]
  )
  np.testing.assert_allclose(curves.running_mean(values, 1), values)


def _rows(encoder, values):
  def row(label, value):
    low, high = (None, None) if value is None else (value - 0.1, value + 0.1)
    return Row(
      *("d", "linear_probe", "form", "probe_100", "AUROC", label, encoder),
      *(value, low, high, 1, None),
      num_positive=20,
      prevalence=0.1,
    )

  scored = [v for v in values if v]
  mean = float(np.mean(scored)) if scored else None
  return [row("macro", mean), *(row(f"L{j}", v) for j, v in enumerate(values))]


def test_labels_are_sorted_and_the_skipped_named(tmp_path):
  figure = figures.auroc_per_label(
    _rows("a", [0.7, None, 0.9]) + _rows("b", [0.6, None, 0.5]), ["a", "b"]
  )
  names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
  assert names == ["L0", "L2", "macro average"]
  assert "L1" in figure.get_supxlabel()
  backend = matplotlib.get_backend()
  style.save(figure, tmp_path / "new" / "a.png", dpi=50)
  assert (tmp_path / "new" / "a.png").stat().st_size > 1000
  assert matplotlib.get_backend() == backend


def test_nothing_scored_still_makes_a_figure(tmp_path):
  figure = figures.auroc_per_label(_rows("a", [None]), ["a"])
  style.save(figure, tmp_path / "a.png", dpi=50)


def _entries(figure):
  (legend,) = figure.legends
  names = [t.get_text() for t in legend.get_texts()]
  looks = [(h.get_color(), h.get_marker()) for h in legend.legend_handles]
  return dict(zip(names, looks, strict=True))


def test_encoders_look_the_same_in_every_figure(tmp_path):
  rows = [r for n in "ab" for r in _rows(n, [0.7, 0.9]) if r.label == "macro"]
  many = ["c", "b", *"defghijklmn", "a"]
  figure = figures.macro_scores(rows, ["probe 100 %"] * 2, many, "title")
  assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
    "probe 100 %"
  ]
  looks = _entries(figure)
  assert list(looks) == ["b", "a"]
  alone = figures.macro_scores(rows[:1], ["probe 100 %"], many)
  assert _entries(alone) == {"a": looks["a"]}
  assert len({_entries(_one(name, many))[name] for name in many}) == len(many)
  parts = [
    dataclasses.replace(
      row, setting=setting, metric=f"unexplained variance, {part}"
    )
    for row in rows
    for setting in ("hidden_leads", "hidden_times")
    for part in ("all", "QRS")
  ]
  figure = figures.parts(parts, many)
  assert _entries(figure) == looks
  assert len(figure.axes) == 2
  labels = [t.get_text() for t in figure.axes[1].get_xticklabels()]
  assert labels == ["all", "QRS"]
  style.save(figure, tmp_path / "a.png", dpi=50)


def _one(name, encoders):
  return figures.auroc_per_label(_rows(name, [0.7, 0.9]), encoders)
