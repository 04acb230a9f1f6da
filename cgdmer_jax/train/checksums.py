"""Checksums of a training state, the same on any mesh."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from cgdmer_jax.arrays import Array


@jax.jit
def checksums(state: Any) -> Array:
  """Checksum of each array, uint32, in the order of their names.

  It does not depend on the mesh. Orbax itself does not notice flipped bits.
  """
  leaves = leaves_by_path(state)
  return jnp.stack([_sum_of_bits(leaves[name]) for name in sorted(leaves)])


def _sum_of_bits(x: Array) -> Array:
  if x.dtype == bool:
    x = x.astype(jnp.uint8)
  kinds = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}
  bits = jax.lax.bitcast_convert_type(x, kinds[x.dtype.itemsize])
  return jnp.sum(bits, dtype=jnp.uint32)


def leaves_by_path(tree: Any) -> dict[str, Any]:
  """Leaves of a tree by path, such as `params/encoder/kernel`."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
  }
