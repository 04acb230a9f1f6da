"""Statements are drawn whole, and words are masked as BERT's."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models import report_masking

pytestmark = pytest.mark.usefixtures("strict_promotion")

VOCABULARY = Vocabulary(500, 0, 1, 4, (0, 1, 2, 3, 4))


def test_token_mask_follows_bert():
  rng = np.random.default_rng(0)
  length = rng.integers(3, 39, 512)
  tokens = np.zeros((512, 40), np.int32)
  for row, n in zip(tokens, length, strict=True):
    row[: n + 2] = [2, *rng.integers(5, 500, n), 3]
  mask = report_masking.sample_token_mask(
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
  mask = report_masking.sample_token_mask(
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
  short, _ = report_masking.sample_statements(
    jax.random.key(0), tokens, statement, (1,), 5, 7
  )
  np.testing.assert_array_equal(short[:, :4], tokens[:, :4])
  assert (np.asarray(short)[:, 4] == 31).all()
  long, _ = report_masking.sample_statements(
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
  short, number = report_masking.sample_statements(
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
  cut, number = report_masking.sample_statements(
    key, tokens, statement, (5,), 4, 0
  )
  assert cut.tolist() == [[2, 7, 8, 3], [2, 7, 3, 0], [2, 3, 0, 0]]
  assert number.tolist() == [[-1, 0, 0, -1], [-1, 0, -1, -1], [-1] * 4]
  whole, same = report_masking.sample_statements(
    key, tokens, statement, (0,), 9, 0
  )
  assert whole.tolist() == tokens.tolist()
  assert same.tolist() == statement.tolist()
