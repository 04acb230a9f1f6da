"""Estimates of time from a compiled program and the data sheet of a chip.

Three bounds from below: arithmetic at its peak, memory and network at full
speed. For TPUs the compiler counts the cycles of each instruction besides,
without waiting for the network. The longest of the four is the estimate: as if
everything else went on at the same time.
"""

from __future__ import annotations

import re
from typing import Any

from cgdmer_jax.config.slices import Chip
from cgdmer_jax.planning import hlo


def step(
  program: hlo.Program,
  operations: float,
  chip: Chip,
  peak: float,
  slice_size: int,
) -> dict[str, Any]:
  """Estimates the time of a step.

  Args:
    program: what one device runs.
    operations: of the model, of one device and step.
    chip: what it runs on.
    peak: operations of the chip in a second.
    slice_size: devices of a slice, if there are several; else 0.

  Returns:
    Seconds by each bound, what each kind of collective sends, the estimate of a
    step and of the MFU that it means.
  """
  sent = program.collectives(slice_size)
  moved = sum(x.times * program.traffic(x) for x in program.instructions)
  seconds = {
    "arithmetic": operations / peak,
    "memory": moved / chip.hbm_bandwidth,
    "network": sum(seconds_to_send(x, chip) for x in sent),
  }
  if chip.clock and (cycles := _cycles(program)):
    seconds["compiler's cycles"] = cycles / chip.clock
  longest = max(seconds.values())
  return {
    "estimated_seconds": seconds,
    "estimated_step_seconds": longest,
    "estimated_mfu": operations / longest / peak,
    "bound_by": max(seconds, key=seconds.get),
    "memory_traffic_bytes": moved,
    "collectives": [
      {
        "operation": x.operation,
        "dtype": x.dtype,
        "devices": x.group,
        "between_slices": x.crosses,
        "bytes_sent": x.bytes,
        "estimated_seconds": seconds_to_send(x, chip),
      }
      for x in sent
    ],
  }


def seconds_to_send(sent: hlo.Sent, chip: Chip) -> float:
  """Estimates the time of collectives of one kind."""
  if sent.crosses:
    return sent.bytes / chip.network_bandwidth
  return sent.bytes / (chip.links * chip.link_bandwidth)


def _cycles(program: hlo.Program) -> float:
  return sum(x.times * program.cycles(x) for x in program.instructions)


def largest(program: hlo.Program, count: int = 10) -> list[dict[str, Any]]:
  """The instructions that take longest by the compiler's own estimate.

  Args:
    program: what one device runs.
    count: how many; equal ones count as one.

  Returns:
    Their source in the model, their cycles in a step, and their share of those
    of all instructions; nothing where the compiler estimates nothing.
  """
  totals = {}
  for x in program.instructions:
    key = _place(x)
    totals[key] = totals.get(key, 0.0) + x.times * program.cycles(x)
  total = _cycles(program)
  if not total:
    return []
  ordered = sorted(totals.items(), key=lambda item: -item[1])[:count]
  return [
    {"what": what, "estimated_cycles": cycles, "share": cycles / total}
    for what, cycles in ordered
  ]


def _place(x: hlo.Instruction) -> str:
  """Kind of instruction, and where in the model it comes from."""
  path = re.sub(r"^jit\(train_step\)/", "", x.source)
  inner = r"(jit\([^)]*\)|while|body|closed_call|[\w.]*<lambda>)/"
  path = re.sub(inner, "", path)
  kind = re.sub(r"[.\d]+$", "", x.name)
  return f"{path or 'of the compiler'} [{kind}]"
