"""Lists what there is: presets, data sets, tasks and runs.

    cgdmer list
    cgdmer list runs --runs='runs/*'

With a word behind `list`, that part only. Of a run: its state, recipe and data
set, and the best macro AUROC of each task and label set in its tables.
"""

from __future__ import annotations

import glob
import importlib.util
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import rich.table
from absl import app, flags

from cgdmer_jax import buckets, command, paths
from cgdmer_jax.config import configurations, presets, saved
from cgdmer_jax.errors import UserError

_RUNS = flags.DEFINE_string(
  "runs", "runs/*", "Folders of runs and evaluations; * stands for many."
)
flags.adopt_module_key_flags(paths)


def _presets() -> Iterator[str]:
  for name, text in configurations.summaries(configurations.FOLDER).items():
    yield f"{name:16} {text}"
  yield f"pretrain:NAME    demo, {', '.join(presets.SIZES)}"
  yield f"pretrain:recipe= {', '.join(presets.RECIPES)}"
  yield f"TASK:NAME        {', '.join(presets.DATASETS)}"


def _tasks() -> Iterator[str]:
  for name, text in configurations.summaries(configurations.TASKS).items():
    yield f"{name:16} {text}"


def _datasets() -> Iterator[str]:
  data_dir = paths.data_dir(paths.DATA_DIR.value)
  buckets.fetch_names(data_dir)
  for path in sorted(data_dir.glob("*/*/*/dataset_info.json")):
    name = "/".join(path.relative_to(data_dir).parts[:2])
    if path.parent.parent.name != "incomplete":
      splits = _json(path).get("splits", [])
      sizes = (
        f"{s['name']} {sum(map(int, s['shardLengths'])):,}" for s in splits
      )
      yield f"{name:32} built: {', '.join(sizes)}"
  spec = importlib.util.find_spec("data_builders")
  for root in spec.submodule_search_locations or () if spec else ():
    files = pathlib.Path(root).glob("*/*_dataset_builder.py")
    known = ", ".join(sorted(file.parent.name for file in files))
    yield f"{'can be built':32} {known}"


def runs(pattern: str) -> Iterator[str]:
  """Lines about runs and evaluations: state, then best numbers.

  Args:
    pattern: their folders; `*` stands for many.
  """
  for name in sorted(glob.glob(str(paths.local(pattern, "--runs")))):
    workdir = pathlib.Path(name)
    config = _json(workdir / saved.FILE_NAME)
    results = workdir / "results/comparison.json"
    if config or results.exists():
      yield f"{name:32}  {_state(workdir, config)}"
      yield from (f"  {line}" for line in _best(_json(results)))


def _state(workdir: pathlib.Path, config: dict[str, Any]) -> str:
  """How far a run is, and what it is."""
  if not config:
    return "evaluation"
  folders = (workdir / "checkpoints").glob("*")
  step = max((int(f.name) for f in folders if f.name.isdecimal()), default=0)
  steps = config["train"]["steps"]
  is_complete = (workdir / "complete").exists()
  state = "complete" if is_complete else f"step {step} of {steps}"
  return f"{state}, {config['recipe']} on {config['data']['dataset']}"


def _best(document: dict[str, Any]) -> Iterator[str]:
  """The best macro AUROC of each data set, label set and setting."""
  found: dict[tuple[str, ...], dict[str, Any]] = {}
  for row in document.get("rows", ()):
    if row["metric"] == "AUROC" and row["label"] == "macro" and row["value"]:
      key = row["dataset"], row["label_set"], row["setting"]
      if key not in found or found[key]["value"] < row["value"]:
        found[key] = row
  for (dataset, label_set, setting), row in found.items():
    words = f"{dataset} {label_set}, {setting.replace('_', ' ')}"
    yield f"{words}: {row['value']:.3f} ({row['encoder']})"


def score_table(workdirs: Sequence[pathlib.Path]) -> rich.table.Table | None:
  """Macro AUROCs of runs, a row each; None if no run has any."""
  scores: dict[str, dict[str, float]] = {}
  for workdir in workdirs:
    recipe = _json(workdir / saved.FILE_NAME).get("recipe")
    rows = _json(workdir / "results/comparison.json").get("rows", ())
    scores[workdir.name] = {
      f"{r['label_set']} {r['setting'].replace('_', ' ')}": r["value"]
      for r in rows
      if (r["metric"], r["label"], r["encoder"]) == ("AUROC", "macro", recipe)
    }
  columns = list(dict.fromkeys(k for row in scores.values() for k in row))
  if not columns:
    return None
  table = rich.table.Table("run", *columns, title="macro AUROC")
  for name, row in scores.items():
    values = (row.get(column) for column in columns)
    table.add_row(name, *("" if v is None else f"{v:.3f}" for v in values))
  return table


def _json(path: pathlib.Path) -> dict[str, Any]:
  """Content of a JSON file; nothing if it cannot be read."""
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return {}


PARTS: dict[str, Callable[[], Iterator[str]]] = {
  "presets": _presets,
  "datasets": _datasets,
  "tasks": _tasks,
  "runs": lambda: runs(_RUNS.value),
}


def main(argv: list[str]) -> None:
  """Prints what the words ask for; without a word, all of it."""
  unknown = sorted(set(argv[1:]) - set(PARTS))
  if unknown:
    command.stop(f"unknown part {unknown[0]!r}; expected {', '.join(PARTS)}")
  try:
    for name in argv[1:] or PARTS:
      print(f"{name}:")
      for line in PARTS[name]() or ():
        print(f"  {line}")
  except UserError as error:
    command.stop(error)


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
