import numpy as np
import pytest
import scipy.signal

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec, rejected, signals, windows


def recording(seconds, rate=500, leads=LEADS, seed=0):
  rng = np.random.default_rng(seed)
  noise = rng.normal(0, 2e3, (len(leads), round(seconds * rate)))
  rows = scipy.signal.lfilter([0.02], [1, -0.98], noise)
  return signals.recording(leads, rows, 1.0, rate)


@pytest.mark.parametrize(
  ("seconds", "size", "starts"),
  [
    (10, 1000, (0,)),
    (10.04, 1000, (0,)),
    (9.96, 1000, (0,)),
    (9.5, 900, (0, 0.5)),
    (2, 200, (0,)),
    (12, 1000, (0, 2)),
    (30, 1000, (0, 10, 20)),
    (35, 1000, (0, 25 / 3, 50 / 3, 25)),
  ],
)
def test_windows_cover_a_recording(seconds, size, starts):
  cut = windows.cut(recording(seconds), 100, 100)
  assert cut.ecg.shape == (len(starts), 12, size)
  np.testing.assert_allclose(cut.starts, starts, atol=2e-3)


@pytest.mark.parametrize("rate", [100, 250, 257, 400, 500, 1000])
def test_a_record_of_10_s_is_that_of_the_builders(rate):
  whole = recording(10, rate)
  cut = windows.cut(whole, 100, 100)
  built = codec.encode(whole, codec.SignalSpec(100, 1000))
  np.testing.assert_array_equal(cut.ecg[0], built.ecg)
  assert cut.lead_valid.all() and not cut.faults


def test_windows_hold_the_signal_of_their_time():
  whole = recording(25, 100)
  cut = windows.cut(whole, 100, 100)
  for start, ecg in zip(cut.starts, cut.ecg, strict=True):
    begin = round(start * 100)
    expected = np.rint(whole.signal[:, begin : begin + 1000])
    np.testing.assert_array_equal(ecg, expected)


def test_gaps_cost_their_window_and_one_lead_is_enough():
  whole = recording(30, 100, leads=("V2",))
  whole.signal[7, 1200:1300] = np.nan
  cut = windows.cut(whole, 100, 100)
  assert cut.starts == (0, 20) and len(cut.unusable) == 1
  assert cut.lead_valid.sum(axis=1).tolist() == [1, 1]
  assert cut.faults["I"] == "missing" and "V2" not in cut.faults


@pytest.mark.parametrize(
  ("seconds", "rate", "error"),
  [(0.9, 100, rejected.WrongLength), (10, 99.37123, rejected.WrongRate)],
)
def test_what_cannot_be_cut(seconds, rate, error):
  with pytest.raises(error):
    windows.cut(recording(seconds, rate), 100, 100)
