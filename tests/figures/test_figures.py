"""Figures show what they are given; nothing global is touched."""

import dataclasses

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.evaluators.scores.row import Row
from cgdmer_jax.figures import curves, paper, reconstructions, style, tracing
from cgdmer_jax.figures import results as figures


def _ecg(samples=1000):
  t = np.arange(samples) / 100
  return np.stack([np.sin(2 * np.pi * (1 + 0.1 * k) * t) for k in range(12)])


def _curves(axes, colour, length=0):
  lines = [line for line in axes.lines if line.get_color() == colour]
  return [line for line in lines if len(line.get_xdata()) > length]


def _draw(ecg, rate=100, **given):
  (sheet,) = paper.arrange(ecg, rate, **given)
  return tracing.tracing(sheet)


def test_every_lead_stands_once_and_one_shows_the_rhythm():
  (sheet,) = paper.arrange(_ecg(), 100)
  grid = [s for s in sheet.strips if not s.is_rhythm]
  rows = [
    [s.lead for s in grid if s.top == top] for top in {s.top for s in grid}
  ]
  assert sorted(rows) == [
    ["I", "aVR", "V1", "V4"],
    ["II", "aVL", "V2", "V5"],
    ["III", "aVF", "V3", "V6"],
  ]
  (rhythm,) = (s for s in sheet.strips if s.is_rhythm)
  assert rhythm.lead == "II" and len(sheet.pulses) == 4
  # 2.5 s are 62.5 mm, and what follows goes on in time.
  assert sorted({s.left for s in grid}) == [10, 72.5, 135, 197.5]
  joined = np.concatenate([s.recorded.x for s in grid[:4]])
  np.testing.assert_allclose(np.diff(joined), 0.25)
  np.testing.assert_allclose(rhythm.recorded.x, joined)
  # 10 mm/mV, upwards; the pulse is 1 mV from the same line, 5 mm long.
  ecg, x, y = _ecg(), *vars(sheet.pulses[0]).values()
  zero = y.max()
  assert zero - y.min() == 10 and x[3] - x[2] == 5
  np.testing.assert_allclose(grid[0].recorded.y, zero - 10 * ecg[0, :250])
  np.testing.assert_allclose(grid[1].recorded.y, zero - 10 * ecg[3, 250:500])


def test_long_short_and_incomplete_recordings():
  ecg = _ecg(12_005)  # 120.05 s: the last 0.05 s would show nothing
  ecg[1], ecg[4, :30] = np.nan, np.nan
  first, second, third = paper.arrange(ecg, 100, missing={"V3": "gap"})
  assert [len(s.strips) for s in (first, second, third)] == [13, 8, 3]
  assert {s.lead for s in first.strips if s.is_rhythm} == {"V1"}
  remarks = {s.lead: s.remark for s in first.strips if s.remark}
  assert remarks == {"II": "no signal", "V3": "gap"}
  assert [s.start for s in (first, second, third)] == [0, 10, 90]
  parts = [s.recorded for sheet in (second, third) for s in sheet.strips]
  assert len(np.concatenate([p.y for p in parts])) == 11_000
  (short,) = paper.arrange(_ecg(120), 100, derived=("aVF",))
  assert {len(s.recorded.x) for s in short.strips} == {30, 120}
  assert [s.lead for s in short.strips if s.remark == "computed"] == ["aVF"]
  (empty,) = paper.arrange(np.full((12, 100), np.nan), 100)
  assert all(s.recorded is None for s in empty.strips)


def test_restored_parts_are_drawn_over_hidden_patches_only():
  ecg = _ecg()
  mask = np.zeros((12, 40), bool)
  mask[2, 3:5], mask[2, 39], mask[7] = True, True, True
  figure = _draw(ecg, hidden=mask, restored=ecg + 0.2)
  (axes,) = figure.axes
  restored = _curves(axes, style.BLUE)
  # Of III the first 2.5 s are shown, and of V2 the third.
  assert [len(line.get_xdata()) for line in restored] == [250, 50]
  shades = [p for p in axes.patches if isinstance(p, Rectangle)]
  # 25 samples at 100 per second are 0.25 s, 6.25 mm of paper.
  assert [p.get_width() for p in shades] == pytest.approx([62.5, 12.5])
  assert shades[1].get_x() == pytest.approx(10 + 0.75 * 25)
  original = _curves(axes, style.INK, length=200)
  assert len(original) == 13
  # 0.2 mV above the recording are 2 mm.
  gap = original[6].get_ydata() - restored[0].get_ydata()
  np.testing.assert_allclose(gap, 2.0)


def test_paper_is_to_scale():
  figure = _draw(_ecg())
  (axes,) = figure.axes
  width_mm = axes.get_window_extent().width / figure.dpi * 25.4
  low, high = axes.get_xlim()
  assert width_mm == pytest.approx(high - low)
  height_mm = axes.get_window_extent().height / figure.dpi * 25.4
  assert height_mm == pytest.approx(axes.get_ylim()[0])


def test_missing_lead_is_named_and_not_drawn(tmp_path):
  valid = np.ones(12, bool)
  valid[4] = False
  missing = reconstructions.missing_leads(valid)
  (sheet,) = paper.arrange(_ecg(), 100, missing=missing)
  figure = tracing.tracing(sheet, report="$5 or $\\no", note="of $ 7")
  (axes,) = figure.axes
  assert len(_curves(axes, style.INK, length=200)) == 12
  texts = [t.get_text() for t in axes.texts]
  assert texts.count("aVL (missing or unusable)") == 1
  assert set(LEADS) - {"aVL"} < set(texts)
  style.save(figure, tmp_path / "a.png", dpi=30)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"ecg": np.zeros((11, 100))}, "expected"),
    ({"hidden": np.zeros((12, 7), bool)}, "does not divide"),
    ({"restored": np.zeros((12, 9))}, "restored has shape"),
  ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
  arguments = {"ecg": np.zeros((12, 100))} | change
  with pytest.raises(ValueError, match=message):
    paper.arrange(rate=100, **arguments)


def test_runs():
  mask = np.array([1, 1, 0, 1, 0, 0, 1], bool)
  assert paper.runs(mask) == [(0, 2), (3, 4), (6, 7)]
  assert paper.runs(np.zeros(4, bool)) == []


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
