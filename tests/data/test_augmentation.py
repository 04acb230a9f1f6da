"""Augmentation against dipoles, lead identities and spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cgdmer_jax import sharding
from cgdmer_jax.config import fields
from cgdmer_jax.data import augmentation, leads, preprocessing
from tests.steps import mesh_of

pytestmark = pytest.mark.usefixtures("strict_promotion")

RATE, B, L, T = 100, 64, 12, 400
ALL = jnp.ones((B, L), bool)
VECTORS = np.array(leads.VECTORS)
KEY = jax.random.key(0)


def config(**ranges):
  c = fields.pretraining().augment
  c.update(ranges)
  return c


def preprocessing_config():
  c = fields.pretraining().preprocess
  c.update(bandpass=(0.5, 0.0), scale=0.25, clip=1e6)
  return c


@jax.jit(static_argnames="ranges")
def augmented(x, lead_valid=ALL, key=KEY, ranges=()):
  drawn = augmentation.draw(key, lead_valid, T, config(**dict(ranges)))
  return augmentation.apply(x, drawn), drawn


def augment(x, lead_valid=ALL, key=KEY, **ranges):
  """The augmented signals, as NumPy, and what was drawn."""
  ranges = tuple(ranges.items())
  return jax.device_get(augmented(x, lead_valid, key, ranges))


@pytest.fixture(scope="module")
def ecg():
  """Recordings in mV whose limb leads fit together, but not to one dipole."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(B, L, T)).cumsum(-1) / 20
  i, ii = x[:, 0], x[:, 1]
  x[:, 2:6] = np.stack([ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=1)
  return x.astype(np.float32)


def limb_error(x):
  """How far leads III and aVR to aVF are from what I and II make of them."""
  i, ii = x[:, 0], x[:, 1]
  made = np.stack([ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2], axis=1)
  return np.abs(x[:, 2:6] - made).max()


def test_nothing_is_done_by_default(ecg):
  assert augmentation.draw(KEY, ALL, T, config()) == augmentation.NONE
  assert augmentation.apply(ecg, augmentation.NONE) is ecg


def test_leads_see_a_dipole_as_limb_leads_do():
  np.testing.assert_allclose(limb_error(VECTORS[None]), 0, atol=1e-12)
  assert np.linalg.matrix_rank(VECTORS) == 3


def turned(angles, lead_valid):
  return np.asarray(augmentation.turned(jnp.asarray(angles), lead_valid))


@pytest.mark.parametrize("missing", [(), (9, 10), (2, 3, 4, 5, 6, 8)])
def test_a_dipole_turns_with_the_heart(missing):
  rng = np.random.default_rng(0)
  dipole = rng.normal(size=(B, 3, T))
  valid = np.ones((B, L), bool)
  valid[:, missing] = False
  angles = rng.normal(scale=0.4, size=(B, 3)).astype(np.float32)
  # About the axes to the front, downwards and to the left, one after the other.
  turn = Rotation.from_euler("zyx", angles * [1, -1, 1]).as_matrix()
  before = np.where(valid[..., None], VECTORS @ dipole, 0)
  after = turned(angles, jnp.asarray(valid)) @ before
  expected = VECTORS @ turn @ dipole
  np.testing.assert_allclose(after[valid], expected[valid], atol=2e-5)
  assert np.abs(expected - VECTORS @ dipole).max() > 1


def test_what_no_dipole_explains_does_not_turn():
  x = np.random.default_rng(0).normal(size=(L, T))
  rest = x - VECTORS @ np.linalg.lstsq(VECTORS, x)[0]
  after = turned(np.full((B, 3), 0.5, np.float32), ALL) @ rest
  np.testing.assert_allclose(
    after, np.broadcast_to(rest, after.shape), atol=2e-5
  )


@pytest.mark.parametrize("present", [(0,), (0, 1), (6, 7, 8), range(6)])
def test_few_leads_are_not_magnified(present, ecg):
  valid = np.zeros((B, L), bool)
  valid[:, present] = True
  x = np.where(valid[..., None], ecg, 0)
  angles = np.full((B, 3), 0.3, np.float32)
  after = np.where(valid[..., None], turned(angles, jnp.asarray(valid)) @ x, 0)
  assert np.linalg.norm(after) < 2 * np.linalg.norm(x)
  assert np.abs(after - x).max() > 0.01


def test_limb_leads_still_fit_together(ecg):
  assert limb_error(ecg) < 1e-5
  together, _ = augment(ecg, gain=0.3, rotation=15.0)
  assert limb_error(together) < 1e-5
  assert np.abs(together - ecg).max() > 0.5
  alone, _ = augment(ecg, lead_gain=0.3)
  assert limb_error(alone) > 0.5


def test_gains(ecg):
  x = np.ones_like(ecg)
  log_gain = np.log(augment(x, gain=0.2)[0])
  assert np.ptp(log_gain, axis=(1, 2)).max() < 1e-5  # one for each record
  per_lead = np.log(augment(x, lead_gain=0.2)[0])
  assert np.ptp(per_lead, axis=2).max() < 1e-5
  for values in (log_gain[:, 0, 0], per_lead[:, :, 0]):
    error = 0.2 / np.sqrt(values.size)
    assert abs(values.mean()) < 4 * error
    assert abs(values.std() - 0.2) < 4 * error
  # Where all leads are of one size, so are the gains of the whole record.
  assert np.std(per_lead[:, :, 0].mean(1)) < 0.1


def test_level_and_colour_of_the_noise(ecg):
  noise = augment(ecg, noise=0.03)[0] - ecg
  level = noise.std(axis=(1, 2))
  assert np.abs(noise.std(axis=2) / level[:, None] - 1).max() < 0.2
  # Exponential: mean and deviation are the same, over 64 draws.
  assert abs(level.mean() - 0.03) < 4 * 0.03 / np.sqrt(B)
  assert 0.015 < level.std() < 0.05
  power = (np.abs(np.fft.rfft(noise / level[:, None, None])) ** 2).mean((0, 1))
  np.testing.assert_allclose(
    power[1:-1] / T, 1, atol=6 / np.sqrt(B * L)
  )  # white


def test_corner_of_the_filter():
  corner = augment(np.zeros((B, L, T), np.float32), lowpass=(20.0, 40.0))[1]
  corner = corner.lowpass
  assert corner.min() >= 20 and corner.max() <= 40 and np.ptp(corner) > 15
  impulse = np.zeros((B, L, T), np.int16)
  impulse[..., T // 2] = 30_000
  drawn = augmentation.Augmentation(lowpass=jnp.asarray(corner))
  x = preprocessing.preprocess(impulse, ALL, preprocessing_config(), drawn)
  frequency = np.fft.rfftfreq(T, 1 / RATE)
  gain = np.abs(np.fft.rfft(np.asarray(x)[:, 0])) / (30 / 0.25)
  high = (frequency / 0.5) ** 4
  for row, f in zip(gain, corner, strict=True):
    expected = high / (1 + high) / (1 + (frequency / f) ** 4)
    np.testing.assert_allclose(row, expected, atol=0.02)


def test_both_low_pass_filters_count():
  impulse = np.zeros((1, L, T), np.int16)
  impulse[..., T // 2] = 30_000
  c = preprocessing_config()
  c.bandpass = (0, 10)
  drawn = augmentation.Augmentation(lowpass=jnp.full(1, 10.0))
  once, twice = (
    np.abs(np.fft.rfft(preprocessing.preprocess(impulse, ALL[:1], c, x)[0, 0]))
    for x in (augmentation.NONE, drawn)
  )
  np.testing.assert_allclose(twice / once[0], (once / once[0]) ** 2, atol=1e-3)


EVERYTHING = dict(
  gain=0.2, lead_gain=0.05, rotation=10.0, noise=0.02, lowpass=(20.0, 150.0)
)


def test_missing_leads_stay_zero_and_say_nothing(ecg):
  valid = np.ones((B, L), bool)
  valid[::2, 3:9] = False
  stored = (1000 * ecg).clip(-30_000, 30_000).astype(np.int16)
  dirty = np.where(valid[..., None], stored, 12_345).astype(np.int16)
  drawn = augment(ecg, jnp.asarray(valid), **EVERYTHING)[1]
  clean, other = (
    preprocessing.preprocess(
      x, jnp.asarray(valid), preprocessing_config(), drawn
    )
    for x in (stored, dirty)
  )
  assert not np.asarray(clean)[~valid].any()
  np.testing.assert_array_equal(clean, other)


def test_a_key_says_it_all(ecg):
  first, again, other = (
    augment(ecg, key=jax.random.key(seed), **EVERYTHING)[0]
    for seed in (3, 3, 4)
  )
  np.testing.assert_array_equal(first, again)
  assert (np.abs(first - other).max((1, 2)) > 0.01).all()
  change = (first - ecg).reshape(B, -1)
  assert len(np.unique(change, axis=0)) == B  # each record has its own


def test_every_mesh_augments_alike(ecg):
  stored = (1000 * ecg).clip(-30_000, 30_000).astype(np.int16)
  valid = np.random.default_rng(0).random((B, L)) < 0.8

  def run(shape):
    mesh = mesh_of(shape)

    @jax.jit
    def preprocess(ecg, lead_valid):
      with sharding.use(mesh):
        drawn = augmentation.draw(KEY, lead_valid, T, config(**EVERYTHING))
        return preprocessing.preprocess(
          ecg, lead_valid, preprocessing_config(), drawn
        )

    arguments = sharding.put_batch((stored, valid), mesh)
    program = preprocess.lower(*arguments).compile()
    return program.as_text(), np.asarray(program(*arguments))

  (_, one), (text, four) = run((1, 1, 1)), run((2, 2, 1))
  np.testing.assert_allclose(four, one, atol=1e-4)
  assert "all-gather" not in text  # each device has its own records
