"""Chips, and the slices of them that can be rented, by the makers' names."""

from __future__ import annotations

import dataclasses
import math
import re

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One chip, from the maker's data sheet; a chip is a device of JAX.

  Attributes:
    name: v5e and so on, or the name of a GPU.
    kind: `device_kind` in JAX, which `train/flops.py:peak` knows.
    hbm: bytes of memory that a program may use. For TPUs the limit that the
      compiler names when it refuses a program.
    hbm_bandwidth: bytes/s between memory and chip.
    link_bandwidth: bytes/s that a chip sends over one link, one way.
    links: links that a ring along one axis of the mesh uses, one in each
      direction; GPUs have one network.
    network_bandwidth: bytes/s that a chip sends to other slices.
    cores: by which the maker counts, of one chip.
    clock: cycles/s, for which the compiler counts; 0: not published.
  """

  name: str
  kind: str
  hbm: float
  hbm_bandwidth: float
  link_bandwidth: float
  links: int
  network_bandwidth: float
  cores: int = 1
  clock: float = 0.0


# https://docs.cloud.google.com/tpu/docs/v5e and its neighbours; links and data
# centre network from https://jax-ml.github.io/scaling-book/tpus; GPUs from
# NVIDIA's data sheets, with NVLink in one direction and 400 Gbit/s each
# between machines. The clock of v4 is that of Jouppi et al. 2023, those of v5e
# and v5p follow from their peak and their number of 128 x 128 matrix units.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip("v4", "TPU v4", 31.75 * GIB, 1228e9, 45e9, 2, 6.25e9, 2, 1.05e9),
    Chip("v5e", "TPU v5 lite", 15.75 * GIB, 819e9, 45e9, 2, 3.125e9, 1, 1.5e9),
    Chip("v5p", "TPU v5p", 95.74 * GIB, 2765e9, 90e9, 2, 6.25e9, 2, 1.75e9),
    Chip("v6e", "TPU v6 lite", 31.25 * GIB, 1638e9, 90e9, 2, 12.5e9),
    Chip("a100", "A100", 79 * GIB, 2039e9, 300e9, 1, 25e9),
    Chip("h100", "H100", 79 * GIB, 3350e9, 450e9, 1, 50e9),
  )
}
GPUS = ("a100", "h100")

_FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
_CUBES = (
  *((1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 4)),
  *((2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8)),
)


@dataclasses.dataclass(frozen=True)
class Slice:
  """Chips that are connected with each other.

  Attributes:
    name: as the maker calls it, such as v5p-64.
    chip: what they are.
    shape: chips along each axis of the network; GPUs: (count,).
  """

  name: str
  chip: Chip
  shape: tuple[int, ...]

  @property
  def count(self) -> int:
    """Number of chips."""
    return math.prod(self.shape)


def _shapes(chip: Chip) -> tuple[tuple[int, ...], ...]:
  if chip.name in GPUS:
    return tuple((2**i,) for i in range(9))
  return _CUBES if chip.cores > 1 else _FLAT


def names(chip: Chip) -> list[str]:
  """Names of the slices of a chip."""
  counts = [math.prod(shape) for shape in _shapes(chip)]
  return [f"{chip.name}-{count * chip.cores}" for count in counts]


def parse(name: str) -> Slice:
  """The slice of a name.

  Makers count chips of v5e and v6e, and cores of v4 and v5p, of which a chip
  has two: v5e-16 and v5p-32 have 16 chips each.

  Raises:
    ValueError: there is no such slice; the message lists those that are.
  """
  kind, _, number = name.replace("v5litepod", "v5e").partition("-")
  if kind not in CHIPS:
    raise ValueError(
      f"unknown slice {name!r}; expected CHIP-NUMBER, such as v5e-16; chips: "
      + ", ".join(CHIPS)
    )
  chip = CHIPS[kind]
  if re.fullmatch(r"\d+", number):
    for shape in _shapes(chip):
      if math.prod(shape) * chip.cores == int(number):
        return Slice(f"{kind}-{int(number)}", chip, shape)
  raise ValueError(
    f"unknown slice {name!r}; expected one of {', '.join(names(chip))}"
    + (" (numbers count cores, two a chip)" if chip.cores > 1 else "")
  )
