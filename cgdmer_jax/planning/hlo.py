"""Reads a compiled program: what runs, how often, and on how many bytes.

XLA's own `cost_analysis` counts the body of a loop once. Here a loop counts as
often as XLA knows it to run.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

# Of the bytes of its result, what each device of a group of n sends, if
# collectives are made in rings.
_SENT = {
  "all-gather": lambda size, n: size * (n - 1) / n,
  "all-reduce": lambda size, n: 2 * size * (n - 1) / n,
  "reduce-scatter": lambda size, n: size * (n - 1),
  "all-to-all": lambda size, n: size * (n - 1) / n,
  "collective-permute": lambda size, n: size,
}
_BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # others have their bits in the name
_ARRAY = re.compile(r"\b([a-z]\w*?\d+|pred)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(
  r"\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|[^ ]+) ([\w-]+)\((.*)"
)
# Instructions that move nothing: names, views and the loops themselves.
_FREE = (
  *("parameter", "constant", "tuple", "get-tuple-element", "bitcast"),
  *("while", "conditional", "call", "after-all", "partition-id", "iota"),
)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One instruction that a device runs.

  Attributes:
    name: its name in the program.
    operation: such as fusion or all-reduce.
    line: all of its text.
    times: how often it runs in one run of the program.
    result: the type of its result, as text.
    operands: names of its operands.
  """

  name: str
  operation: str
  line: str
  times: int
  result: str
  operands: tuple[str, ...]

  @property
  def source(self) -> str:
    """Where in the model it comes from, as JAX names it; may be empty."""
    found = re.search(r'op_name="([^"]*)"', self.line)
    return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Sent:
  """A kind of collective, over one step.

  Attributes:
    operation: such as all-reduce.
    dtype: type of the numbers that are sent.
    group: devices that take part in one.
    bytes: what each device sends.
    crosses: whether a group has devices of several slices.
  """

  operation: str
  dtype: str
  group: int
  bytes: float
  crosses: bool


def size(text: str, everywhere: bool = True) -> float:
  """Bytes of the arrays in a type.

  Args:
    text: such as (f32[8,128]{1,0}, pred[]).
    everywhere: whether arrays that stay on the chip count, which have a memory
      space of their own, S(1).
  """
  total = 0.0
  for kind, shape, layout in _ARRAY.findall(text):
    if everywhere or "S(1)" not in layout:
      width = _BYTES.get(kind) or int(re.sub(r"\D", "", kind)) / 8
      total += width * math.prod(int(x) for x in shape.split(",") if x)
  return total


