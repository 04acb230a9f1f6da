"""Hidden times from other beats: against loops in numpy, and what it can do."""

import jax
import numpy as np
import pytest

from cgdmer_jax.data import leads
from cgdmer_jax.models import arithmetic, beat_arithmetic

LENGTH, PATCHES = 20, 12


def _recording(rng, period=43.0, batch=2):
  """Beats with a period that no patch divides: (B, 12, N, p)."""
  t = np.arange(LENGTH * PATCHES)
  phase = (t % period) / period
  waves = np.stack(
    [
      np.exp(-0.5 * ((phase - at) / width) ** 2)
      for at, width in ((0.3, 0.02), (0.36, 0.03), (0.7, 0.08))
    ]
  )
  dipole = rng.normal(size=(batch, 3, 3)) @ waves
  x = leads.VECTORS @ dipole
  return x.reshape(batch, 12, PATCHES, LENGTH).astype(np.float32)


def _loops(x, seen):
  """Distances of one recording, by their definition."""
  dipole = np.linalg.pinv(leads.VECTORS) @ x.reshape(12, -1)
  trust = np.repeat(seen, LENGTH)
  power = (trust * (dipole**2).sum(0)).sum() / trust.sum()
  places = LENGTH * (PATCHES - 1) + 1
  out = np.full((PATCHES, places), beat_arithmetic._FAR)
  for n in range(PATCHES):
    around = np.arange((n - 1) * LENGTH, (n + 2) * LENGTH)
    around = around[(around >= 0) & (around < len(trust))]
    for place in range(places):
      there = around + place - n * LENGTH
      inside = (there >= 0) & (there < len(trust))
      i, j = around[inside], there[inside]
      weight = trust[i] * trust[j]
      comparable = weight.sum() > 0.5 * trust[around].sum()
      visible = trust[place : place + LENGTH].mean() > 0.5
      apart = abs(place - n * LENGTH) > LENGTH // 2
      if comparable and visible and apart:
        square = ((dipole[:, i] - dipole[:, j]) ** 2).sum(0)
        out[n, place] = (weight * square).sum() / weight.sum() / power
  return out


def test_distances_are_those_of_loops():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 12, PATCHES, LENGTH)).astype(np.float32)
  seen = rng.uniform(size=(2, PATCHES)).astype(np.float32)
  seen[:, 4] = 0
  dipole = np.linalg.pinv(leads.VECTORS) @ x.reshape(2, 12, -1)
  trust = np.repeat(seen, LENGTH, axis=1)
  found = jax.jit(beat_arithmetic._distances, static_argnums=2)(
    dipole.astype(np.float32), trust, LENGTH
  )
  power = (trust * (dipole**2).sum(1)).sum(1) / trust.sum(1)
  for i in range(2):
    wanted = _loops(x[i], seen[i])
    got = np.asarray(found[i])
    far = wanted == beat_arithmetic._FAR
    np.testing.assert_array_equal(got == beat_arithmetic._FAR, far)
    np.testing.assert_allclose(
      got[~far] / power[i], wanted[~far], rtol=1e-4, atol=1e-4
    )


@pytest.fixture(scope="module")
def restore():
  module = arithmetic.Arithmetic()
  valid = np.ones((2, 12), bool)
  shape = 2, 12, PATCHES
  x = np.zeros((*shape, LENGTH), np.float32)
  params = jax.jit(module.init)(
    jax.random.key(0), x, np.ones(shape, bool), valid
  )
  return lambda x, shown: np.asarray(
    jax.jit(module.apply)(params, x, shown, valid)
  )


@pytest.mark.parametrize("period", [43.0, 61.0])
def test_a_hidden_time_of_a_periodic_recording_is_restored(restore, period):
  rng = np.random.default_rng(1)
  x = _recording(rng, period)
  shown = np.ones((2, 12, PATCHES), bool)
  shown[:, :, 5:7] = False
  given = np.where(shown[..., None], x, np.nan)  # hidden samples are not read
  restored = restore(given, shown)
  error = ((restored - x) ** 2)[~shown].sum() / (x**2)[~shown].sum()
  assert error < 0.15, error


def test_leads_are_enough_where_two_limb_leads_are_visible(restore):
  x = _recording(np.random.default_rng(2))
  shown = np.ones((2, 12, PATCHES), bool)
  shown[:, 2:6, 4] = False
  restored = restore(x, shown)
  error = ((restored - x) ** 2)[~shown].sum() / (x**2)[~shown].sum()
  assert error < 1e-4, error


def test_nothing_visible_is_no_nan(restore):
  x = _recording(np.random.default_rng(3))
  shown = np.zeros((2, 12, PATCHES), bool)
  shown[1, 0, 3] = True
  assert np.isfinite(restore(x, shown)).all()
