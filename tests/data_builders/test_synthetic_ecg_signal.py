"""Simulated signals against physics and clinical criteria."""

import numpy as np
import pytest
from scipy import signal as sps

from data_builders.synthetic_ecg import dipole, simulator, torso

_RATE = 100
_SINUS = {"SR", "SBRAD", "STACH", "SARRH"}
II, V1 = 1, 6


@pytest.fixture(scope="module")
def sims():
  return [simulator.simulate(3, i) for i in range(1200)]


def _r_peaks(ecg):
  """Steepest points of all leads together: a detector of our own."""
  b, a = sps.butter(2, (8 / 50, 25 / 50), "band")
  x = sps.filtfilt(b, a, ecg.astype(float), axis=1)
  energy = np.sqrt(np.square(np.gradient(x, axis=1)).sum(0))
  energy = np.convolve(energy, np.hanning(12) / 6, "same")
  height = 0.35 * np.percentile(energy, 98)
  return sps.find_peaks(energy, height=height, distance=25)[0]


def _median_beat(ecg, before=40, after=50):
  x = sps.filtfilt(*sps.butter(2, 0.01, "high"), ecg.astype(float), axis=1)
  peaks = _r_peaks(ecg)
  peaks = peaks[(peaks > before) & (peaks < ecg.shape[1] - after)]
  return np.median([x[:, p - before : p + after] for p in peaks], axis=0)


def _with(sims, *codes, without=()):
  return [
    s
    for s in sims
    if set(codes) <= set(s.findings.codes)
    and not set(without) & set(s.findings.codes)
  ]


def test_einthoven_and_goldberger(sims):
  for s in sims:
    i, ii, iii, avr, avl, avf = s.ecg[:6].astype(float)
    np.testing.assert_array_equal(i + iii, ii)
    assert np.abs(avr + (i + ii) / 2).max() <= 0.5
    assert np.abs(avl - (i - iii) / 2).max() <= 0.5
    assert np.abs(avf - (ii + iii) / 2).max() <= 0.5


def test_leads_against_the_definition():
  rng = np.random.default_rng(0)
  v = rng.normal(0, 700, (9, 300))
  ra, la, ll = v[:3]
  wilson = (ra + la + ll) / 3
  expected = [
    la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2,
    ll - (ra + la) / 2, *(v[3:] - wilson),
  ]  # fmt: skip
  assert np.abs(torso.leads(v) - np.stack(expected)).max() <= 2
  np.testing.assert_allclose(torso.lead_matrix() @ v, expected, atol=1e-9)


def test_lead_without_contact_is_silent(sims):
  lost = [s for s in sims if not s.lead_valid.all()]
  assert 0.005 < len(lost) / len(sims) < 0.05
  for s in sims:
    assert (s.ecg[~s.lead_valid] == 0).all()
    assert s.lead_valid[:6].all() and (~s.lead_valid).sum() <= 1
    assert (s.ecg[s.lead_valid].std(1) > 5).all()


def test_measured_heart_rate(sims):
  for code, low, high in (
    ("SBRAD", 30, 60),
    ("STACH", 100, 160),
    ("SR", 55, 103),
  ):
    group = _with(sims, code, without=("PVC", "PAC", "PACE"))[:40]
    assert len(group) > 15
    rates = [60 * _RATE / np.median(np.diff(_r_peaks(s.ecg))) for s in group]
    inside = np.mean([(low <= r <= high) for r in rates])
    assert inside >= 0.95, (code, sorted(rates))


def test_fibrillation_is_irregular_and_without_p(sims):
  fibrillation = _with(sims, "AFIB", without=("PVC", "PACE"))
  sinus = _with(sims, "SR", without=("PVC", "PAC"))[: len(fibrillation)]

  def spread(s):
    rr = np.diff(_r_peaks(s.ecg))
    return rr.std() / rr.mean()

  irregular = np.array([spread(s) for s in fibrillation])
  assert np.median(irregular) > 0.12
  assert np.median(irregular) > 4 * np.median([spread(s) for s in sinus])
  assert all(len(s.events.p_waves) == 0 for s in fibrillation)
  # What is locked to QRS before it: P in sinus rhythm, next to nothing here.
  before = [np.ptp(_median_beat(s.ecg)[II, 12:32]) for s in fibrillation]
  p_waves = [np.ptp(_median_beat(s.ecg)[II, 12:32]) for s in sinus]
  assert np.median(before) < 0.6 * np.median(p_waves)


def test_pr_interval(sims):
  for s in sims:
    sinus = s.events.p_lead[~s.events.p_ectopic & np.isfinite(s.events.p_lead)]
    assert np.isnan(s.pr) == (len(s.events.p_waves) == 0)
    assert (sinus == s.pr).all()
    assert (s.pr > 0.2) == ("1AVB" in s.findings.codes)
    if len(sinus):
      assert (s.pr < 0.12) == ("WPW" in s.findings.codes)


def test_pr_interval_shows_in_the_signal(sims):
  def onset(s):
    """Seconds from the highest point before QRS in II to the R peak."""
    beat = _median_beat(s.ecg)[II, 4:32]
    return (36 - np.argmax(sps.detrend(beat))) / _RATE

  none = ("AFIB", "WPW", "PVC", "PAC", "STACH", "CLBBB", "PACE", "IMI")
  block = [onset(s) for s in _with(sims, "1AVB", without=none)]
  sinus = [onset(s) for s in _with(sims, "NORM", without=(*none, "STACH"))]
  assert len(block) > 10
  assert np.median(block) > np.median(sinus) + 0.04


