"""Probabilities that are fitted on a built data set, and their file."""

import json

import numpy as np
import pytest

import cgdmer_jax
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import calibrating
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.scores import reliability
from cgdmer_jax.figures import reliability as figures
from cgdmer_jax.figures import style
from cgdmer_jax.inference import calibration as calibration_lib
from cgdmer_jax.inference import predicting
from cgdmer_jax.recordings.tables import Defaults
from data_builders import build
from data_builders.synthetic_ecg import simulator

SPLITS = {
  **{"train": "train", "validation": "train", "test": "validation+test"},
  "max_train": 0,
}


def records(seed, shape, shift=0.0):
  """Probabilities and labels that follow them, moved by `shift` logits."""
  rng = np.random.default_rng(seed)
  logits = rng.normal(-1, 2, shape)
  y = rng.random(shape) < 1 / (1 + np.exp(-logits))
  return 1 / (1 + np.exp(-logits - shift)), y.astype(np.uint8)


def error_by_loop(p, y, bins=15):
  total = 0.0
  for b in range(bins):
    inside = (p >= b / bins) & ((p < (b + 1) / bins) | (b == bins - 1))
    if inside.any():
      total += inside.sum() * abs(p[inside].mean() - y[inside].mean())
  return total / p.size


def test_errors_are_those_of_a_loop():
  p, y = records(0, (300, 4), 1.0)
  found = reliability.measure(p, y, np.arange(300).astype(str), 50)
  assert found.error.value == pytest.approx(error_by_loop(p, y))
  labels = [error_by_loop(p[:, k], y[:, k]) for k in range(4)]
  assert found.label_error.value == pytest.approx(np.mean(labels))
  assert found.counts.sum() == p.size
  inside = (p >= 2 / 15) & (p < 3 / 15)
  assert found.observed[2] == pytest.approx(y[inside].mean())
  assert found.predicted[2] == pytest.approx(p[inside].mean())
  assert found.low[2] < found.observed[2] < found.high[2]


def test_interval_and_floor_of_probabilities_that_are_right_and_wrong():
  """The truth of a shift is the error of a test set without end."""
  p, y = records(1, (200_000, 1), 1.0)
  truth = error_by_loop(p, y)
  covered = []
  for seed in range(2, 14):
    p, y = records(seed, (400, 1), 1.0)
    found = reliability.measure(p, y, np.arange(400).astype(str), 100)
    covered.append(found.error.low <= truth <= found.error.high)
    assert found.error.value > found.floor
  assert np.mean(covered) >= 0.8
  right = [records(seed, (400, 1)) for seed in range(2, 12)]
  subjects = np.arange(400).astype(str)
  found = [reliability.measure(p, y, subjects, 2) for p, y in right]
  mean = np.mean([x.error.value for x in found])
  assert mean == pytest.approx(np.mean([x.floor for x in found]), rel=0.15)


def test_figure_shows_every_bin_that_has_records(tmp_path):
  p, y = records(3, (500, 2))
  found = reliability.measure(p / 2, y, np.arange(500).astype(str), 20)
  figure = figures.reliability({"a": found, "b": found}, "title")
  upper, lower = figure.axes
  drawn = [x for x in upper.lines if len(x.get_xdata()) == 8]  # below 0.5
  assert len(drawn) == 2
  np.testing.assert_allclose(drawn[0].get_ydata(), found.observed[:8])
  assert [*upper.lines[0].get_ydata()] == [0, 1]
  style.save(figure, tmp_path / "a.png", dpi=30)
  ticks = [x.get_text() for x in lower.get_yticklabels()]
  assert {"1", "10", "100"} <= set(ticks)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
  """Simulated patients as somebody's folder with a table; a data set."""
  root = tmp_path_factory.mktemp("own")
  (root / "in").mkdir()
  lines = ["file;patient;split;MI;wide QRS"]
  for i in range(120):
    record = simulator.record(0, 2_700_000_000 + i, 100)
    np.savez(
      root / f"in/{i}.npz",
      **{"ecg": record["ecg"], "leads": LEADS, "sampling_rate": 100},
      unit="uV",
    )
    _, infarction, _, conduction, _ = record["labels"]["superclass"]
    split = ("train", "train", "validation", "test")[i % 4]
    lines.append(f"{i};p{i};{split};{infarction};{conduction}")
  (root / "labels.csv").write_text("\n".join(lines))
  build.build(
    "folder/100hz",
    data_dir=root / "data",
    manual_dir=root / "in",
    table=root / "labels.csv",
    name="clinic",
  )
  return root


@pytest.fixture(scope="module")
def fitted(own):
  model = cgdmer_jax.load("simulated")
  data = DataSet("clinic/100hz", SPLITS, own / "data")
  calibration, measured = calibrating.calibrate(model, data, (), 50)
  calibration_lib.write(own / "clinic.json", calibration)
  return model, calibration, measured


def test_errors_fall_and_everything_says_what_it_was_calibrated_on(
  own, fitted, capsys
):
  model, calibration, measured = fitted
  assert [*measured] == [calibrating.UNCALIBRATED, "clinic/100hz, train"]
  before, after = measured.values()
  assert after.error.value < 0.5 * before.error.value
  assert calibration.measures["num_test"] == 60
  recording = np.load(own / "in/3.npz")["ecg"] / 1e3
  loaded = cgdmer_jax.load("simulated", own / "clinic.json")
  found = {x.code: x for x in loaded.findings(recording, 100, LEADS)}
  assert {x.name for x in found.values()} == {"MI", "wide QRS"}
  # The cosine is that of the label's sentence.
  cosine = model.zero_shot(recording, 100, LEADS, ["wide QRS"])[0]
  assert found["wide QRS"].similarity == pytest.approx(cosine, abs=1e-5)
  label = calibration.labels[1]
  logit = label.slope * cosine + label.offset
  p = found["wide QRS"].probability
  assert p == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)
  for format_ in ("table", "json", "csv"):
    names, defaults = [str(own / "in/3.npz")], Defaults()
    file = str(own / "clinic.json")
    arguments = names, "simulated", "", format_, None, defaults
    assert predicting.run(*arguments, calibration=file)
    assert "clinic/100hz, train" in capsys.readouterr().out


def test_calibrations_that_cannot_be_used(own, fitted, tmp_path):
  model, *_ = fitted
  document = json.loads((own / "clinic.json").read_text())
  path = tmp_path / "a.json"
  for changes, message in (
    ({"model": "0"}, "clinic/100hz, train was made for another model"),
    ({"format": 99}, "newer version"),
    ({"labels": [{}]}, "a.json is no calibration"),
  ):
    path.write_text(json.dumps(document | changes))
    with pytest.raises(UserError, match=message):
      cgdmer_jax.load("simulated", path)
  with pytest.raises(UserError, match="no.json is no calibration"):
    cgdmer_jax.load("simulated", tmp_path / "no.json")
  for changes, message in (
    ({"validation": "train+test", "test": "test"}, "share 30 records"),
    ({"validation": "validation[:8]", "test": "test"}, "has 10 positives"),
  ):
    data = DataSet("clinic/100hz", SPLITS | changes, own / "data")
    with pytest.raises(UserError, match=message):
      calibrating.calibrate(model, data)
