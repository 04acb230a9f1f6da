"""Flags that connect several processes; see `distributed.py`.

They have a file of their own because they are parsed before JAX is imported.
"""

from __future__ import annotations

from absl import flags

MULTIHOST = flags.DEFINE_bool(
  "multihost",
  False,
  "This is one of several processes of a TPU pod, of a Slurm job or of another "
  "cluster that JAX knows.",
)
COORDINATOR = flags.DEFINE_string(
  "coordinator",
  None,
  "HOST:PORT of process 0, for several processes that no cluster has started.",
)
NUM_PROCESSES = flags.DEFINE_integer(
  "num_processes", None, "Number of processes; with --coordinator.", 1
)
PROCESS_ID = flags.DEFINE_integer(
  "process_id", None, "Number of this process, from 0; with --coordinator.", 0
)
TIMEOUT = flags.DEFINE_integer(
  "start_timeout", 300, "Seconds that processes wait for each other.", 1
)
HEARTBEAT = flags.DEFINE_integer(
  "heartbeat_timeout",
  100,
  "Seconds without a heartbeat after which a process counts as lost, and all "
  "others end.",
  1,
)
