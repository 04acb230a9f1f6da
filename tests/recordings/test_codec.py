import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec, rejected

RATE = 500
SPEC = codec.SignalSpec(RATE, 5000)


def make_recording(rate=RATE, seconds=10.0, present=None):
  """Smooth voltages of up to about 2 mV that differ between the leads."""
  t = np.arange(round(seconds * rate)) / rate
  lead = np.arange(12)[:, None]
  signal = 900 * np.sin(2 * np.pi * (1 + 0.3 * lead) * t + lead)
  signal += 300 * np.sin(2 * np.pi * 7 * t + 2 * lead) + 50 * lead
  present = np.ones(12, bool) if present is None else present
  signal[~present] = np.nan
  return codec.Recording(signal, present, rate)


def test_rounds_to_microvolts():
  recording = make_recording()
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert ecg.dtype == np.int16 and ecg.shape == (12, 5000)
  assert valid.dtype == bool and valid.all()
  assert np.abs(ecg - recording.signal).max() <= 0.5


def test_takes_the_first_samples():
  recording = make_recording(seconds=12)
  ecg, _, _ = codec.encode(recording, SPEC)
  np.testing.assert_array_equal(ecg, np.rint(recording.signal[:, :5000]))


def test_does_not_modify_its_input():
  recording = make_recording()
  recording.signal[3, 10:20] = np.nan
  before = recording.signal.copy()
  codec.encode(recording, SPEC)
  np.testing.assert_array_equal(recording.signal, before)


@pytest.mark.parametrize("rate", [1000, 400, 257, 250, 100, 499.5])
@pytest.mark.parametrize("seconds", [10, 11.5])
def test_resamples(rate, seconds):
  """Any rate gives the samples that the voltages have at 500 Hz."""
  recording = make_recording(rate, seconds + 1e-9)
  truth = make_recording(RATE).signal
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert valid.all() and ecg.shape == (12, 5000)
  assert np.abs(ecg - truth)[:, 100:-100].max() < 12  # of 2500 peak to peak
  if seconds > 10:  # the filter sees what follows the crop
    assert np.abs(ecg - truth)[:, -100:].max() < 12


def test_resampling_keeps_the_ends_of_an_offset_lead():
  recording = make_recording(1000)
  recording.signal[:] += 5000
  ecg, _, _ = codec.encode(recording, SPEC)
  ends = np.r_[0:50, 4950:5000]
  truth = recording.signal[:, ::2]
  assert np.abs(ecg - truth)[:, ends].max() < 25


def test_downsampling_removes_what_would_alias():
  recording = make_recording(RATE)
  t = np.arange(5000) / RATE
  recording.signal[:] += 500 * np.sin(2 * np.pi * 90 * t)
  ecg, _, _ = codec.encode(recording, codec.SignalSpec(100, 1000))
  truth = make_recording(100).signal
  assert np.abs(ecg - truth)[:, 20:-20].max() < 20


@pytest.mark.parametrize("gap_seconds", [0.002, 0.1, 0.19, 0.2])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
@pytest.mark.parametrize("lead", range(12))
def test_repairs_short_gaps_within_their_lead(gap_seconds, place, lead):
  clean = make_recording()
  recording = make_recording()
  n = round(gap_seconds * RATE)
  start = {"start": 0, "middle": 2000, "end": 5000 - n}[place]
  gap = slice(start, start + n)
  recording.signal[lead, gap] = np.nan
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert valid.all()
  ends = [i for i in (start - 1, start + n) if 0 <= i < 5000]
  neighbours = clean.signal[lead, ends]
  assert ecg[lead, gap].min() >= np.floor(neighbours.min())
  assert ecg[lead, gap].max() <= np.ceil(neighbours.max())
  expected = np.rint(clean.signal)
  expected[lead, gap] = ecg[lead, gap]
  np.testing.assert_array_equal(ecg, expected)  # nothing else has changed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["start", "middle", "end"])
@pytest.mark.parametrize("lead", range(12))
def test_a_long_gap_invalidates_its_lead_only(bad, place, lead):
  recording = make_recording()
  n = round(0.21 * RATE)
  start = {"start": 0, "middle": 2000, "end": 5000 - n}[place]
  recording.signal[lead, start : start + n] = bad
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert np.flatnonzero(~valid).tolist() == [lead]
  assert not ecg[lead].any()
  others = np.arange(12) != lead
  np.testing.assert_array_equal(
    ecg[others], np.rint(make_recording().signal[others])
  )


def test_a_gap_never_reaches_beyond_itself_when_resampling():
  """Repaired after the filter, one missing sample would cost dozens."""
  recording = make_recording(1000)
  recording.signal[:, 4000] = np.nan
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert valid.all()
  assert np.abs(ecg - make_recording().signal)[:, 100:-100].max() < 15


