"""Masks hide exactly what they say; permutations are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.models import masking

pytestmark = pytest.mark.usefixtures("strict_promotion")

B, L, N = 32, 12, 20


def sample(kind, lead_valid=None, seed=0, lead_ratio=0.5, time_ratio=0.4):
  valid = np.ones((B, L), bool) if lead_valid is None else lead_valid
  return masking.sample_patch_mask(
    jax.random.key(seed), jnp.asarray(valid), N, kind, lead_ratio, time_ratio
  )


def visible_grid(mask):
  grid = np.zeros((B, L * N), int)
  place = np.arange(B)[:, None], np.asarray(mask.visible)
  np.add.at(grid, place, np.asarray(mask.seen))
  assert grid.max() == 1  # no patch twice
  return grid.reshape(B, L, N).astype(bool)


@pytest.mark.parametrize("kind", masking.KINDS)
def test_visible_and_hidden_are_complements(kind):
  mask = sample(kind)
  grid = visible_grid(mask)
  np.testing.assert_array_equal(np.asarray(mask.hidden), ~grid)
  if kind != "mixed":  # there leads or times need not fill the slots
    assert np.asarray(mask.seen).all()
  order = np.asarray(mask.order)
  np.testing.assert_array_equal(
    np.sort(order, 1), np.tile(range(L * N), (B, 1))
  )
  inverse = np.take_along_axis(order, np.asarray(mask.inverse), 1)
  np.testing.assert_array_equal(inverse, np.tile(range(L * N), (B, 1)))
  if kind != "none":  # different records, different keys: different masks
    assert len(np.unique(grid.reshape(B, -1), axis=0)) > 1
    assert (visible_grid(sample(kind, seed=1)) != grid).any()


def test_kinds_hide_what_they_say():
  per_lead = {k: visible_grid(sample(k)).sum(2) for k in masking.KINDS}
  assert (per_lead["none"] == N).all()
  # spatial: 6 leads whole, 6 leads gone.
  assert (np.sort(per_lead["spatial"], 1) == [0] * 6 + [N] * 6).all()
  # temporal: the same 12 of 20 times in every lead.
  grid = visible_grid(sample("temporal"))
  assert (grid == grid[:, :1]).all() and (per_lead["temporal"] == 12).all()
  # spatial_temporal: 6 leads gone, 12 times in each other, not the same ones.
  assert (np.sort(per_lead["spatial_temporal"], 1) == [0] * 6 + [12] * 6).all()
  grid = visible_grid(sample("spatial_temporal"))
  rows = grid[0][grid[0].any(1)]
  assert len(np.unique(rows, axis=0)) == 6
  # random: as many as spatial_temporal, in no pattern.
  assert (per_lead["random"].sum(1) == 6 * 12).all()
  assert len(np.unique(per_lead["random"])) > 2


def kinds_of(grid):
  """Which of its three ways to hide `mixed` took for each record."""
  count = grid.sum(2)
  whole = ((count == 0) | (count == grid.shape[2])).all(1)
  same = (grid == grid[:, :1]).all((1, 2))
  return np.where(same, "times", np.where(whole, "leads", "anywhere"))


def test_mixed_hides_in_three_ways():
  grid = np.concatenate(
    [visible_grid(sample("mixed", seed=s)) for s in range(9)]
  )
  kind = kinds_of(grid)
  count = grid.sum((1, 2))
  assert sample("mixed").num_visible == 72  # as `random`: 6 leads x 12 times
  assert (count[kind == "anywhere"] == 72).all()
  assert (count[kind == "times"] == 72).all()  # 6 times of 12 leads
  leads, often = np.unique(count[kind == "leads"] // N, return_counts=True)
  assert leads.tolist() == [1, 2, 3]  # 3 x 20 of 72 slots
  # A third and a ninth of 288, within five standard errors.
  assert np.abs(np.unique(kind, return_counts=True)[1] - 96).max() < 40
  assert np.abs(often - 32).max() < 27


@pytest.mark.parametrize("valid_leads", [1, 2, 12])
def test_mixed_always_shows_a_lead_or_a_time(valid_leads):
  """Also where a product of the ratios would leave a single patch."""
  valid = np.broadcast_to(np.arange(L) < valid_leads, (B, L))
  mask = sample("mixed", valid, lead_ratio=1.0, time_ratio=1.0)
  assert mask.num_visible == N
  grid = visible_grid(mask)
  np.testing.assert_array_equal(
    np.asarray(mask.hidden), ~grid & valid[..., None]
  )
  kind, count = kinds_of(grid[:, :valid_leads]), grid.sum((1, 2))
  if valid_leads > 1:  # of one lead, some times look like patches anywhere
    assert set(kind) == {"anywhere", "leads", "times"}
    assert (count[kind == "times"] == valid_leads).all()
    assert (count[kind != "times"] == N).all()
  assert count.min() >= 1


def test_every_lead_and_time_is_hidden_equally_often():
  hidden = np.mean(
    [~visible_grid(sample("spatial_temporal", seed=s)) for s in range(60)],
    axis=(0, 1),
  )
  # 1 - 1/2 * 12/20 = 0.7; 1,920 draws a patch: standard error 0.0105.
  np.testing.assert_allclose(hidden, 0.7, atol=5 * 0.0105)


@pytest.mark.parametrize("kind", masking.KINDS)
def test_missing_leads_are_neither_seen_nor_scored(kind):
  valid = np.ones((B, L), bool)
  valid[:, 3] = False
  valid[0, 4:10] = False  # five valid leads: fewer than the six slots
  mask = sample(kind, valid)
  assert not np.asarray(mask.hidden)[~valid].any()
  lead = np.asarray(mask.visible) // N
  seen = np.asarray(mask.seen)
  could_be_seen = np.take_along_axis(valid, lead, 1)
  assert not (seen & ~could_be_seen).any()
  if kind != "mixed":
    np.testing.assert_array_equal(seen, could_be_seen)
  if kind in ("spatial", "spatial_temporal"):
    assert seen[1:].all()  # enough valid leads: no slot is wasted
    assert set(lead[0][seen[0]]) == set(np.flatnonzero(valid[0]))
  if kind == "random":
    assert seen[1:].all()


def test_at_least_one_lead_and_time_stays_visible():
  mask = sample("spatial_temporal", lead_ratio=1.0, time_ratio=1.0)
  assert mask.num_visible == 1


def test_unknown_kind():
  with pytest.raises(ValueError, match="unknown mask kind 'diagonal'"):
    sample("diagonal")


def test_permute_equals_gather_in_value_and_gradient():
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
  weight = jnp.asarray(rng.normal(size=(3, 7, 2)), jnp.float32)
  order = np.stack([rng.permutation(7) for _ in range(3)])
  inverse = np.argsort(order, 1)

  def by_permute(x):
    return jnp.sum(weight * masking.permute(x, order, inverse) ** 2)

  def by_gather(x):
    y = jnp.take_along_axis(x, jnp.asarray(order)[..., None], axis=1)
    return jnp.sum(weight * y**2)

  np.testing.assert_array_equal(by_permute(x), by_gather(x))
  np.testing.assert_array_equal(jax.grad(by_permute)(x), jax.grad(by_gather)(x))
