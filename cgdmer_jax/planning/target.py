"""Devices that a step is compiled for; they are described, and not there.

The compilers of TPUs and of GPUs are packages. They make programs from a
description alone; nothing can run.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Sequence
from importlib import metadata

import jax
from jax.experimental import topologies

from cgdmer_jax.config import slices
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.planning import gpus

_GPUS_OF_HOST = 8
# Without a GPU nothing can be tried out: products go to cuBLAS, untuned.
_UNTUNED = "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"

# The compiler looks for a TPU, and asks the cloud which one it is, unless all
# this is given. It also expects to be alone on the machine.
_ALONE = {
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_WORKER_ID": "0",
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Target:
  """Where a training would run.

  Attributes:
    slice: what its devices are.
    num_slices: how many of these, with a slow network between them.
    devices: as JAX describes them.
  """

  slice: slices.Slice
  num_slices: int
  devices: Sequence[jax.Device]

  @property
  def name(self) -> str:
    """The slice, and how many."""
    several = f"{self.num_slices} x " if self.num_slices > 1 else ""
    return several + self.slice.name

  @property
  def is_tpu(self) -> bool:
    """Whether arrays lie in tiles."""
    return self.slice.chip.name not in slices.GPUS


def prepare(name: str, num_slices: int, compiles: bool) -> None:
  """Keeps JAX from looking for a TPU, before it is used for the first time.

  For the arguments and errors see `find`.
  """
  found = _parse(name, num_slices)
  for variable, value in _ALONE.items():
    os.environ.setdefault(variable, value)
  if not compiles:  # the CPU stands for all of them
    jax.config.update("jax_num_cpu_devices", found.count * num_slices)
  if found.chip.name in slices.GPUS:
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} {_UNTUNED}".strip()
  jax.config.update("jax_platforms", "cpu")  # nothing runs elsewhere


def find(name: str, num_slices: int, compiles: bool) -> Target:
  """Finds the devices of a slice.

  Args:
    name: see `slices.parse`.
    num_slices: how many slices.
    compiles: whether a program is compiled for them. If not, no compiler need
      be here.

  Raises:
    UserError: there is no such slice, or nothing that compiles for it.
  """
  found = _parse(name, num_slices)
  if not compiles:
    devices = jax.devices("cpu")[: found.count * num_slices]
  elif found.chip.name in slices.GPUS:
    devices = _gpus(found, num_slices)
  else:
    devices = _tpus(found, num_slices)
  return Target(found, num_slices, devices)


def _parse(name: str, num_slices: int) -> slices.Slice:
  if num_slices < 1:
    raise UserError(f"plan.num_slices={num_slices}; expected 1 or more")
  try:
    return slices.parse(name)
  except ValueError as error:
    raise UserError(f"plan.topology: {error}") from None


def _tpus(found: slices.Slice, num_slices: int) -> list[jax.Device]:
  check_compiler()
  shape = found.shape
  host = [2 if size % 2 == 0 else 1 for size in shape[:2]]
  options = {"chips_per_host_bounds": (*host, 1)}
  if found.chip.cores > 1:
    options["chip_config_name"] = "megacore"  # a chip is one device
  if num_slices > 1:
    options["num_slices"] = num_slices
  name = f"{found.chip.name}:{'x'.join(map(str, shape))}"
  try:
    described = topologies.get_topology_desc(
      platform="tpu", topology_name=name, **options
    )
  except (RuntimeError, ValueError, NotImplementedError) as error:
    raise UserError(
      f"plan.topology={found.name}: the compiler refuses {name}: "
      f"{one_line(error)}"
    ) from error
  return described.devices


def check_compiler() -> None:
  """Checks that libtpu is here, in the version that JAX was made for.

  Raises:
    UserError: it is not.
  """
  wanted = _wanted_compiler()
  install = f'install it: pip install -e ".[plan]", or pip install "{wanted}"'
  if importlib.util.find_spec("libtpu") is None:
    raise UserError(f"the compiler of TPUs, libtpu, is missing; {install}")
  version = metadata.version("libtpu")
  exact = wanted.partition("==")[2].removesuffix(".*")
  if exact and not f"{version}.".startswith(f"{exact}."):
    raise UserError(
      f"libtpu {version} is not the one that jax {jax.__version__} needs; "
      f"{install}"
    )


def _wanted_compiler() -> str:
  """What `jax[tpu]` requires, such as libtpu==0.0.42.*."""
  for line in metadata.requires("jax") or ():
    requirement, _, marker = line.partition(";")
    if re.match(r"libtpu\b", requirement) and "tpu" in marker:
      return requirement.strip()
  return "libtpu"


def _gpus(found: slices.Slice, num_slices: int) -> list[jax.Device]:
  if importlib.util.find_spec("jax_cuda12_plugin") is None:
    raise UserError(
      "the compiler of GPUs is missing; install it: pip install -e "
      '".[gpu]", or pip install "jax[cuda12]"'
    )
  hosts, of_host = divmod(found.count * num_slices, _GPUS_OF_HOST)
  shape = (hosts, _GPUS_OF_HOST) if hosts else (1, of_host)
  described = topologies.get_topology_desc(
    platform="cuda",
    target_config=gpus.describe(found.chip.name),
    topology=f"1x{shape[0]}x{shape[1]}",
  )
  return described.devices
