"""What is hidden: patches of the ECG, statements and words of the report.

Counts are static, so shapes never depend on data, and every mask is a pure
function of a PRNG key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Key

from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data.reports import Vocabulary


@flax.struct.dataclass
class PatchMask:
  """Which of the L x N patches of each record the encoder sees.

  Attributes:
    order: int32 (B, L*N), a permutation of the flat patch index lead * N + time
      with the visible patches first, in ascending order.
    inverse: int32 (B, L*N), the inverse permutation.
    seen: bool (B, V), False where a visible slot holds a patch of a missing
      lead, because too few leads are valid. Nothing attends to such a slot.
    hidden: bool (B, L, N), patches to be reconstructed: not visible, and of a
      valid lead.
    num_visible: V, the number of visible slots.
  """

  order: Leaf
  inverse: Leaf
  seen: Leaf
  hidden: Leaf
  num_visible: int = flax.struct.field(pytree_node=False)

  @property
  def visible(self) -> Int[Array, "batch visible"]:
    """Flat index lead * N + time of the visible patches."""
    return self.order[:, : self.num_visible]


def _rank(noise: Array) -> Array:
  """Rank of each entry along the last axis."""
  return jnp.argsort(jnp.argsort(noise, axis=-1), axis=-1)


def _put_last(exists: Bool[Array, ...]) -> Float[Array, ...]:
  """Added to noise below 1, ranks entries that do not exist last."""
  return jnp.where(exists, 0.0, 2.0)


def num_hidden(count: int, ratio: float) -> int:
  """How many of `count` are hidden; at least one stays visible."""
  return min(round(count * ratio), count - 1)


class Grid(NamedTuple):
  """The L x N patches of each record, for a kind of mask to choose from.

  Attributes:
    batch: B.
    leads: L.
    times: N, patches a lead.
    visible_leads: how many leads stay in view.
    visible_times: how many patches of a lead stay in view.
    missing: float (B, L), 2 where a lead is missing and 0 elsewhere. Added to
      noise below 1, it ranks missing leads last.
  """

  batch: int
  leads: int
  times: int
  visible_leads: int
  visible_times: int
  missing: Float[Array, "batch lead"]


# (lead key, time key, grid) -> which patches stay in view, bool (B, L, N), and
# how many these are in each record, a static number.
Kind = Callable[
  [Key[Array, ""], Key[Array, ""], Grid], tuple[Bool[Array, "b l n"], int]
]


def _random(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Leaves patches anywhere in view, as many as `spatial_temporal`."""
  del lead_key
  count = grid.visible_leads * grid.visible_times
  shape = grid.batch, grid.leads, grid.times
  noise = jax.random.uniform(time_key, shape) + grid.missing[..., None]
  rank = _rank(noise.reshape(grid.batch, -1))
  return (rank < count).reshape(shape), count


