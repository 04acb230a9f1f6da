"""The tasks of the benchmark: every file in this folder is one.

A new task needs its file here and its configuration in `configs/`, nothing
else; see `evaluators/task.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping

from cgdmer_jax.evaluators.task import Task


def registered() -> dict[str, Task]:
  """Name -> task, of every file in this folder, in the order of the tables.

  Raises:
    ValueError: a file has no `TASK` of its own name.
  """
  every = []
  for file in pkgutil.iter_modules(__path__):
    module = importlib.import_module(f"{__name__}.{file.name}")
    task = getattr(module, "TASK", None)
    if task is None or task.name != file.name:
      raise ValueError(f"{module.__file__} has no TASK named {file.name!r}")
    every.append(task)
  every.sort(key=lambda task: (task.order, task.name))
  return {task.name: task for task in every}


TASKS: Mapping[str, Task] = registered()
