"""What devices send each other in a training step, from the compiled program.

    python -m tests.benchmarks.communication PRESET PER_DEVICE FSDP DEVICES...
    python -m tests.benchmarks.communication base 64 8 8 64 256

Compiles a preset of `configs/bench.py` for fake devices, PER_DEVICE records and
a mesh with FSDP devices along `fsdp`, the rest along `data`; runs nothing. For
each number of devices: bytes that a device sends in a step, if collectives are
made in rings, by kind, and floating-point operations that it makes.
"""

import collections
import json
import math
import os
import re
import subprocess
import sys

# Of the bytes of its result, what each device of a group of n sends.
SENT = {
  "all-gather": lambda size, n: size * (n - 1) / n,
  "all-reduce": lambda size, n: 2 * size * (n - 1) / n,
  "reduce-scatter": lambda size, n: size * (n - 1),
  "all-to-all": lambda size, n: size * (n - 1) / n,
  "collective-permute": lambda size, n: size,
}
BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # others have their bits in the name


def of_program(text: str) -> dict[str, float]:
  """Bytes that a device sends, by kind of collective.

  Args:
    text: optimised HLO; a loop counts as often as XLA knows it to run.
  """
  bodies = {}
  for block in re.split(r"\n(?=(?:ENTRY )?%\S+ \()", text):
    head = re.match(r"(ENTRY )?%(\S+) \(", block)
    if head:
      bodies[head[2]] = block
      entry = head[2] if head[1] else None or locals().get("entry")
  return _of_computation(entry, bodies, {})


def _of_computation(name, bodies, known):
  if name not in known:
    total = collections.Counter()
    for line in bodies[name].splitlines()[1:]:
      total.update(_of_collective(line))
      called = re.findall(
        r"(?:to_apply|calls|body|condition)=%([\w.-]+)", line
      ) + re.findall(r"branch_computations=\{([^}]*)\}", line)
      times = 1
      if " while(" in line:
        trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        times = int(trips[1]) if trips else 1
      for names in called:
        for other in re.findall(r"[\w.-]+", names):
          if other in bodies:
            inside = _of_computation(other, bodies, known)
            total.update({k: times * v for k, v in inside.items()})
    known[name] = total
  return known[name]


def _of_collective(line):
  found = re.search(rf"= (.*?) ({'|'.join(SENT)})(?:-start)?\(", line)
  if not found:
    return {}
  size = 0
  for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found[1]):
    width = BYTES.get(kind) or int(re.sub(r"\D", "", kind)) / 8
    size += width * math.prod(int(x) for x in shape.split(",") if x)
  n = _group_size(line)
  return {found[2]: SENT[found[2]](size, n)} if n > 1 else {}


def _group_size(line):
  """How many devices take part in a collective with each other."""
  mesh = re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*)\}", line)
  if mesh:
    sizes = dict(re.findall(r"('\w+')=(\d+)", mesh[1]))
    return math.prod(int(sizes[axis]) for axis in mesh[2].split(","))
  grid = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
  if grid:
    return int(grid[1])
  listed = re.search(
    r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)", line
  )
  return len(listed[1].split(","))


def measure(preset, per_device, fsdp, devices, show):
  """One row of the table, in a process with that many fake devices."""
  import jax

  from cgdmer_jax import bench, sharding
  from cgdmer_jax.data.batch import Batch
  from cgdmer_jax.data.reports import Vocabulary
  from cgdmer_jax.train import flops, setup
  from configs import bench as config_lib

  jax.config.update("jax_num_cpu_devices", devices)
  c = config_lib.get_config(preset).unlock()
  c.mesh = (-1, fsdp, 1)
  c.train.batch_size = per_device * devices
  c.compute.dtype = "bfloat16"
  made = setup.assemble(c, 1000, Vocabulary(2000, 0, 1, 4, (0, 1, 2, 3, 4)))
  cut = sharding.batch_sharding(made.mesh)
  noise = bench.noise(made.model, 1000, c.train.batch_size, c.report.max_length)
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut),
    Batch(**noise),
  )
  text = made.step.compile(batch).as_text()
  if show:
    print(text)
  sent = of_program(text)
  needed = flops.count_step(made.objective, made.abstract.params, batch)
  parameters = sum(x.size for x in jax.tree.leaves(made.abstract.params))
  return {"sent": sent, "flops": needed / devices, "parameters": parameters}


def main(preset, per_device, fsdp, *counts):
  print("| devices | parameters | GFLOP | MiB sent |", end="")
  print("".join(f" {kind} |" for kind in SENT))
  print("|" + "---|" * (4 + len(SENT)))
  for count in counts:
    done = subprocess.run(
      [sys.executable, "-m", __spec__.name, "one", *sys.argv[1:4], count],
      env=dict(
        os.environ,
        NPROC="16",
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_backend_optimization_level=0",
      ),
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    )
    row = json.loads(done.stdout.splitlines()[-1])
    sent = row["sent"]
    cells = [sum(sent.values()), *(sent.get(kind, 0) for kind in SENT)]
    mib = " | ".join(f"{x / 2**20:,.1f}" for x in cells)
    print(
      f"| {count} | {row['parameters'] / 1e6:.1f} M |"
      f" {row['flops'] / 1e9:,.0f} | {mib} |",
      flush=True,
    )


if __name__ == "__main__":
  if sys.argv[1:2] == ["one"]:
    numbers = map(int, sys.argv[3:6])
    print(json.dumps(measure(sys.argv[2], *numbers, "--show" in sys.argv)))
  elif len(sys.argv) > 4:
    main(*sys.argv[1:])
  else:
    sys.exit(__doc__)
