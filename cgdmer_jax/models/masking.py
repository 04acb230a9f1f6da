"""What is hidden of the ECG.

Counts are static, so shapes never depend on data, and every mask is a pure
function of a PRNG key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, Key

from cgdmer_jax.arrays import Array, Leaf


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


def rank(noise: Array) -> Array:
  """Place of each entry in the ascending order of the last axis, from 0."""
  return jnp.argsort(jnp.argsort(noise, axis=-1), axis=-1)


def put_last(exists: Bool[Array, ...]) -> Float[Array, ...]:
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


def _anywhere(
  key: Key[Array, ""], grid: Grid, count: int
) -> Bool[Array, "b l n"]:
  """Leaves `count` patches anywhere in view."""
  shape = grid.batch, grid.leads, grid.times
  noise = jax.random.uniform(key, shape) + grid.missing[..., None]
  return (rank(noise.reshape(grid.batch, -1)) < count).reshape(shape)


def _random(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Leaves patches anywhere in view, as many as `spatial_temporal`."""
  del lead_key
  count = grid.visible_leads * grid.visible_times
  return _anywhere(time_key, grid, count), count


def _temporal(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Leaves the same times of every lead in view."""
  del lead_key
  place = rank(jax.random.uniform(time_key, (grid.batch, 1, grid.times)))
  shape = grid.batch, grid.leads, grid.times
  visible = jnp.broadcast_to(place < grid.visible_times, shape)
  return visible, grid.leads * grid.visible_times


def _spatial(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Leaves whole leads in view."""
  del time_key
  noise = jax.random.uniform(lead_key, (grid.batch, grid.leads))
  visible = rank(noise + grid.missing) < grid.visible_leads
  shape = grid.batch, grid.leads, grid.times
  visible = jnp.broadcast_to(visible[..., None], shape)
  return visible, grid.visible_leads * grid.times


def _spatial_temporal(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Hides whole leads, and in each of the others times of its own."""
  visible, _ = _spatial(lead_key, time_key, grid)
  place = rank(jax.random.uniform(time_key, visible.shape))
  visible &= place < grid.visible_times
  return visible, grid.visible_leads * grid.visible_times


def _mixed(
  lead_key: Key[Array, ""], time_key: Key[Array, ""], grid: Grid
) -> tuple[Bool[Array, "b l n"], int]:
  """Hides patches anywhere, times of all leads, or leads: each a third.

  The slots are those of `random`, but at least as many as one lead or one time
  needs. Patches anywhere fill them. Of times as many as fit are in view, of
  leads any number from one to as many as fit.
  """
  kind_key, count_key, lead_key = jax.random.split(lead_key, 3)
  count = grid.visible_leads * grid.visible_times
  count = max(count, grid.leads, grid.times)
  anywhere = _anywhere(time_key, grid, count)
  times, _ = _temporal(
    lead_key, time_key, grid._replace(visible_times=count // grid.leads)
  )
  noise = jax.random.uniform(lead_key, (grid.batch, grid.leads))
  most = count // grid.times
  number = jax.random.randint(count_key, (grid.batch, 1), 1, most + 1)
  leads = (rank(noise + grid.missing) < number)[..., None]
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
  otherwise; `mixed` draws for each record whether it hides patches anywhere,
  times of all leads, or leads, of which any number may be left; `none` hides
  nothing.

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
    put_last(lead_valid),
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
