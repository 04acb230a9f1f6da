import itertools

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec, limb_leads, signals


def electrodes(seed=0):
  """All leads from random potentials of the electrodes, their definition."""
  right, left, foot = np.random.default_rng(seed).normal(0, 300, (3, 500))
  return {
    "I": left - right,
    "II": foot - right,
    "III": foot - left,
    "aVR": right - (left + foot) / 2,
    "aVL": left - (right + foot) / 2,
    "aVF": foot - (right + left) / 2,
  }


@pytest.mark.parametrize("pair", [*itertools.combinations(LEADS[:6], 2)])
def test_any_two_limb_leads_give_the_others(pair):
  truth = electrodes()
  recording = signals.recording(pair, [truth[x] for x in pair], 1.0, 500)
  whole, derived = limb_leads.derive(recording)
  assert derived == tuple(x for x in LEADS[:6] if x not in pair)
  assert whole.present[:6].all() and not whole.present[6:].any()
  np.testing.assert_allclose(
    whole.signal[:6], [truth[x] for x in LEADS[:6]], atol=1e-9
  )


def test_a_lead_without_signal_is_derived_and_what_is_there_stays():
  truth = electrodes()
  rows = {**truth, "III": np.zeros(500), "aVF": np.full(500, np.nan)}
  rows["V1"] = truth["I"] * 2
  recording = signals.recording([*rows], [*rows.values()], 1.0, 500)
  whole, derived = limb_leads.derive(recording)
  assert derived == ("III", "aVF")
  np.testing.assert_allclose(whole.signal[2], truth["III"], atol=1e-9)
  np.testing.assert_array_equal(whole.signal[6], rows["V1"])
  assert np.ptp(recording.signal[2]) == 0  # the original is left alone


def test_one_limb_lead_gives_nothing():
  recording = signals.recording(("I", "V1"), np.eye(2, 50) * 99, 1.0, 500)
  assert limb_leads.derive(recording) == (recording, ())


def test_missing_samples_stay_missing():
  truth = electrodes()
  truth["I"][10:20] = np.nan
  recording = signals.recording(("I", "II"), [truth["I"], truth["II"]], 1, 500)
  whole, _ = limb_leads.derive(recording)
  assert np.isnan(whole.signal[:6, 10:20]).sum() == 50  # not of II
  assert isinstance(whole, codec.Recording)
