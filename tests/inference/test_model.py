"""The same recording in other rates, orders, units and lengths."""

import warnings

import numpy as np
import pytest
from scipy import signal

import cgdmer_jax
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec


def cosine(a, b):
  a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
  return (a * b).sum(axis=-1)


@pytest.fixture(scope="module")
def shared(model, ecg_mv):
  return model.encode_ecg(ecg_mv, 500, LEADS)[0]


def test_embeddings_are_those_of_the_model_below(model, ecg_mv):
  spec = codec.SignalSpec(100, 1000)
  encoded = [
    codec.encode(codec.Recording(x * 1e3, np.ones(12, bool), 500.0), spec)
    for x in ecg_mv
  ]
  below = model.trained.encode_ecg(
    np.stack([x.ecg for x in encoded]),
    np.stack([x.lead_valid for x in encoded]),
  )
  both = model.encode_ecg(ecg_mv, 500, LEADS)
  np.testing.assert_allclose(both[0], below.shared, atol=1e-5)
  np.testing.assert_allclose(both[1], below.specific, atol=1e-5)
  assert both[0].dtype == np.float32


def test_one_record_has_no_axis_of_records(model, ecg_mv, shared):
  one = model.encode_ecg(ecg_mv[1], 500, LEADS)[0]
  np.testing.assert_allclose(one, shared[1], atol=1e-5)
  assert isinstance(model.findings(ecg_mv[1], 500, LEADS)[0].code, str)
  assert model.zero_shot(ecg_mv[1], 500, LEADS, ["a", "b"]).shape == (2,)
  assert model.zero_shot(ecg_mv, 500, LEADS, ["a", "b"]).shape == (4, 2)


def test_order_and_spelling_of_leads(model, ecg_mv, shared):
  order = np.random.default_rng(0).permutation(12)
  names = [LEADS[i].upper() for i in order]
  other = model.encode_ecg(ecg_mv[:, order], 500, names)[0]
  np.testing.assert_allclose(other, shared, atol=1e-6)


def test_eight_leads_are_twelve(model, ecg_mv, shared):
  names = ["I", "II", *LEADS[6:]]
  rows = [LEADS.index(x) for x in names]
  other = model.encode_ecg(ecg_mv[:, rows], 500, names)[0]
  # Stored limb leads are rounded to 1 uV one by one.
  assert cosine(other, shared).min() > 0.9999