def test_gaps_behind_the_crop_do_not_matter():
  recording = make_recording(1000, 12)
  recording.signal[:, 10_000:] = np.nan
  _, valid, _ = codec.encode(recording, SPEC)
  assert valid.all()


def test_gap_that_a_crop_would_shorten_counts_whole():
  recording = make_recording(1000, 12)
  recording.signal[2, 9900:10_150] = np.nan
  _, valid, _ = codec.encode(recording, SPEC)
  assert np.flatnonzero(~valid).tolist() == [2]


def test_many_short_gaps_invalidate_a_lead():
  recording = make_recording()
  recording.signal[5, ::5] = np.nan
  _, valid, _ = codec.encode(recording, SPEC)
  assert np.flatnonzero(~valid).tolist() == [5]


def test_missing_lead_is_invalid_and_zero():
  present = np.ones(12, bool)
  present[LEADS.index("aVF")] = False
  ecg, valid, _ = codec.encode(make_recording(present=present), SPEC)
  np.testing.assert_array_equal(valid, present)
  assert not ecg[~present].any() and ecg[present].any(axis=1).all()


@pytest.mark.parametrize("level", [0.0, 321.0, 0.4])
def test_constant_lead_is_invalid(level):
  recording = make_recording()
  recording.signal[7] = level
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert np.flatnonzero(~valid).tolist() == [7]
  assert not ecg[7].any()


def _six_of(kind):
  """A recording of which `kind` spoils leads 0..5, and of 0..6."""
  for n in (6, 7):
    recording = make_recording(1000)
    if kind == "absent":
      present = np.arange(12) >= n
      recording = make_recording(1000, present=present)
    elif kind == "nan":
      recording.signal[:n, 3000:4000] = np.nan
    else:
      recording.signal[:n] = 8.0
    yield recording


@pytest.mark.parametrize(
  ("kind", "error"),
  [
    ("absent", rejected.MissingLeads),
    ("nan", rejected.TooManyNan),
    ("constant", rejected.NoSignal),
  ],
)
def test_six_leads_are_needed(kind, error):
  six, five = _six_of(kind)
  _, valid, _ = codec.encode(six, SPEC)
  assert valid.sum() == 6
  with pytest.raises(error):
    codec.encode(five, SPEC)


def test_all_nan_and_all_constant():
  recording = make_recording()
  recording.signal[:] = np.nan
  with pytest.raises(rejected.TooManyNan):
    codec.encode(recording, SPEC)
  recording.signal[:] = 0
  with pytest.raises(rejected.NoSignal):
    codec.encode(recording, SPEC)


def test_brief_spikes_are_clipped_more_is_rejected():
  recording = make_recording()
  recording.signal[4, 100:110] = -40_000
  ecg, valid, _ = codec.encode(recording, SPEC)
  assert valid.all() and (ecg[4, 100:110] == -32767).all()
  recording.signal[4, 110] = 40_000
  with pytest.raises(rejected.OutOfRange, match="aVL"):
    codec.encode(recording, SPEC)


@pytest.mark.parametrize("samples", [0, 1, 4999])
def test_too_short(samples):
  recording = make_recording()
  short = codec.Recording(
    recording.signal[:, :samples], recording.present, RATE
  )
  with pytest.raises(rejected.WrongLength, match=str(samples)):
    codec.encode(short, SPEC)


@pytest.mark.parametrize("rate", [0, -500, np.nan, np.inf, 1e-3, 1e9, 499.9999])
def test_absurd_rates(rate):
  good = make_recording()
  recording = codec.Recording(good.signal, good.present, rate)
  with pytest.raises(rejected.WrongRate):
    codec.encode(recording, SPEC)


def test_rate_of_the_data_set():
  spec = codec.SignalSpec(100, 1000, source_rate=100)
  codec.encode(make_recording(100), spec)
  with pytest.raises(rejected.WrongRate, match="500 Hz instead of 100 Hz"):
    codec.encode(make_recording(500), spec)


@pytest.mark.parametrize("rate", [100, 250, 400])
@pytest.mark.parametrize("value", [1e13, -1e20, 1e308, np.inf, np.nan])
@pytest.mark.parametrize("at", [0, 500, -1])
def test_absurd_voltages_are_missing_samples(rate, value, at):
  """They would drown the other samples in the resampling filter."""
  recording = make_recording(rate)
  spec = codec.SignalSpec(100, 1000)
  truth, _, _ = codec.encode(recording, spec)
  recording.signal[3, at] = value
  with np.errstate(all="raise"):
    ecg, valid, _ = codec.encode(recording, spec)
  assert valid.all()
  error = np.abs(ecg.astype(int) - truth).max(axis=1)
  assert error[3] < 100 and not np.delete(error, 3).any()
