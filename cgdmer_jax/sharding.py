"""Mesh and sharding: "pjit" is `jax.jit` with NamedSharding on this mesh.

Axes: "data" (replicated parameters), "fsdp" (parameters cut, gathered when
used), "tensor" (heads and MLP width cut). The batch is cut over data x fsdp.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from cgdmer_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))

# The first match in the path of a parameter decides. The paths of optimizer
# moments end in that of their parameter, so they are cut in the same way.
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


# Scanned blocks: their parameters have one more axis, the first.
STACKED = re.compile(r"/layers/")


def make_mesh(
  shape: Sequence[int], devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """Makes a mesh with the axes `AXES`.

  Args:
    shape: devices along each axis; one of them may be -1, for the rest.
    devices: None: all that there are.

  Raises:
    UserError: the product of the sizes is not the number of devices, or not all
      slices get as much of the data axis.
  """
  devices = jax.devices() if devices is None else devices
  count = len(devices)
  shape = list(shape)
  known = math.prod(size for size in shape if size != -1)
  if shape.count(-1) == 1 and count % known == 0:
    shape[shape.index(-1)] = count // known
  if len(shape) != len(AXES) or -1 in shape or count != math.prod(shape):
    raise UserError(
      f"mesh={tuple(shape)} over {AXES} does not fit {count} devices; their "
      "number must be the product of the sizes, one of which may be -1"
    )
  return jax.sharding.Mesh(
    _arrange(shape, devices), AXES, axis_types=(AxisType.Auto,) * len(AXES)
  )


def _arrange(shape, devices) -> np.ndarray:
  """Devices in the order in which their network connects them best.

  Between slices of TPUs there is a slow network: only the data axis crosses it,
  over which nothing but gradients are sent.
  """
  slices = len({getattr(d, "slice_index", None) or 0 for d in devices})
  if devices[0].platform != "tpu":
    return np.asarray(devices).reshape(shape)
  if slices == 1:
    return mesh_utils.create_device_mesh(
      shape, devices, allow_split_physical_axes=True
    )
  data, *rest = shape
  if data % slices:
    raise UserError(
      f"mesh={tuple(shape)} over {AXES} does not fit {slices} slices; the "
      f"first size must be a multiple of {slices}"
    )
  return mesh_utils.create_hybrid_device_mesh(
    (data // slices, *rest),
    (slices, 1, 1),
    devices,
    allow_split_physical_axes=True,
  )


def path_name(path: Sequence[Any]) -> str:
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
  if STACKED.search(name):
    spec = P(None, *spec)
  for size, axis in zip(shape, spec, strict=False):
    if axis is not None and size % mesh.shape[axis]:
      raise UserError(
        f"{name} {tuple(shape)}: {size} is not divisible by the {axis!r} axis "
        f"of the mesh ({mesh.shape[axis]}); change the mesh or the model width"
      )
  return spec


def state_shardings(abstract_state: Any, mesh: jax.sharding.Mesh) -> Any:
  """NamedSharding of every leaf of a train state or parameter tree."""

  def leaf(path, x):
    return NamedSharding(mesh, spec_for(path_name(path), x.shape, mesh))

  return jax.tree_util.tree_map_with_path(leaf, abstract_state)


def abstract(make: Callable[[], Any], mesh: jax.sharding.Mesh) -> Any:
  """Shapes, types and shardings of a train state or parameter tree.

  Args:
    make: would make the tree; it is only traced.
    mesh: the devices.

  Returns:
    The tree with a `jax.ShapeDtypeStruct` for each array.
  """
  shapes = jax.eval_shape(make)
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    state_shardings(shapes, mesh),
  )


def describe(abstract_params: Any, mesh: jax.sharding.Mesh) -> list[str]:
  """Describes how parameters are cut, with one line for equal blocks.

  Args:
    abstract_params: parameters; shapes are enough.
    mesh: the devices.

  Returns:
    Lines of text: number of parameters, shape, axes, MiB on each device.
  """
  rows = {}
  for path, x in jax.tree_util.tree_leaves_with_path(abstract_params):
    name = path_name(path)
    spec = spec_for(name, x.shape, mesh)
    group = re.sub(r"(block|blocks|convolution)_\d+", r"\1_*", name)
    rows.setdefault((group, x.shape, spec), []).append(x)
  lines = []
  for (group, shape, spec), leaves in rows.items():
    local = NamedSharding(mesh, spec).shard_shape(shape)
    mib = len(leaves) * math.prod(local) * leaves[0].dtype.itemsize / 2**20
    cut = [axis if axis and mesh.shape[axis] > 1 else "whole" for axis in spec]
    axes = ", ".join(cut) if set(cut) - {"whole"} else "every device has all"
    lines.append(f"{len(leaves):3} x {group} {shape}: {axes}; {mib:.2f} MiB")
  return lines


def check_batch(
  batch_size: int, microbatches: int, mesh: jax.sharding.Mesh
) -> None:
  """Checks that every device gets as many records as the others.

  Args:
    batch_size: records of the global batch.
    microbatches: parts of it that are encoded one after the other.
    mesh: the devices.

  Raises:
    UserError: some devices would get more than others.
  """
  devices = mesh.shape["data"] * mesh.shape["fsdp"]
  if batch_size % (devices * microbatches):
    raise UserError(
      f"train.batch_size={batch_size} cannot be cut into train.microbatches="
      f"{microbatches} for {devices} devices (data x fsdp of the mesh); make "
      f"it a multiple of {devices * microbatches}"
    )


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Sharding of every array of a batch: records are cut over data x fsdp."""
  return NamedSharding(mesh, BATCH)


def use(
  mesh: jax.sharding.Mesh | None,
) -> contextlib.AbstractContextManager[Any]:
  """Context in which `constrain_batch` knows the mesh, while a step is traced.

  It does nothing if `mesh` is None.
  """
  if mesh is None:
    return contextlib.nullcontext()
  return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def constrain_batch(x: jax.Array, axis: int = 0) -> jax.Array:
  """Keeps `x` cut along the batch, and only there, inside a step.

  For activations between blocks: otherwise the partitioner may gather them
  instead of parameters. Without a mesh it does nothing.

  Args:
    x: activations.
    axis: axis of the records.
  """
  return _constrain(x, P(*[None] * axis, *BATCH))


def gather(x: jax.Array) -> jax.Array:
  """Gives every device all of `x`, inside a step.

  For tables that are looked up: otherwise the partitioner cuts the rows that
  are read in another way, through a copy of all of them on every device.
  """
  return _constrain(x, P())


def by_record(
  function: Callable[..., jax.Array],
) -> Callable[..., jax.Array]:
  """Lets each device apply `function` to its own records, inside a step.

  For functions that the partitioner cannot cut: it would copy all records to
  every device, and each device would compute all of them.

  Args:
    function: maps arrays whose first axis is that of the records, or None, to
      another such array; records do not depend on each other.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.manual_axes:
    return function
  return jax.shard_map(
    function,
    mesh=mesh,
    in_specs=BATCH,
    out_specs=BATCH,
    axis_names={"data", "fsdp"},
  )


def _constrain(x: jax.Array, spec: P) -> jax.Array:
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.manual_axes:
    return x
  return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def put_batch(batch: Any, mesh: jax.sharding.Mesh) -> Any:
  """Makes global arrays from this process's part of the global batch."""
  sharding = batch_sharding(mesh)
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x), batch
  )
