"""Mesh and sharding: "pjit" is `jax.jit` with NamedSharding on this mesh.

Axes: "data" (replicated parameters), "fsdp" (parameters cut, gathered when
used), "tensor" (heads and MLP width cut). The batch is cut over data x fsdp.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cgdmer_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))

# First match wins; the path is that of the parameter, joined by "/". Optimizer
# moments end in the path of their parameter and so follow it.
RULES: tuple[tuple[str, P], ...] = (
  (r"/qkv/kernel$", P("fsdp", None, "tensor", None)),
  (r"/qkv/bias$", P(None, "tensor", None)),
  (
    r"attention/out/kernel$|/(time|lead)/out/kernel$",
    P("tensor", None, "fsdp"),
  ),
  (r"/up/kernel$", P("fsdp", "tensor")),
  (r"/up/bias$", P("tensor")),
  (r"/down/kernel$", P("tensor", "fsdp")),
  (r"/(word|position|token_type)/embedding$", P(None, "fsdp")),
  (r"/samples/kernel$", P("fsdp", None)),
  (r"/convolution_\d+/kernel$", P(None, None, "fsdp")),
  (r"/lead_embedding/kernel$", P(None, "fsdp")),
  (r"/kernel$", P(None, "fsdp")),
  (r"", P()),  # biases, norms, scalars, single tokens
)


def make_mesh(shape: Sequence[int]) -> jax.sharding.Mesh:
  """Mesh with the axes `AXES`.

  Args:
    shape: devices along each axis; one of them may be -1, the rest.

  Raises:
    UserError: the sizes do not multiply to the number of devices.
  """
  count = jax.device_count()
  shape = list(shape)
  known = math.prod(size for size in shape if size != -1)
  if shape.count(-1) == 1 and count % known == 0:
    shape[shape.index(-1)] = count // known
  if len(shape) != len(AXES) or -1 in shape or count != math.prod(shape):
    raise UserError(
      f"mesh={tuple(shape)} over {AXES} does not fit {count} devices; the "
      "sizes must multiply to it, one of them may be -1"
    )
  return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def path_name(path) -> str:
  """Path of a leaf as "params/ecg_encoder/patch/kernel"."""
  return "/".join(
    str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k))))
    for k in path
  )


def spec_for(name: str, shape: Sequence[int], mesh: jax.sharding.Mesh) -> P:
  """PartitionSpec of the parameter `name` by the first rule that matches.

  Raises:
    UserError: a dimension is not divisible by the axis that cuts it.
  """
  if not shape:
    return P()
  spec = next(spec for rule, spec in RULES if re.search(rule, "/" + name))
  for size, axis in zip(shape, spec, strict=False):
    if axis is not None and size % mesh.shape[axis]:
      raise UserError(
        f"{name} {tuple(shape)}: {size} is not divisible by the {axis!r} axis "
        f"of the mesh ({mesh.shape[axis]}); change the mesh or the model width"
      )
  return spec


def state_shardings(abstract_state, mesh: jax.sharding.Mesh):
  """NamedSharding of every leaf of a train state or parameter tree."""

  def leaf(path, x):
    return NamedSharding(mesh, spec_for(path_name(path), x.shape, mesh))

  return jax.tree_util.tree_map_with_path(leaf, abstract_state)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """The leading axis of every batch array, over data x fsdp."""
  return NamedSharding(mesh, BATCH)


def put_batch(batch, mesh: jax.sharding.Mesh):
  """Global arrays from this process' slice of the global batch."""
  sharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), batch
  )
