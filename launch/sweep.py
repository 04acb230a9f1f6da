"""Runs every point of a sweep that a configuration describes.

    python launch/sweep.py --config=configs/pretrain.py --sweep=recipes \
        --workdir=runs/recipes [--where=local|slurm|jobset] [--dry_run] \
        [-- ARGUMENTS FOR ALL POINTS]

A configuration file has functions `sweep_NAME()`, which yield `(point, option,
overrides)`: a name, what to add behind the colon of --config, and values of
fields. A point runs in `WORKDIR/point`; a complete one is left out, one that
was begun resumes.

local: one after the other, here; if one fails the others still run, and a list
of those that failed comes at the end.
slurm: one job array of launch/slurm.sbatch. jobset: one JobSet for each point,
from launch/jobset.yaml and the variables that it names.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import signal
import string
import subprocess
import sys
from collections.abc import Iterator, Sequence

import rich.console
from absl import app, flags

from cgdmer_jax import command, files, listing, paths
from cgdmer_jax.config import configurations, presets
from cgdmer_jax.errors import UserError

_FOLDER = pathlib.Path(__file__).parent
_CONFIG = flags.DEFINE_string(
  "config", None, "File in configs/, with its option: file.py:preset."
)
_SWEEP = flags.DEFINE_string("sweep", None, "NAME of its function sweep_NAME.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of all points.")
_WHERE = flags.DEFINE_enum(
  "where", "local", ("local", "slurm", "jobset"), "Where points run."
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the commands only.")


class Point:
  """One run of a sweep.

  Attributes:
    name: name of the point and of its folder.
    workdir: folder of the point.
    arguments: command line of `cgdmer_jax.main`.
  """

  def __init__(self, name: str, arguments: Sequence[str]):
    """Puts the arguments together with the folder of the point."""
    self.name = name
    self.workdir = paths.local(_WORKDIR.value, "--workdir") / name
    self.arguments = [*arguments, f"--workdir={self.workdir}"]

  @property
  def complete(self) -> bool:
    """Whether nothing is left to do."""
    return (self.workdir / "complete").exists()


def points(config: str, sweep: str, rest: Sequence[str]) -> Iterator[Point]:
  """Yields the points of a sweep; `rest` are more arguments for all of them."""
  _, config = configurations.by_path(["", f"--config={config}"])
  path, _, option = config.removeprefix("--config=").partition(":")
  if not pathlib.Path(path).is_file():
    command.stop(f"no file {path}; run this from the folder that has configs/")
  sys.path.insert(0, os.getcwd())  # a configuration may import its neighbours
  module = presets.load(path)
  function = getattr(module, f"sweep_{sweep}", None)
  if function is None:
    known = [n[6:] for n in vars(module) if n.startswith("sweep_")]
    command.stop(
      f"{path} has no sweep {sweep!r}; it has {', '.join(known) or 'none'}"
    )
  for name, more, overrides in function():
    options = ",".join(filter(None, (option, more)))
    arguments = [
      f"--config={path}:{options}" if options else f"--config={path}"
    ]
    arguments += [f"--config.{key}={x}" for key, x in overrides.items()]
    yield Point(name, [*arguments, *rest])


def run_locally(todo: Sequence[Point], every: Sequence[Point]) -> int:
  """Runs one point after the other, then prints the scores of all.

  Returns:
    How many failed.
  """
  failed = []
  for point in todo:
    line = [sys.executable, "-m", "cgdmer_jax.main", *point.arguments]
    print(shlex.join(line), flush=True)
    if _DRY_RUN.value:
      continue
    with subprocess.Popen(line) as process:
      # Told to end, we tell the point, which saves and ends.
      signal.signal(signal.SIGTERM, lambda *_: process.terminate())
      code = process.wait()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if code:
      failed.append(f"{point.name} (status {code})")
    elif not point.complete:
      command.stop(f"{point.name} was stopped; the same command continues", 143)
  if not _DRY_RUN.value:
    print(f"{len(todo) - len(failed)} of {len(todo)} points succeeded")
    table = listing.score_table([point.workdir for point in every])
    if table:
      rich.console.Console().print(table)
  if failed:
    print(f"failed: {', '.join(failed)}", file=sys.stderr)
  return len(failed)


def submit_array(todo: Sequence[Point], every: Sequence[Point]) -> int:
  """Submits one Slurm array, whose tasks read their arguments from a file.

  The file has all points, in their order, so that a task that is queued again
  after another call still finds its own.
  """
  path = pathlib.Path(_WORKDIR.value) / f"{_SWEEP.value}.points"
  lines = [shlex.join(point.arguments) for point in every]
  numbers = ",".join(str(i) for i, p in enumerate(every) if p in todo)
  line = [
    *("sbatch", f"--array={numbers}"),
    *(f"--export=ALL,SWEEP={path.absolute()}", str(_FOLDER / "slurm.sbatch")),
  ]
  if _DRY_RUN.value:
    print(f"# {path}:", *lines, sep="\n")
    print(shlex.join(line))
    return 0
  files.write(path, "\n".join(lines) + "\n")  # tasks may be reading it
  return subprocess.run(line, check=False).returncode


def apply_jobsets(todo: Sequence[Point]) -> int:
  """Applies a JobSet for each point; returns how many failed."""
  template = string.Template((_FOLDER / "jobset.yaml").read_text())
  failed = 0
  for point in todo:
    name = re.sub(r"[^a-z0-9]+", "-", f"{_SWEEP.value}-{point.name}".lower())
    values = dict(
      os.environ, NAME=name.strip("-"), ARGUMENTS=shlex.join(point.arguments)
    )
    try:
      text = template.substitute(values)
    except KeyError as error:
      command.stop(f"set {error.args[0]}; see the head of launch/jobset.yaml")
    if _DRY_RUN.value:
      print(text, "---", sep="\n")
      continue
    line = ["kubectl", "apply", "--filename=-"]
    failed += bool(subprocess.run(line, input=text, text=True).returncode)
  return failed


def main(rest: Sequence[str]) -> int:
  """Runs what is left to do."""
  for flag in (_CONFIG, _SWEEP, _WORKDIR):
    if not flag.value:
      command.stop(f"--{flag.name} is needed; see --help")
  try:
    every = list(points(_CONFIG.value, _SWEEP.value, rest[1:]))
  except UserError as error:
    command.stop(error)
  todo = [point for point in every if not point.complete]
  if len(todo) < len(every):
    print(f"# {len(every) - len(todo)} of {len(every)} points are complete")
  if _WHERE.value == "local":  # also where nothing is left: for the table
    return 1 if run_locally(todo, every) else 0
  if not todo:
    return 0
  failed = (
    submit_array(todo, every)
    if _WHERE.value == "slurm"
    else apply_jobsets(todo)
  )
  return 1 if failed else 0


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
