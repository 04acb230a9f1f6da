"""Finding the same recording among as many records as MIMIC-IV-ECG has.

    python -m tests.benchmarks.duplicates

Writes the notes of 1,431 shards with random identities, of which one in a
thousand is a copy; says how long it takes to read them and to find the copies,
how much memory that needs, and what the identity of a record costs.
"""

import dataclasses
import json
import pathlib
import resource
import tempfile
import time

import numpy as np

from cgdmer_jax.data import identity
from data_builders import duplicates, records, shards

NUMBER, NUM_SHARDS = 800_035, 1_431


def memory():
  """Most memory so far, MiB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_notes(folder, jobs, identities):
  plan = []
  for k in range(NUM_SHARDS):
    part = slice(*(NUMBER * i // NUM_SHARDS for i in (k, k + 1)))
    shard = shards.Shard(folder / f"{k}", jobs[part])
    text = identities[part].tobytes().hex()
    outcome = shards.Outcome(len(shard.jobs), 0, (), text)
    shard.note.write_text(json.dumps(dataclasses.asdict(outcome)))
    plan.append(shard)
  return plan


def main():
  rng = np.random.default_rng(0)
  ecg = rng.integers(-999, 999, (12, 5000)).astype(np.int16)
  for rate in (100, 500):
    start = time.perf_counter()
    for _ in range(1000):
      identity.identify(ecg[:, : 10 * rate], rate)
    print(f"identity at {rate} Hz: {time.perf_counter() - start:.3f} ms")
  identities = rng.integers(0, 1 << 63, (NUMBER, 2), np.uint64)
  copies = rng.choice(NUMBER, NUMBER // 1000, replace=False)
  identities[copies] = identities[(copies + NUMBER // 2) % NUMBER]
  path = pathlib.Path("files")
  jobs = [records.RecordJob(str(i), path, "", "", {}) for i in range(NUMBER)]
  with tempfile.TemporaryDirectory() as folder:
    plan = write_notes(pathlib.Path(folder), jobs, identities)
    size = sum(s.note.stat().st_size for s in plan) / NUMBER
    before, start = memory(), time.perf_counter()
    outcomes = [shards.read_outcome(shard) for shard in plan]
    middle = time.perf_counter()
    groups = duplicates.find({"train": plan}, {"train": outcomes})
    seconds = time.perf_counter() - middle
  print(
    f"{NUMBER} records: notes of {size:.0f} bytes a record are read in"
    f" {middle - start:.1f} s, {len(groups)} groups found in {seconds:.1f} s,"
    f" {memory() - before:.0f} MiB more than before"
  )


if __name__ == "__main__":
  main()
