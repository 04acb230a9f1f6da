"""Measures the simulator: `python -m tests.benchmarks.simulator`.

Prints records per second of CPU time of one process.
"""

from __future__ import annotations

import sys
import time

from data_builders.synthetic_ecg import simulator

_RECORDS = 1000


def records_per_second(sampling_rate: int) -> float:
  """Records per second of CPU time at `sampling_rate` Hz."""
  simulator.record(0, 0, sampling_rate)  # fills caches
  start = time.process_time()
  for index in range(_RECORDS):
    simulator.record(0, index, sampling_rate)
  return _RECORDS / (time.process_time() - start)


if __name__ == "__main__":
  for rate in map(int, sys.argv[1:] or (100, 500)):
    print(f"{rate} Hz: {records_per_second(rate):.0f} records/s/core")
