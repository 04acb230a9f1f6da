"""Which pairs belong together, against sets in Python."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.train import positives
from tests import small
from tests.train.statements import read_statements

pytestmark = pytest.mark.usefixtures("strict_promotion")

END, COMMA = 9, 8  # ids that may end a statement


def test_pairs_by_report_and_by_words():
  tokens = jnp.asarray(
    [[2, 5, 6, 3], [2, 6, 5, 3], [2, 5, 6, 3], [2, 7, 3, 0], [2, 3, 0, 0]]
    + [[2, 3, 0, 0]],
    jnp.int32,
  )
  report = jnp.asarray([0, 1, 2, 1, 3, 3], jnp.int32)
  has_text = jnp.asarray([True, True, True, True, False, False])
  texts = positives.Texts(report, positives.fingerprint(tokens), has_text)
  share, known = positives.match(texts, texts)
  expected = np.eye(6, dtype=bool)
  expected[0, 2] = expected[2, 0] = True  # the same words, in this order
  expected[1, 3] = expected[3, 1] = True  # parts of the same report
  expected[4, 4] = expected[5, 5] = False  # empty
  np.testing.assert_array_equal(share, expected)
  assert positives.false_negatives(texts) == 4
  np.testing.assert_array_equal(known, np.outer(has_text, has_text))


def test_fingerprints_of_different_tokens_differ():
  rng = np.random.default_rng(0)
  tokens = np.unique(rng.integers(0, 4, (3000, 6)), axis=0).astype(np.int32)
  marks = np.asarray(positives.fingerprint(jnp.asarray(tokens)))
  assert len(np.unique(marks, axis=0)) == len(tokens) > 2000
  for half in marks.T:  # each is good by itself
    assert len(np.unique(half)) == len(tokens)


def test_fingerprints_of_statements():
  tokens = jnp.asarray(
    [
      [2, 5, 6, END, 7, 5, 3, 0],
      [2, 7, 5, COMMA, 5, 6, 3, 0],  # the same two, in another order
      [2, 6, 5, 5, END, END, 3, 0],
      [2, 5, 6, 5, 6, END, 7, 3],  # the first one twice
    ]
  )
  statement = jnp.asarray(
    [
      [-1, 0, 0, 0, 1, 1, -1, -1],
      [-1, 0, 0, 0, 2, 2, -1, -1],  # 1 was not drawn
      [-1, 0, 0, 1, 1, 2, -1, -1],  # the last says nothing
      [-1, 0, 0, 1, 1, 1, 2, -1],
    ]
  )
  marks = np.asarray(
    positives.fingerprint_statements(tokens, statement, (END, COMMA))
  )
  assert marks.shape == (4, 8, 2) and marks.dtype == np.uint32
  used = marks.any(-1)
  number = {tuple(x): i for i, x in enumerate(np.unique(marks[used], axis=0))}
  found = [[number.get(tuple(x)) for x in row] for row in marks]
  a, b = found[0][:2]
  assert found[0] == [a, b, *[None] * 6] and a != b
  assert found[1] == [b, a, *[None] * 6]
  assert len({a, b, *found[2][:2]}) == 4 and found[2][2:] == [None] * 6
  assert found[3][:2] == [a, None] and found[3][2] not in (a, b)
  assert len(number) == 5
  without = positives.fingerprint_statements(tokens, statement, ())
  assert without[0, 0].tolist() != marks[0, 0].tolist()


def test_share_of_statements_equals_sets():
  tokens, statement, report, has_text = read_statements(40)

  @jax.jit
  def compare(tokens, statement, report, has_text):
    read = positives.fingerprint(tokens)
    marks = positives.fingerprint_statements(tokens, statement, (END, COMMA))
    texts = positives.Texts(report, read, has_text, marks)
    plain = texts.replace(statements=None)
    return (
      *positives.match(texts, texts),
      positives.match(plain, plain)[0],
      positives.false_negatives(texts),
    )

  share, known, by_report, count = map(
    np.asarray, compare(tokens, statement, report, has_text)
  )
  expected = np.zeros((40, 40))
  for i in range(40):
    for j in range(40):
      if not (has_text[i] and has_text[j]):
        continue
      sets = []
      for k in (i, j):
        parts = {}
        for token, number in zip(tokens[k], statement[k], strict=True):
          if number >= 0 and token not in (END, COMMA):
            parts.setdefault(number, []).append(token)
        sets.append(set(map(tuple, parts.values())))
      same = report[i] == report[j] or (tokens[i] == tokens[j]).all()
      both = len(sets[0] | sets[1])
      expected[i, j] = 1 if same else len(sets[0] & sets[1]) / max(both, 1)
  np.testing.assert_allclose(share, expected, rtol=1e-6)
  assert len(np.unique(expected)) > 4
  np.testing.assert_array_equal(known, np.outer(has_text, has_text))
  np.testing.assert_allclose(count, expected.sum() - has_text.sum(), rtol=1e-5)
  # What whole reports decide stays, and so do pairs with nothing in common.
  assert set(np.unique(by_report)) == {0, 1}
  assert (expected[by_report == 1] == 1).all()
  assert not by_report[expected == 0].any()


@pytest.mark.parametrize("kind", positives.KINDS)
def test_the_objective_compares_what_it_reads(kind):
  config = small.config()
  with config.unlocked():
    config.loss.positives = kind
    config.data.statements = (0,)
  batch = jax.tree.map(jnp.asarray, small.batch())
  # Record 5 says the first statement of record 4, and nothing else.
  tokens = batch.tokens.at[4, :6].set(jnp.asarray([2, 20, 21, 22, 23, 24]))
  tokens = tokens.at[5].set(jnp.where(jnp.arange(16) < 6, tokens[4], 0))
  statement = jnp.where(tokens > 4, batch.statement, -1).at[4, 5].set(0)
  statement = statement.at[5].set(jnp.where(tokens[5] > 4, 0, -1))
  batch = batch.replace(tokens=tokens, statement=statement)
  objective = small.objective(config)

  @jax.jit
  def share(batch):
    _, words, number = objective.draw(batch, jax.random.key(0))
    texts = objective._texts(batch, words.original, number)
    return positives.match(texts, texts)[0]

  num_statements = int(statement[4].max()) + 1
  assert num_statements > 1
  one = 1 / num_statements if kind == "statement" else 0
  np.testing.assert_allclose(share(batch)[4, 5], one, rtol=1e-6)