def _temporal(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Leaves the same times of every lead in view."""
  del lead_key
  rank = _rank(jax.random.uniform(time_key, (grid.batch, 1, grid.times)))
  shape = grid.batch, grid.leads, grid.times
  visible = jnp.broadcast_to(rank < grid.visible_times, shape)
  return visible, grid.leads * grid.visible_times


def _spatial(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Leaves whole leads in view."""
  del time_key
  noise = jax.random.uniform(lead_key, (grid.batch, grid.leads))
  visible = _rank(noise + grid.missing) < grid.visible_leads
  shape = grid.batch, grid.leads, grid.times
  visible = jnp.broadcast_to(visible[..., None], shape)
  return visible, grid.visible_leads * grid.times


def _spatial_temporal(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Hides whole leads, and in each of the others times of its own."""
  visible, _ = _spatial(lead_key, time_key, grid)
  rank = _rank(jax.random.uniform(time_key, visible.shape))
  visible &= rank < grid.visible_times
  return visible, grid.visible_leads * grid.visible_times


def _mixed(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Draws `random`, `temporal` or some whole leads for each record.

  All have the slots of `random`. Of whole leads any number from one to as many
  as fit is in view, of times as many as fit.
  """
  kind_key, count_key, lead_key = jax.random.split(lead_key, 3)
  count = grid.visible_leads * grid.visible_times
  most = max(count // grid.times, 1)
  anywhere, _ = _random(lead_key, time_key, grid)
  times, _ = _temporal(
    lead_key, time_key, grid._replace(visible_times=max(count // grid.leads, 1))
  )
  noise = jax.random.uniform(lead_key, (grid.batch, grid.leads))
  number = jax.random.randint(count_key, (grid.batch, 1), 1, most + 1)
  leads = jnp.broadcast_to(
    (_rank(noise + grid.missing) < number)[..., None], anywhere.shape
  )
  kind = jax.random.randint(kind_key, (grid.batch, 1, 1), 0, 3)
  visible = jnp.where(kind == 0, anywhere, jnp.where(kind == 1, times, leads))
  return visible, count


_KINDS: dict[str, Kind] = {
  "random": _random,
  "temporal": _temporal,
  "spatial": _spatial,
  "spatial_temporal": _spatial_temporal,
  "mixed": _mixed,
}
KINDS = ("none", *_KINDS)


def sample_patch_mask(
  key: Key[Array, ""],
  lead_valid: Bool[Array, "batch lead"],
  num_patches: int,
  kind: str,
  lead_ratio: float,
  time_ratio: float,
) -> PatchMask:
  """Draws a mask for each record.

  Kinds: `spatial` hides `lead_ratio` of the leads whole; `temporal` hides the
  same `time_ratio` of the times in every lead; `spatial_temporal` hides
  `lead_ratio` of the leads whole and, independently in each remaining lead,
  `time_ratio` of its patches; `random` hides patches anywhere, as many as
  `spatial_temporal` while the valid leads fill the leads in view, and fewer
  otherwise; `none` hides nothing.

  Missing leads are never seen and never a target: valid leads are taken first,
  and a slot that only a missing lead could fill is marked in `seen`.

  Args:
    key: PRNG key.
    lead_valid: False where a lead is missing in the record.
    num_patches: N, patches a lead.
    kind: one of `KINDS`.
    lead_ratio: share of the leads that are hidden whole.
    time_ratio: share of the patches of a lead that are hidden.

  Returns:
    The mask of the batch.

  Raises:
    ValueError: unknown kind.
  """
  if kind not in KINDS:
    raise ValueError(f"unknown mask kind {kind!r}; one of {', '.join(KINDS)}")
  if kind == "none":
    return full_view(lead_valid, num_patches)
  b, l = lead_valid.shape
  grid = Grid(
    b,
    l,
    num_patches,
    l - num_hidden(l, lead_ratio),
    num_patches - num_hidden(num_patches, time_ratio),
    _put_last(lead_valid),
  )
  lead_key, time_key = jax.random.split(key)
  visible, num_visible = _KINDS[kind](lead_key, time_key, grid)
  return patch_mask(visible, lead_valid, num_visible)


def patch_mask(
  visible: Bool[Array, "batch lead patch"],
  lead_valid: Bool[Array, "batch lead"],
  num_visible: int,
) -> PatchMask:
  """Makes the mask that leaves given patches in view.

  Args:
    visible: which patches; those of missing leads are not seen even then.
    lead_valid: False where a lead is missing in the record.
    num_visible: V, number of slots; at least the visible patches of any record.
      Slots that a record does not fill are marked in `seen`.
  """
  b, l, n = visible.shape
  valid = jnp.broadcast_to(lead_valid[..., None], visible.shape)
  order = jnp.argsort(~visible.reshape(b, l * n), axis=-1, stable=True)
  seen = (visible & valid).reshape(b, l * n)
  return PatchMask(
    order=order,
    inverse=jnp.argsort(order, axis=-1),
    seen=jnp.take_along_axis(seen, order[:, :num_visible], axis=1),
    hidden=~visible & valid,
    num_visible=num_visible,
  )


def full_view(
  lead_valid: Bool[Array, "batch lead"], num_patches: int
) -> PatchMask:
  """Makes the mask that hides nothing, for inference."""
  b, l = lead_valid.shape
  order = jnp.broadcast_to(jnp.arange(l * num_patches), (b, l * num_patches))
  return PatchMask(
    order=order,
    inverse=order,
    seen=jnp.repeat(lead_valid, num_patches, axis=1),
    hidden=jnp.zeros((b, l, num_patches), bool),
    num_visible=l * num_patches,
  )


@jax.custom_vjp
def permute(x: Array, permutation: Array, inverse: Array) -> Array:
  """Reorders tokens: `out[b, i] = x[b, permutation[b, i]]`.

  The transpose of a permutation is its inverse, another gather. XLA does not
  know that the indices are unique and would emit a slow scatter-add.

  Args:
    x: (B, N, D).
    permutation: int32 (B, N), the old place of each token.
    inverse: int32 (B, N), its inverse.

  Returns:
    (B, N, D).
  """
  del inverse
  return jnp.take_along_axis(x, permutation[..., None], axis=1)


def _permute_forward(x, permutation, inverse):
  return permute(x, permutation, inverse), inverse


def _permute_backward(inverse, gradient):
  gradient = jnp.take_along_axis(gradient, inverse[..., None], axis=1)
  return gradient, None, None


permute.defvjp(_permute_forward, _permute_backward)


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
  noise = jax.random.uniform(order_key, (b, s)) + _put_last(exists)
  chosen = (_rank(noise) < wanted) & exists
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
  noise = jax.random.uniform(order_key, tokens.shape) + _put_last(ordinary)
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
  chosen = _rank(noise) < wanted
  return TokenMask(
    original=tokens,
    tokens=jnp.where(chosen, replaced, tokens),
    position=position,
    target=target,
    weight=weight,
  )
