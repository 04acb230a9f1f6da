"""What an evaluation leaves for people: tables, all numbers, figures."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import rich.console

from cgdmer_jax.evaluators.scores import comparison, results, tables
from cgdmer_jax.figures import results as figures


@dataclasses.dataclass(frozen=True)
class NotDone:
  """A task that could not be done.

  Attributes:
    encoder: name.
    task: name.
    dataset: name.
    label_set: name; empty for a task without labels.
    reason: why.
  """

  encoder: str
  task: str
  dataset: str
  label_set: str
  reason: str


def write(
  workdir: pathlib.Path,
  found: Sequence[results.Result],
  not_done: Sequence[NotDone],
  num_permutations: int,
) -> None:
  """Compares the results and writes and prints the comparison.

  Writes `results/tables.md`, `tables.tex`, `comparison.csv`, `comparison.json`
  and `figures/*.png` below `workdir`.
  """
  rows = comparison.compare_all(found, num_permutations)
  made = tables.make(rows, found)
  console = rich.console.Console()
  for table in made:
    for part in tables.to_rich(table, console.width):
      console.print(part)
  texts = [tables.to_markdown(table) for table in made]
  if not_done:
    texts.append(_list(not_done))
    console.print(texts[-1], markup=False)
  folder = workdir / "results"
  document = {
    "rows": [dataclasses.asdict(row) for row in rows],
    "not_done": [dataclasses.asdict(n) for n in not_done],
    "encoders": sorted(
      {json.dumps(dataclasses.asdict(r.encoder), sort_keys=True) for r in found}
    ),
    "options": {r.task: r.options for r in found},
    "versions": results.versions(),
  }
  document["encoders"] = [json.loads(e) for e in document["encoders"]]
  for name, text in {
    "tables.md": "\n".join(texts),
    "tables.tex": "\n".join(map(tables.to_latex, made)),
    "comparison.csv": tables.to_csv(rows),
    "comparison.json": json.dumps(document, indent=1, allow_nan=False) + "\n",
  }.items():
    results.write_atomically(folder / name, text.encode())
  drawn = _draw(rows, found, workdir / "figures")
  console.print(
    f"tables: {folder / 'tables.md'}\nfigures: {', '.join(map(str, drawn))}",
    soft_wrap=True,
  )


def _list(not_done: Sequence[NotDone]) -> str:
  """What was not done, a line for each reason; all of it is in the JSON."""
  lines: dict[str, dict[str, dict[str, None]]] = {}
  for n in not_done:
    tasks = lines.setdefault(n.reason, {}).setdefault(n.encoder, {})
    tasks[n.task.replace("_", " ")] = None
  text = "Not done:\n\n"
  for reason, encoders in lines.items():
    where = (f"{name}: {', '.join(tasks)}" for name, tasks in encoders.items())
    text += f"- {reason} ({'; '.join(where)})\n"
  return text


def _draw(rows, found, directory: pathlib.Path) -> list[pathlib.Path]:
  """One figure per label, per macro average, and per broken-down measure."""
  drawn = []
  encoders = list(dict.fromkeys(r.encoder.name for r in found))
  topics = list(dict.fromkeys((r.dataset, r.label_set) for r in rows))
  for dataset, label_set in topics:
    these = [
      r for r in rows if (r.dataset, r.label_set) == (dataset, label_set)
    ]
    about = [
      r for r in found if (r.dataset, r.label_set) == (dataset, label_set)
    ]
    name = f"{dataset}-{label_set}".replace("/", "-").replace(" ", "_")
    name = name.rstrip("-")
    title = tables.topic(about[0])
    aurocs = [r for r in these if r.metric == "AUROC"]
    per_label = _one_setting(aurocs)
    if per_label:
      heading = f"{title}: {tables.heading(per_label[0])}"
      path = directory / f"auroc-{name}.png"
      figures.save(figures.auroc_per_label(per_label, encoders, heading), path)
      drawn.append(path)
    macros: dict[str, list[comparison.Row]] = {}
    for row in aurocs:
      if row.label == comparison.MACRO:
        macros.setdefault(tables.together(row.task), []).append(row)
    for task, of_task in macros.items():
      path = directory / f"{task or 'macro'}-{name}.png"
      labels = [tables.heading(r) for r in of_task]
      words = f"{title}, {task.replace('_', ' ')}" if task else title
      figures.save(figures.macro_scores(of_task, labels, encoders, words), path)
      drawn.append(path)
    restored = [r for r in these if r.task == "reconstruction"]
    if restored:
      path = directory / f"reconstruction-{name}.png"
      figures.save(figures.unexplained(restored, encoders, title), path)
      drawn.append(path)
  return drawn


def _one_setting(rows) -> list[comparison.Row]:
  """Rows of the setting that is shown label by label: the fullest probe."""
  settings = list(dict.fromkeys((r.task, r.setting) for r in rows))
  for task in ("linear_probe", "zero_shot", "finetune", "transfer"):
    of_task = [s for s in settings if s[0] == task]
    if of_task:
      return [r for r in rows if (r.task, r.setting) == of_task[-1]]
  return []