class Program:
  """The optimised program of one device."""

  def __init__(self, text: str):
    """Reads `compiled.as_text()`."""
    self._bodies = {}
    entry = ""
    name = None
    for line in text.splitlines():
      head = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
      if head:
        name = head[2]
        self._bodies[name] = []
        entry = name if head[1] else entry
      elif name and (found := _INSTRUCTION.match(line)):
        self._bodies[name].append((*found.groups(), line))
    self._types = {
      found[0]: found[1] for body in self._bodies.values() for found in body
    }
    self.instructions = tuple(self._run(entry, 1))

  def _run(self, name: str, times: int) -> Iterator[Instruction]:
    """Instructions of a computation and of those that it calls."""
    for own, result, operation, rest, line in self._bodies[name]:
      operands = tuple(re.findall(r"%([\w.-]+)", rest.partition("), ")[0]))
      yield Instruction(own, operation, line, times, result, operands)
      if operation == "while":
        inner = times * self._trips(line)
      elif operation in ("call", "conditional") or operation.startswith(
        "async"
      ):
        inner = times
      else:
        continue  # a fusion is one instruction
      called = re.findall(r"(?:to_apply|calls|body)=%?([\w.-]+)", line)
      for names in re.findall(r"branch_computations=\{([^}]*)\}", line):
        called += re.findall(r"[\w.-]+", names)
      for other in called:
        if other in self._bodies:
          yield from self._run(other, inner)

  def _trips(self, line: str) -> int:
    """How often a loop runs: what XLA knows, or what its counter is held to."""
    known = re.search(r'known_trip_count":?\{"n":"(\d+)"', line)
    if known:
      return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", line)
    limits = [
      int(rest.partition(")")[0])
      for _, result, operation, rest, _ in self._bodies.get(condition[1], [])
      if operation == "constant" and result.startswith("s32[]")
    ]
    return max(limits, default=1)

  def traffic(self, instruction: Instruction) -> float:
    """Bytes that an instruction moves to or from memory, once, about.

    A part that is cut out of a large array, or written into one, counts as the
    part.
    """
    if instruction.operation in _FREE or instruction.operation.endswith(
      ("-done", "-update")
    ):
      return 0.0
    if instruction.operation == "custom-call" and re.search(
      r'target="(Allocate|Concat|Assume)', instruction.line
    ):
      return 0.0  # memory is set aside, or named
    if instruction.operation.endswith("-start"):  # (source, target, ...)
      return size(_second(instruction.result))
    outputs = _arrays(instruction.result)
    inputs = [
      x for n in instruction.operands for x in _arrays(self._types.get(n, ""))
    ]
    body = self._called(instruction) or [
      ("", instruction.result, instruction.operation, instruction.line, "")
    ]
    slices = sum(size(x[1]) for x in body if x[2] == "dynamic-slice")
    moved = 0.0
    for _, _, operation, rest, _ in body:
      if operation == "dynamic-update-slice":
        whole, part = re.findall(r"%([\w.-]+)", rest)[:2]
        moved += size(self._types.get(part, ""))
        whole = self._types.get(whole, "")
        for x in _arrays(whole)[:1]:  # it is changed in place
          for side in (outputs, inputs):
            same = [
              y for y in side if y.partition("{")[0] == x.partition("{")[0]
            ]
            if same:
              side.remove(same[0])
    for x in outputs + inputs:
      moved += size(x, everywhere=False)
    if slices:
      large = sum(
        max(size(x, everywhere=False) - slices, 0.0)
        for x in inputs
        if size(x, everywhere=False) > 2 * slices
      )
      moved -= large
    return moved

  def _called(self, instruction):
    found = re.search(r"calls=%?([\w.-]+)", instruction.line)
    return self._bodies.get(found[1], []) if found else []

  def cycles(self, instruction: Instruction) -> float:
    """Cycles that the compiler expects of one run; 0 if it does not say."""
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.line)
    return float(found[1]) if found else 0.0

  def collectives(self, slice_size: int = 0) -> list[Sent]:
    """What devices send each other, the largest first.

    Args:
      slice_size: devices of a slice; 0: there is only one slice.
    """
    totals, seen = collections.Counter(), set()
    for line, operation, result, times in self._every_collective():
      channel = re.search(r"channel_id=(\d+)", line)
      groups = _groups(line)
      n = len(groups[0]) if groups else 1
      if n < 2 or (channel and channel[1] in seen):
        continue
      seen.add(channel and channel[1])
      crosses = bool(slice_size) and any(
        len({device // slice_size for device in group}) > 1 for group in groups
      )
      for kind, shape, _ in _ARRAY.findall(result):
        sent = _SENT[operation](size(f"{kind}[{shape}]"), n)
        totals[operation, kind, n, crosses] += times * sent
    found = [
      Sent(operation, kind, n, total, crosses)
      for (operation, kind, n, crosses), total in totals.items()
    ]
    return sorted(found, key=lambda x: -x.bytes)

  def _every_collective(self):
    """Line, kind, result and number of runs, also of those inside of fusions.

    The compiler lets a collective run beside others; its parts then lie in
    several fusions, with the same channel.
    """
    for x in self.instructions:
      for _, result, operation, _, line in [
        (x.name, x.result, x.operation, "", x.line),
        *self._called(x),
      ]:
        kind = operation.removesuffix("-start")
        if kind in _SENT:
          if operation != kind:  # a tuple of operands and results
            result = _second(result)
          yield line, kind, result, x.times


def _arrays(text: str) -> list[str]:
  return [found[0] for found in re.finditer(_ARRAY, text)]


def _second(result: str) -> str:
  """The last array of each pair in the type of an asynchronous start."""
  arrays = [x for x in _arrays(result) if not re.match(r"[us]32\[", x)]
  return ", ".join(arrays[len(arrays) // 2 :])


def _groups(line: str) -> list[list[int]]:
  """The devices that take part in a collective with each other."""
  listed = re.search(
    r"(?:replica_groups|source_target_pairs)=\{(\{.*?\})\}", line
  )
  if listed:
    return [
      [int(x) for x in group.split(",") if x]
      for group in re.findall(r"\{([\d,]*)\}", listed[1])
    ]
  grid = re.search(
    r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line
  )
  if grid:
    return _iota(grid)
  return _of_mesh(line)


def _iota(grid: re.Match) -> list[list[int]]:
  """Groups that are written as a reshaped and transposed range."""
  sizes = [int(x) for x in grid[3].split(",")]
  order = np.arange(math.prod(sizes)).reshape(sizes)
  if grid[4]:
    order = order.transpose([int(x) for x in grid[4].split(",")])
  return order.reshape(int(grid[1]), int(grid[2])).tolist()


def _of_mesh(line: str) -> list[list[int]]:
  """Groups that are written as axes of a mesh."""
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*)\}", line)
  if not mesh:
    return []
  sizes = {k: int(v) for k, v in re.findall(r"('\w+')=(\d+)", mesh[1])}
  names = mesh[2].split(",")
  order = np.arange(math.prod(sizes.values())).reshape([*sizes.values()])
  axes = [*sizes]
  rest = [i for i, name in enumerate(axes) if name not in names]
  kept = [axes.index(name.strip()) for name in names]
  order = order.transpose([*rest, *kept])
  return order.reshape(-1, math.prod(sizes[axes[i]] for i in kept)).tolist()
