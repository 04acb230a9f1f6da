"""On-device preprocessing against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from ml_collections import ConfigDict

from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("strict_promotion")

RATE = 100


def config(**changes):
  fields = dict(
    sampling_rate=RATE, bandpass=(0.0, 0.0), normalise="fixed", scale=0.5
  )
  return ConfigDict({**fields, "clip": 1e6, **changes})


@pytest.fixture
def ecg():
  rng = np.random.default_rng(0)
  x = rng.normal(scale=300, size=(3, 12, 1000)).cumsum(-1) / 5
  return x.astype(np.int16)


ALL = np.ones((3, 12), bool)


def test_fixed_normalisation_is_millivolt_over_scale(ecg):
  x = preprocessing.preprocess(ecg, ALL, config())
  np.testing.assert_allclose(x, ecg / 1000 / 0.5, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "axes"), [("lead", -1), ("record", (-2, -1))])
def test_standardised(ecg, kind, axes):
  x = preprocessing.preprocess(ecg, ALL, config(normalise=kind))
  mV = ecg / 1000
  expected = (mV - mV.mean(axes, keepdims=True)) / mV.std(axes, keepdims=True)
  np.testing.assert_allclose(x, expected, atol=1e-3)


@pytest.mark.parametrize("kind", preprocessing.NORMALISATIONS)
def test_missing_leads_are_zero_and_count_for_nothing(ecg, kind):
  valid = ALL.copy()
  valid[:, 5] = False
  dirty = ecg.copy()
  dirty[:, 5] = 30_000
  c = config(normalise=kind, bandpass=(0.5, 40.0))
  x = preprocessing.preprocess(dirty, valid, c)
  clean = preprocessing.preprocess(ecg, valid, c)
  assert not np.asarray(x)[:, 5].any()
  np.testing.assert_array_equal(x, clean)


def test_clip(ecg):
  x = np.asarray(preprocessing.preprocess(ecg, ALL, config(clip=0.25)))
  assert np.abs(x).max() == 0.25


@pytest.mark.parametrize(
  ("low", "high"), [(0.5, 0.0), (0.0, 10.0), (0.5, 10.0)]
)
def test_bandpass_equals_filtfilt(ecg, low, high):
  noise = np.random.default_rng(1).normal(scale=0.5, size=ecg.shape)
  expected = x = ecg / 1000.0 + noise
  for corner, kind in ((low, "highpass"), (high, "lowpass")):
    if corner:
      b, a = scipy.signal.butter(2, corner, kind, fs=RATE)
      expected = scipy.signal.filtfilt(b, a, expected, padlen=RATE)
  got = preprocessing.bandpass(jnp.asarray(x, jnp.float32), RATE, low, high)
  # Away from the ends: the digital filter differs from the analogue gain near
  # Nyquist, and the ends are continued by one second only.
  inside = slice(200, -200)
  removed = np.std((x - expected)[..., inside])
  error = np.std(np.asarray(got)[..., inside] - expected[..., inside])
  assert error < 0.12 * removed
  assert removed > 0.1


def test_bandpass_removes_wander_and_keeps_the_rest():
  t = np.arange(1000) / RATE
  wander, wave = np.sin(2 * np.pi * 0.1 * t), np.sin(2 * np.pi * 8 * t)
  x = jnp.asarray((3 * wander + wave)[None, None], jnp.float32)
  y = np.asarray(preprocessing.bandpass(x, RATE, 0.5, 0.0))[0, 0]
  np.testing.assert_allclose(y[200:-200], wave[200:-200], atol=0.05)


def test_patches_and_their_normalisation(ecg):
  x = jnp.asarray(ecg, jnp.float32) / 1000
  patches = preprocessing.patchify(x, 50)
  np.testing.assert_array_equal(patches[1, 2, 3], x[1, 2, 150:200])
  unit, mean, deviation = preprocessing.normalise_patches(patches)
  np.testing.assert_allclose(unit * deviation + mean, patches, atol=1e-5)
  np.testing.assert_allclose(unit.mean(-1), 0, atol=1e-4)
  silent, _, _ = preprocessing.normalise_patches(1e-4 * patches)
  assert np.abs(silent).max() < 0.1  # noise is not blown up


def test_errors(ecg):
  with pytest.raises(UserError, match="expected one of fixed, record, lead"):
    preprocessing.preprocess(ecg, ALL, config(normalise="minmax"))
  with pytest.raises(UserError, match="does not divide the 1000 samples"):
    preprocessing.patchify(jnp.zeros((1, 12, 1000)), 48)
