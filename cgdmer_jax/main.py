"""Pretrains, evaluates, plans or measures speed, as a configuration says.

    cgdmer pretrain --workdir=runs/pretrain
    python -m cgdmer_jax.main --config=pretrain:recipe=clip --workdir=runs/clip
    cgdmer evaluate --config=linear_probe:ptb_xl --config.encoders=runs/pretrain

A configuration is one of ours, by name, or a file. The same command resumes a
run, and adds what is missing to an evaluation.
"""

from __future__ import annotations

import contextlib
import logging as python_logging
import os
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from cgdmer_jax import (
  buckets,
  command,
  log_file,
  paths,
  process_flags,
  profiling,
)
from cgdmer_jax.config import configurations, saved
from cgdmer_jax.errors import UserError

_CONFIG = config_flags.DEFINE_config_file(
  "config",
  None,
  "Configuration with options: NAME:PRESET,KEY=VALUE or FILE.py:... .",
)
_WORKDIR = flags.DEFINE_string(
  "workdir",
  None,
  "Folder of the run, or gs://BUCKET/FOLDER; the same one resumes it. Default:"
  " runs/<task>.",
)

_PRINT_CONFIG = flags.DEFINE_bool(
  "print_config", False, "Print every field with its value, and end."
)
_STOPPED_STATUS = flags.DEFINE_integer(
  "stopped_status",
  0,
  "Exit status of a run that was stopped before it was complete; for clusters "
  "that start a program again unless it ends with 0.",
)


for _module in (paths, process_flags, profiling):
  flags.adopt_module_key_flags(_module)  # shown by --help


def _is_shown(record) -> bool:
  """Keeps our own messages, and the warnings of other libraries."""
  return "cgdmer_jax" in record.pathname or record.levelno >= 30


def use_huge_pages() -> None:
  """Restarts the program once with huge pages for large allocations.

  XLA:CPU allocates its buffers again in every step; with 4 kB pages a quarter
  of the time goes to page faults. glibc reads this setting only when
  a program starts. A user's own GLIBC_TUNABLES is left alone.
  """
  if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    os.execv(sys.executable, sys.orig_argv)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the command line, and reads the configuration."""
  rest = command.parse_flags(
    configurations.by_path(argv), __doc__, configurations.describe
  )
  if _CONFIG.value is None:
    names = ", ".join(configurations.names())
    command.stop(f"--config is missing; give a file, or one of {names}")
  try:
    _ = _CONFIG.value.task  # raises here if the file could not be loaded
  except (AttributeError, OSError, ValueError) as error:
    command.stop_parsing(error)
  return rest


def main(argv: list[str]) -> None:
  """Runs `config.task`; a user's mistake ends with one line and status 2."""
  if len(argv) > 1:
    command.stop(f"unexpected argument {argv[1]!r}; see --help")
  config = _CONFIG.value
  if _PRINT_CONFIG.value:
    print(saved.to_json(config), end="")
    return
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.INFO)
  handler = logging.get_absl_handler()
  handler.addFilter(_is_shown)
  handler.setFormatter(
    python_logging.Formatter("%(levelname).1s %(asctime)s %(message)s", "%X")
  )
  # Imported here: --help and a wrong flag need not wait for JAX.
  import jax

  from cgdmer_jax import bench, distributed, evaluate, plan, pretrain
  from cgdmer_jax.planning import target

  tasks = {
    "pretrain": pretrain.run,
    "bench": bench.run,
    "evaluate": evaluate.run,
    "plan": plan.run,
  }
  try:
    profiling.check_task(config.task)
    name = _WORKDIR.value or f"runs/{config.task}"
    workdir = paths.anywhere(name, "--workdir")
    data_dir = paths.data_dir(paths.DATA_DIR.value)
    if config.task == "plan":
      plan_of = config.plan
      target.prepare(plan_of.topology, plan_of.num_slices, plan_of.compile)
    distributed.initialize()
    is_first = jax.process_index() == 0
    with (
      distributed.leaving_together(),
      contextlib.ExitStack() as stack,
    ):
      # Several processes of a machine have one copy of a bucket.
      with distributed.first_process_first("open the workdir"):
        stack.enter_context(buckets.opened(workdir, writes=is_first))
      distributed.meet("the workdir is open")
      if is_first:
        log_file.keep(workdir, _is_shown)
      complete = tasks[config.task](config, workdir, data_dir)
      if complete and is_first:
        (workdir / "complete").touch()  # launchers then stop
  except UserError as error:
    command.stop(error)
  except distributed.NotTogether as error:
    command.stop(error, status=1)
  if not complete:
    sys.exit(_STOPPED_STATUS.value)


if __name__ == "__main__":
  use_huge_pages()
  app.run(main, flags_parser=parse_flags)
