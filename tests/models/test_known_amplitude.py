"""The height of restored patches comes from what is visible."""

import jax
import numpy as np
import pytest

from cgdmer_jax.data import preprocessing
from cgdmer_jax.models import known_amplitude
from tests import toy

RNG = np.random.default_rng(0)
T = np.arange(1000) / 100


def recording():
  """Two records in uV: leads of other heights, with a constant part.

  All patches of a second are equal.
  """
  wave = np.sin(2 * np.pi * 2 * T) + 0.4 * np.sin(2 * np.pi * 7 * T)
  height = np.array([[1000, 300, 600, 80], [500, 900, 200, 400]])
  return np.rint(height[..., None] * wave + [[[250]], [[-100]]])


def restore(ecg, visible, normalise, kind, perfect=1):
  """mV of a decoder that is right; the patches are one second."""
  config = toy.get_config().preprocess
  config.update(normalise=normalise, sampling_rate=100, scale=0.25, clip=1e9)
  valid = np.ones(ecg.shape[:2], bool)

  @jax.jit
  def known(ecg, visible):
    x, unit = preprocessing.preprocess_with_unit(ecg, valid, config)
    patches = preprocessing.patchify(x, 100)
    target, _, _ = preprocessing.target(patches, visible, kind)
    return known_amplitude.in_millivolt(
      target * perfect,
      patches,
      preprocessing.patchify(ecg / 1e3, 100),
      visible,
      unit[..., None],
      kind,
    )

  return np.asarray(known(ecg.astype(np.int16), visible)).reshape(ecg.shape)


@pytest.mark.parametrize(
  ("normalise", "kind"),
  [("lead", "patch"), ("record", "signal"), ("fixed", "residual")],
)
def test_a_right_shape_of_a_steady_lead_is_the_recording(normalise, kind):
  """In mV, whatever the unit of the model."""
  ecg = recording()
  visible = RNG.random((2, 4, 10)) < 0.5
  visible[:, :, :2], visible[:, :, 3] = True, False
  error = (restore(ecg, visible, normalise, kind) - ecg / 1e3)[..., 300:400]
  assert np.abs(error).max() < 0.02  # of 2.6 mV; the filter takes some


def test_nothing_hidden_tells_its_height():
  """A hidden patch may be ten times higher: it is drawn as the others are."""
  ecg = recording()
  visible = np.ones((2, 4, 10), bool)
  visible[:, 1, 4], visible[0, 3] = False, False
  known = restore(ecg, visible, "fixed", "patch")
  higher = ecg.copy()
  higher[:, 1, 400:500] *= 10
  flat = restore(higher, visible, "fixed", "patch", perfect=0)
  # A decoder that predicts nothing leaves the mean of what is visible.
  np.testing.assert_allclose(flat[0, 1, 400:500], 0.25, atol=0.03)
  part = np.s_[:, 1, 400:500]
  again = restore(higher, visible, "fixed", "patch")
  assert np.ptp(again[part]) < 1.5 * np.ptp(known[part])
  # A lead that is hidden as a whole has the height of the others.
  others = np.mean([np.std(ecg[0, i]) for i in range(3)]) / 1e3
  assert np.std(known[0, 3]) == pytest.approx(others, rel=0.1)
  assert np.std(ecg[0, 3]) / 1e3 < 0.15 * others


def test_every_target_has_its_rule():
  assert set(known_amplitude.RULES) == set(preprocessing.TARGETS)
  assert jax.config.jax_numpy_rank_promotion == "raise"