@pytest.mark.parametrize("rate", [100, 250, 400, 1000])
def test_other_rates(model, ecg_mv, shared, rate):
  """By Fourier's interpolation, which is no part of the package."""
  length = ecg_mv.shape[2] * rate // 500
  spectrum = np.fft.rfft(ecg_mv)[..., : length // 2 + 1]
  padded = np.zeros((*ecg_mv.shape[:2], length // 2 + 1), complex)
  padded[..., : spectrum.shape[2]] = spectrum
  resampled = np.fft.irfft(padded, length) * (rate / 500)
  other = model.encode_ecg(resampled, rate, LEADS)[0]
  assert cosine(other, shared).min() > 0.99


def test_windows_are_averaged(model, ecg_mv, shared):
  long = ecg_mv.swapaxes(0, 1).reshape(12, -1)  # 40 s
  other = model.encode_ecg(long, 500, LEADS)[0]
  # Filters reach over the seams.
  assert cosine(other, shared.mean(axis=0)) > 0.99
  short = model.encode_ecg(ecg_mv[:, :, :1500], 500, LEADS)[0]
  assert short.shape == shared.shape and np.isfinite(short).all()


@pytest.mark.parametrize("leads", [("I",), ("I", "II", "V2"), LEADS[6:]])
def test_few_leads(model, ecg_mv, leads):
  rows = [LEADS.index(x) for x in leads]
  shared, specific = model.encode_ecg(ecg_mv[:, rows], 500, leads)
  assert np.isfinite(shared).all() and np.isfinite(specific).all()


def test_a_unit_that_cannot_be_right_is_told(model, ecg_mv):
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    model.encode_ecg(ecg_mv, 500, LEADS)
  with pytest.warns(UserWarning, match="1,000 times too small"):
    model.encode_ecg(ecg_mv / 1e3, 500, LEADS)
  with pytest.raises(UserError, match="1,000 times too large"):
    model.encode_ecg(ecg_mv * 1e3, 500, LEADS)


def test_findings_are_ranked_and_calibrated(model, ecg_mv):
  ranked = model.findings(ecg_mv, 500, LEADS)
  assert len(ranked) == 4
  for findings in ranked:
    p = [x.probability for x in findings if x.probability is not None]
    assert p == sorted(p, reverse=True) and min(p) > 0 and max(p) < 1
    rest = findings[len(p) :]
    assert all(x.probability is None for x in rest)
  labels = model.readout.labels
  sets = {(x.label_set, x.code): x for x in labels}
  assert sets["all", "AFIB"].name == "atrial fibrillation"
  first = ranked[0][0]
  label = sets[first.label_set, first.code]
  logit = label.slope * first.similarity + label.offset
  assert first.probability == pytest.approx(1 / (1 + np.exp(-logit)))


def test_probabilities_are_calibrated_on_what_was_not_fitted(model):
  measures = model.readout.measures
  assert measures["ece_after"] < 0.02 < measures["ece_before"]


def test_reconstruction_is_in_mv(model, ecg_mv):
  hidden = np.zeros((12, 10), bool)
  hidden[:, 4] = True
  restored = model.reconstruct(ecg_mv, 500, LEADS, hidden)
  assert restored.restored.shape == (4, 12, 1000)
  highpass = signal.butter(2, 0.5, "highpass", fs=500, output="sos")
  from_mv = signal.sosfiltfilt(highpass, ecg_mv[:, 7], padlen=500)[:, ::5]
  size = np.ptp(from_mv, axis=1)
  assert np.ptp(restored.original[:, 7], axis=1) == pytest.approx(size, rel=0.1)
  one = model.reconstruct(ecg_mv[0], 500, LEADS, hidden)
  np.testing.assert_allclose(one.restored, restored.restored[0], atol=1e-4)
  # What is drawn has the height of what is visible, whatever was hidden.
  higher = ecg_mv.copy()
  higher[..., 2000:2500] *= 3
  again = model.reconstruct(higher, 500, LEADS, hidden)
  part = np.s_[:, :, 420:480]  # the filter spreads over the ends
  known, other = (np.ptp(x.known_mv[part]) for x in (restored, again))
  assert other < 1.3 * known
  # Scores of shapes alone take the height from the original.
  kind = model.trained.config.model.ecg_target
  before, after = (np.ptp(x.restored[part]) for x in (restored, again))
  assert after > 2 * before if kind == "patch" else after < 1.3 * before
  with pytest.raises(UserError, match=r"expected \(12, 10\)"):
    model.reconstruct(ecg_mv, 500, LEADS, hidden[:, :5])


@pytest.mark.parametrize(
  ("shape", "rate", "leads", "message"),
  [
    ((12,), 500, LEADS, "shape"),
    ((12, 5000), 500, LEADS[:3], "3 names"),
    ((1, 5000), 500, ("V9",), "not among"),
    ((2, 5000), 500, ("I", "i"), "two leads I"),
    ((1, 5000), 0, ("I",), "0 Hz"),
    ((1, 300), 500, ("I",), "at least 1 s"),
    ((1, 5000), 500, ("I",), "constant"),
  ],
)
def test_arrays_that_cannot_be_right(model, shape, rate, leads, message):
  with pytest.raises(UserError, match=message):
    model.encode_ecg(np.zeros(shape), rate, leads)


def test_there_is_no_such_model(tmp_path):
  with pytest.raises(UserError, match="neither a directory nor one of sim"):
    cgdmer_jax.load(tmp_path / "none")
  with pytest.raises(UserError, match="no run in"):
    cgdmer_jax.load(tmp_path)