def test_qrs_duration(sims):
  for s in sims:
    p, codes = s.findings.patient, s.findings.codes
    if p.conduction in ("CLBBB", "CRBBB", "PACE"):
      assert s.qrs >= 0.120
    elif p.conduction in ("IVCD", "WPW"):
      assert s.qrs >= 0.110
    else:
      assert s.qrs < 0.120
    if "NORM" in codes and not p.conduction:
      assert s.qrs <= 0.110
    assert (s.qtc >= 0.46) == ("LNGQT" in codes) or p.conduction

  def width(s):
    """Samples that are steep in any lead, of the median beat."""
    beat = _median_beat(s.ecg)[:, 25:60]
    steep = np.sqrt(np.square(np.gradient(beat, axis=1)).sum(0))
    return (steep > 0.12 * steep.max()).sum()

  wide = np.median([width(s) for s in _with(sims, "CLBBB")[:25]])
  narrow = np.median([width(s) for s in _with(sims, "NORM")[:25]])
  assert wide >= narrow + 3


def test_bundle_branch_blocks_in_v1(sims):
  def last_half(s, lead):
    """Mean of QRS after its first 60 ms."""
    beat = _median_beat(s.ecg)
    start = 40 - 3
    return beat[lead, start + 4 : start + 9].mean()

  valid = [s for s in sims if s.lead_valid[V1]]
  right = _with(valid, "CRBBB", without=("PVC", "LPFB"))[:20]
  assert np.mean([last_half(s, V1) > 50 for s in right]) > 0.8
  left = _with(valid, "CLBBB", without=("PVC",))[:20]
  depth = [_median_beat(s.ecg)[V1, 30:50].min() for s in left]
  assert np.mean(np.array(depth) < -700) > 0.85


def test_voltage_criteria(sims):
  def sokolow(s):
    beat = _median_beat(s.ecg)[:, 28:54] / 1000
    beat = beat - beat[:, :2].mean(1, keepdims=True)
    return max(-beat[6].min(), 0) + max(beat[10].max(), beat[11].max())

  large = [sokolow(s) for s in _with(sims, "VCLVH", without=("PVC",))]
  normal = [sokolow(s) for s in _with(sims, "NORM", without=("HVOLT",))]
  assert np.median(large) > 3.4
  assert np.percentile(normal, 95) < 3.5
  for s in _with(sims, "LVOLT", without=("PVC",)):
    limb = _median_beat(s.ecg)[:6, 33:47]
    assert np.ptp(limb, axis=1).max() < 650  # criterion 500 uV, and noise


def test_inferior_infarct_has_inferior_q_waves(sims):
  def q_in_avf(s):
    beat = _median_beat(s.ecg)[5]
    onset = beat[30:34].mean()
    return beat[33:40].min() - onset

  without = ("LAFB", "AFLT", "SVTAC", "PVC", "IVCD", "CRBBB", "IRBBB")
  old = [
    q_in_avf(s)
    for s in _with(sims, "IMI", without=without)
    if s.findings.stage != "acute"
  ]
  normal = [q_in_avf(s) for s in _with(sims, "NORM")]
  assert len(old) > 15
  assert np.median(old) < 2 * np.median(normal) - 30


def test_level_between_beats_is_above_that_of_pr(sims):
  """Repolarisation of the atria lowers PR and ST together, as in patients.

  116 healthy adults of PTB-XL: TP is 24 microvolt above PR in II, 20 in V4.
  """
  normal = _with(sims, "NORM", without=("STACH", "PVC", "PAC"))
  beats = np.array([_median_beat(s.ecg) for s in normal])
  pr, tp = beats[:, :, 31:34].mean(2), beats[:, :, 2:8].mean(2)
  above = np.median(tp - pr, axis=0)
  assert 12 < above[II] < 40 and 10 < above[9] < 35, above
  assert above[3] < -8  # aVR sees the heart from behind


def test_same_beats_at_any_sampling_rate():
  for i in range(12):
    slow, fast = (simulator.simulate(5, i, rate) for rate in (100, 500))
    assert slow.findings == fast.findings
    np.testing.assert_array_equal(slow.events.beats, fast.events.beats)
    assert fast.ecg.shape == (12, 5000)
    if slow.lead_valid.all() and "PACE" not in slow.findings.codes:
      x, y = _median_beat(slow.ecg), _median_beat(fast.ecg[:, ::5])
      assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.85


def test_same_record_again():
  a, b = simulator.record(1, 77), simulator.record(1, 77)
  np.testing.assert_array_equal(a["ecg"], b["ecg"])
  assert a["report"] == b["report"] == simulator.report(1, 77)
  other = simulator.record(2, 77)
  assert (a["ecg"] != other["ecg"]).mean() > 0.9


def test_patients_keep_chronic_findings():
  for i in range(0, 200, 10):
    assert simulator.subject(i + 8) == simulator.subject(i + 7) == i + 7
    first, second = (simulator.findings(0, i + k) for k in (7, 8))
    assert first.patient == second.patient
  assert len({simulator.subject(i) for i in range(100)}) == 80


def test_rotation_is_orthogonal():
  for seed in range(5):
    turn = dipole.rotation(np.random.default_rng(seed), 60.0)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) > 0
