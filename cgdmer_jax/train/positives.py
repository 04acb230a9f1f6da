"""Which ECGs and reports of a batch belong together, and how much.

About 800,000 MIMIC-IV-ECG records share some 180,000 texts, and reports that
differ still share statements. As plain negatives, matching pairs would be
pushed apart.
"""

from __future__ import annotations

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt32

from cgdmer_jax.arrays import Array, Leaf

KINDS = ("report", "statement")


@flax.struct.dataclass
class Texts:
  """Identifies the reports of B records; see `match`.

  Attributes:
    report: int32 (B,), number of the report; equal for equal reports.
    words: uint32 (B, 2), `fingerprint` of the tokens that are read.
    has_text: bool (B,), False for reports that say nothing.
    statements: uint32 (B, M, 2), `fingerprint_statements` of what is read; None
      where only whole reports are compared.
  """

  report: Leaf
  words: Leaf
  has_text: Leaf
  statements: Leaf | None = None


def match(a: Texts, b: Texts) -> tuple[Float[Array, "a b"], Bool[Array, "a b"]]:
  """Compares the records of `a` with those of `b`.

  Records with the same report belong together, and so do records whose reports
  are read with the same words. With statements, others belong together as far
  as these are the same: common ones, divided by all of both reports. A record
  without text matches no record, not even itself.

  Returns:
    How much each pair belongs together, 0 to 1; and for which pairs this is
    known because both records have a text.
  """
  same = a.report[:, None] == b.report[None, :]
  same |= jnp.all(a.words[:, None] == b.words[None, :], axis=-1)
  known = a.has_text[:, None] & b.has_text[None, :]
  share = same.astype(jnp.float32)
  if a.statements is not None:
    share = jnp.maximum(share, _share_of_statements(a.statements, b.statements))
  return jnp.where(known, share, 0.0), known


def false_negatives(texts: Texts) -> Float[Array, ""]:
  """Sum of how much pairs off the diagonal belong together."""
  share, _ = match(texts, texts)
  return jnp.sum(share) - jnp.sum(texts.has_text, dtype=jnp.float32)


def _share_of_statements(
  a: UInt32[Array, "a slot two"], b: UInt32[Array, "b slot two"]
) -> Float[Array, "a b"]:
  """Jaccard index of the sets of statements of each pair."""
  slots = jnp.arange(1, a.shape[1] + 1)[None]
  used_a, used_b = jnp.any(a > 0, axis=-1), jnp.any(b > 0, axis=-1)
  # As many rounds as the longest reports need, and no table of all pairs of
  # statements.
  num_a, num_b = (jnp.max(jnp.where(x, slots, 0)) for x in (used_a, used_b))
  total = used_a.sum(1, dtype=jnp.int32)[:, None]
  total += used_b.sum(1, dtype=jnp.int32)[None]

  def compare(i, common):
    x, y = a[:, i // num_b], b[:, i % num_b]
    same = jnp.all(x[:, None] == y[None], axis=-1)
    return common + (same & used_a[:, i // num_b, None]).astype(jnp.int32)

  common = jax.lax.fori_loop(0, num_a * num_b, compare, total * 0)
  common = common.astype(jnp.float32)
  return common / jnp.maximum(total.astype(jnp.float32) - common, 1.0)


def fingerprint(
  tokens: Int[Array, "batch token"],
) -> UInt32[Array, "batch two"]:
  """Hashes the tokens of each report, with their places, to 64 bits.

  Different reports have the same hash with a probability of about 2^-64.
  Without it, all tokens would have to be compared for each pair.
  """
  place = jnp.arange(tokens.shape[1], dtype=jnp.uint32)[None]
  return jnp.sum(_mix(tokens, place), axis=1, dtype=jnp.uint32)


def fingerprint_statements(
  tokens: Int[Array, "batch token"],
  statement: Int[Array, "batch token"],
  separator_ids: tuple[int, ...],
) -> UInt32[Array, "batch slot two"]:
  """Hashes each statement of each report, wherever it stands, to 64 bits.

  Args:
    tokens: reports.
    statement: number of the statement that a token belongs to; -1 for none.
      Equal ones are next to each other.
    separator_ids: tokens that say nothing at the end of a statement.

  Returns:
    The hashes of different statements; 0 in slots without one, of which there
    are as many as tokens.
  """
  place = jnp.arange(tokens.shape[1])[None]
  edge = jnp.full((len(tokens), 1), -2, statement.dtype)
  is_first = statement != jnp.concatenate([edge, statement[:, :-1]], axis=1)
  is_last = statement != jnp.concatenate([statement[:, 1:], edge], axis=1)
  start = jax.lax.cummax(jnp.where(is_first, place, 0), axis=1)
  separators = jnp.asarray(separator_ids, tokens.dtype)
  is_word = (statement >= 0) & ~(is_last & jnp.isin(tokens, separators))
  marks = _mix(tokens, (place - start).astype(jnp.uint32))
  marks = jnp.where(is_word[..., None], marks, jnp.uint32(0))
  slot = jnp.cumsum(is_first & (statement >= 0), axis=1, dtype=jnp.int32) - 1
  belongs = place[..., None] == slot[:, None]  # slot, token
  marks = jnp.where(belongs[..., None], marks[:, None], jnp.uint32(0))
  marks = jnp.sum(marks, axis=2, dtype=jnp.uint32)
  # A statement that a report repeats counts once.
  same = jnp.all(marks[:, :, None] == marks[:, None], axis=-1)
  is_repeated = jnp.any(jnp.tril(same, -1), axis=-1)
  return jnp.where(is_repeated[..., None], jnp.uint32(0), marks)


def _mix(
  tokens: Int[Array, "batch token"], place: UInt32[Array, "#batch token"]
) -> UInt32[Array, "batch token two"]:
  """Mixes the bits of tokens and places; a sum of them is a hash."""
  seed = jnp.asarray([0x9E3779B9, 0x85EBCA6B], jnp.uint32)[None, None]
  x = (tokens.astype(jnp.uint32)[..., None] + 1) * seed
  x += (place[..., None] + 1) * jnp.uint32(0xC2B2AE35)
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    x = (x ^ (x >> shift)) * jnp.uint32(factor)
  return x ^ (x >> 16)
