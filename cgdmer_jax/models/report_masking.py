"""What is hidden of a report: statements and words.

Counts are static, and every mask is a pure function of a PRNG key, as in
`masking`.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int, Key

from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models import masking


@flax.struct.dataclass
class TokenMask:
  """Masked report tokens.

  Attributes:
    original: int32 (B, S), the report before any of its tokens was masked.
    tokens: int32 (B, S), what the report encoder reads.
    position: int32 (B, K), slots of the tokens to predict.
    target: int32 (B, K), their original ids.
    weight: float32 (B, K), 1 for a token to predict, 0 for an unused slot.
  """

  original: Leaf
  tokens: Leaf
  position: Leaf
  target: Leaf
  weight: Leaf


def unmasked_tokens(tokens: Int[Array, "batch token"]) -> TokenMask:
  """Masks nothing; no token is to be predicted."""
  empty = jnp.zeros((tokens.shape[0], 0), jnp.int32)
  return TokenMask(tokens, tokens, empty, empty, empty.astype(jnp.float32))


def unmask(words: TokenMask, is_whole: Bool[Array, " batch"]) -> TokenMask:
  """Shows whole reports where `is_whole`; none of their words is predicted."""
  row = is_whole[:, None]
  return words.replace(
    tokens=jnp.where(row, words.original, words.tokens),
    weight=jnp.where(row, 0.0, words.weight),
  )


def sample_statements(
  key: Key[Array, ""],
  tokens: Int[Array, "batch token"],
  statement: Int[Array, "batch token"],
  counts: Sequence[int],
  length: int,
  pad_id: int,
) -> tuple[Int[Array, "batch kept"], Int[Array, "batch kept"]]:
  """Keeps some statements of each report, in their order.

  A report lists several findings, a zero-shot prompt names one. A model that
  has only read whole reports cannot tell apart findings that occur together.
  With parts of reports, alignment learns each statement by itself.

  Args:
    key: PRNG key.
    tokens: reports; [CLS] first, [SEP] last, then padding.
    statement: number of the statement that each token belongs to, from 0; -1
      for [CLS], [SEP] and padding.
    counts: how many statements to keep; each report draws one of these
      numbers, all equally likely. 0 stands for the whole report.
    length: tokens to keep at most; a report that is cut still ends with [SEP].
    pad_id: id of padding.

  Returns:
    The shortened reports, (B, min(length, S)), and `statement` for them.
  """
  count_key, order_key = jax.random.split(key)
  b, s = tokens.shape
  length = min(length, s)
  total = jnp.max(statement, axis=1, keepdims=True) + 1
  wanted = jax.random.choice(count_key, jnp.asarray(counts), (b, 1))
  wanted = jnp.where(wanted == 0, total, wanted)
  exists = jnp.arange(s)[None] < total  # at most one statement a token
  noise = jax.random.uniform(order_key, (b, s)) + masking.put_last(exists)
  chosen = (masking.rank(noise) < wanted) & exists
  kept = jnp.take_along_axis(chosen, jnp.maximum(statement, 0), axis=1)
  kept = jnp.where(statement < 0, tokens != pad_id, kept)
  order = jnp.argsort(~kept, axis=-1, stable=True)
  last = jnp.sum(kept, axis=1, keepdims=True) - 1  # new place of [SEP]
  place = jnp.arange(length)[None]
  place = jnp.where(place == length - 1, jnp.maximum(last, place), place)
  source = jnp.take_along_axis(order, place, axis=1)
  short, number = (
    jnp.take_along_axis(x, source, axis=1) for x in (tokens, statement)
  )
  exists = place <= last
  return jnp.where(exists, short, pad_id), jnp.where(exists, number, -1)


def sample_token_mask(
  key: Key[Array, ""],
  tokens: Int[Array, "batch token"],
  ratio: float,
  vocabulary: Vocabulary,
) -> TokenMask:
  """BERT's masking (Devlin et al. 2019, section 3.1) with a static count.

  Of a report's n ordinary tokens round(ratio * n), but at least one, are to be
  predicted. Each of them becomes [MASK] with a probability of 80 %, a random
  ordinary token with 10 %, which may be the original one, and stays with 10 %,
  independently of the others. Only they go through the vocabulary head.

  Args:
    key: PRNG key.
    tokens: ids; special ones ([PAD], [CLS], ...) are not masked.
    ratio: share of the ordinary tokens to predict.
    vocabulary: ids of the tokenizer.

  Returns:
    The masked reports of the batch.
  """
  order_key, kind_key, random_key = jax.random.split(key, 3)
  length = tokens.shape[1]
  slots = max(1, round(ratio * length))
  ordinary = ~jnp.isin(tokens, jnp.asarray(vocabulary.special_ids))
  count = jnp.sum(ordinary, axis=1, keepdims=True)
  count = count.astype(jnp.float32)
  wanted = jnp.clip(jnp.round(ratio * count), jnp.minimum(count, 1.0), slots)
  wanted = wanted.astype(jnp.int32)
  noise = jax.random.uniform(order_key, tokens.shape) + masking.put_last(
    ordinary
  )
  position = jnp.argsort(noise, axis=-1)[:, :slots]
  weight = (jnp.arange(slots)[None] < wanted).astype(jnp.float32)
  target = jnp.take_along_axis(tokens, position, axis=1)
  kind = jax.random.uniform(kind_key, tokens.shape)
  num_ids = vocabulary.size - len(vocabulary.special_ids)
  other = jax.random.randint(random_key, tokens.shape, 0, num_ids, tokens.dtype)
  for special_id in vocabulary.special_ids:  # ascending: skips every one
    other += (other >= special_id).astype(other.dtype)
  replaced = jnp.where(
    kind < 0.8, vocabulary.mask_id, jnp.where(kind < 0.9, other, tokens)
  )
  chosen = masking.rank(noise) < wanted
  return TokenMask(
    original=tokens,
    tokens=jnp.where(chosen, replaced, tokens),
    position=position,
    target=target,
    weight=weight,
  )
