"""Masks hide exactly what they say; permutations and token masks are exact."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models import masking

pytestmark = pytest.mark.usefixtures("strict_promotion")

VOCABULARY = Vocabulary(500, 0, 1, 4, (0, 1, 2, 3, 4))
B, L, N = 32, 12, 20


def sample(kind, lead_valid=None, seed=0, lead_ratio=0.5, time_ratio=0.4):
  valid = np.ones((B, L), bool) if lead_valid is None else lead_valid
  return masking.sample_patch_mask(
    jax.random.key(seed), jnp.asarray(valid), N, kind, lead_ratio, time_ratio
  )


def visible_grid(mask):
  grid = np.zeros((B, L * N), int)
  np.add.at(grid, (np.arange(B)[:, None], np.asarray(mask.visible)), 1)
  assert grid.max() == 1  # no patch twice
  return grid.reshape(B, L, N).astype(bool)


@pytest.mark.parametrize("kind", masking.KINDS)
def test_visible_and_hidden_are_complements(kind):
  mask = sample(kind)
  grid = visible_grid(mask)
  np.testing.assert_array_equal(np.asarray(mask.hidden), ~grid)
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
  np.testing.assert_array_equal(seen, np.take_along_axis(valid, lead, 1))
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


def test_token_mask_follows_bert():
  rng = np.random.default_rng(0)
  length = rng.integers(3, 39, 512)
  tokens = np.zeros((512, 40), np.int32)
  for row, n in zip(tokens, length, strict=True):
    row[: n + 2] = [2, *rng.integers(5, 500, n), 3]
  mask = masking.sample_token_mask(
    jax.random.key(0), jnp.asarray(tokens), 0.15, VOCABULARY
  )
  position, weight = np.asarray(mask.position), np.asarray(mask.weight)
  used = weight > 0
  wanted = np.clip(np.round(0.15 * length.astype(np.float32)), 1, 6)
  np.testing.assert_array_equal(weight.sum(1), wanted)
  target = np.take_along_axis(tokens, position, 1)
  np.testing.assert_array_equal(np.asarray(mask.target)[used], target[used])
  assert (target[used] >= 5).all()  # never a special token
  changed = np.asarray(mask.tokens) != tokens
  rows = np.broadcast_to(np.arange(512)[:, None], position.shape)
  chosen = np.zeros(tokens.shape, bool)
  chosen[rows[used], position[used]] = True
  assert chosen.sum() == used.sum()  # no position twice
  assert not (changed & ~chosen).any()  # nothing else is touched
  read = np.asarray(mask.tokens)[chosen]
  assert abs((read == 4).mean() - 0.8) < 0.04
  assert abs((read == tokens[chosen]).mean() - 0.1) < 0.03
  assert (read >= 4).all()


def test_special_tokens_may_have_any_ids():
  rng = np.random.default_rng(1)
  vocabulary = Vocabulary(40, 7, 3, 20, (3, 7, 20, 30, 31))
  ordinary = np.setdiff1d(np.arange(40), vocabulary.special_ids)
  tokens = np.full((2000, 12), 7, np.int32)
  tokens[:, :8] = [30, *[0] * 6, 31]
  tokens[:, 1:7] = rng.choice(ordinary, (2000, 6))
  mask = masking.sample_token_mask(
    jax.random.key(0), jnp.asarray(tokens), 0.5, vocabulary
  )
  read = np.asarray(mask.tokens)
  assert (np.asarray(mask.weight).sum(1) == 3).all()
  assert not ((read != tokens) & ~np.isin(tokens, ordinary)).any()
  replaced = read[read != tokens]
  assert (replaced == 20).mean() > 0.85
  others = replaced[replaced != 20]
  assert set(others) == set(ordinary)  # any word, and never a special one
  statement = np.where(np.isin(tokens, ordinary), 0, -1).astype(np.int32)
  short, _ = masking.sample_statements(
    jax.random.key(0), tokens, statement, (1,), 5, 7
  )
  np.testing.assert_array_equal(short[:, :4], tokens[:, :4])
  assert (np.asarray(short)[:, 4] == 31).all()
  long, _ = masking.sample_statements(
    jax.random.key(0), tokens, statement, (1,), 12, 7
  )
  np.testing.assert_array_equal(long, tokens)


def statements_of(row, tokens, statement):
  """The statements that the tokens `row` are made of, in their order."""
  number = {t: n for t, n in zip(tokens, statement, strict=True)}
  return list(dict.fromkeys(number[t] for t in row if number.get(t, -1) >= 0))


def test_statements_are_drawn_whole_and_in_order():
  # Token ids are unique, so that each kept token tells where it came from.
  tokens = np.array([[2, 10, 11, 12, 13, 14, 15, 3, 0, 0]] * 4000, np.int32)
  statement = np.array([[-1, 0, 0, 1, 2, 2, 2, -1, -1, -1]] * 4000, np.int32)
  short, number = masking.sample_statements(
    jax.random.key(0), tokens, statement, (1, 2, 0), 10, 0
  )
  short = np.asarray(short)
  owner = dict(zip(tokens[0].tolist(), statement[0].tolist(), strict=True))
  np.testing.assert_array_equal(number, np.vectorize(owner.get)(short))
  seen = collections.Counter()
  parts = {0: [10, 11], 1: [12], 2: [13, 14, 15]}
  for row in short:
    kept = statements_of(row, tokens[0], statement[0])
    expected = [2, *sum((parts[k] for k in kept), []), 3]
    assert kept == sorted(kept)
    assert row.tolist() == expected + [0] * (10 - len(expected))
    seen[tuple(kept)] += 1
  singles, pairs = [(0,), (1,), (2,)], [(0, 1), (0, 2), (1, 2)]
  assert set(seen) == {*singles, *pairs, (0, 1, 2)}
  for kept in singles + pairs:  # a third of 4000, three ways: 444 +- 20
    assert abs(seen[kept] - 4000 / 9) < 100


def test_statements_of_short_long_and_empty_reports():
  tokens = np.array(
    [[2, 7, 8, 9, 10, 3], [2, 7, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0]], np.int32
  )
  statement = np.array(
    [[-1, 0, 0, 1, 1, -1], [-1, 0, -1, -1, -1, -1], [-1] * 6], np.int32
  )
  key = jax.random.key(1)
  cut, number = masking.sample_statements(key, tokens, statement, (5,), 4, 0)
  assert cut.tolist() == [[2, 7, 8, 3], [2, 7, 3, 0], [2, 3, 0, 0]]
  assert number.tolist() == [[-1, 0, 0, -1], [-1, 0, -1, -1], [-1] * 4]
  whole, same = masking.sample_statements(key, tokens, statement, (0,), 9, 0)
  assert whole.tolist() == tokens.tolist()
  assert same.tolist() == statement.tolist()
