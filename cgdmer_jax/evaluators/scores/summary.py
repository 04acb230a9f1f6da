"""What an evaluation leaves for people: tables, all numbers, figures."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
from matplotlib.figure import Figure

from cgdmer_jax import files
from cgdmer_jax.evaluators.scores import comparison, render, tables
from cgdmer_jax.evaluators.scores.results import Result, versions
from cgdmer_jax.evaluators.scores.row import MACRO, Row
from cgdmer_jax.figures import results as figures
from cgdmer_jax.figures import style


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
  results: Sequence[Result],
  not_done: Sequence[NotDone],
  tasks: Mapping[str, tables.Shown],
  num_permutations: int,
) -> None:
  """Compares the results and writes and prints the comparison.

  Writes `results/tables.md`, `tables.tex`, `comparison.csv`, `comparison.json`
  and `figures/*.png` below `workdir`.

  Args:
    workdir: folder of the evaluation.
    results: at least one.
    not_done: what could not be done.
    tasks: name -> how a task is shown.
    num_permutations: see `comparison.compare_all`.
  """
  folder = workdir / "results"
  not_done = [*not_done, *_earlier(folder, results, not_done)]
  rows = comparison.compare_all(results, num_permutations)
  made = tables.make(rows, results, tasks)
  texts = [render.to_markdown(table) for table in made]
  if not_done:
    texts.append(_list(not_done))
  document = _document(rows, results, not_done)
  for name, text in {
    "tables.md": "\n".join(texts),
    "tables.tex": "\n".join(map(render.to_latex, made)),
    "comparison.csv": render.to_csv(rows),
    "comparison.json": json.dumps(document, indent=1, allow_nan=False) + "\n",
  }.items():
    files.write(folder / name, text)
  drawn = _draw(rows, results, tasks, workdir / "figures")
  # Printed last: whatever happens to the terminal, the files are there.
  console = rich.console.Console()
  for table in made:
    for part in render.to_rich(table, console.width):
      console.print(part)
  if not_done:
    console.print(texts[-1], markup=False)
  console.print(f"tables: {folder / 'tables.md'}", soft_wrap=True, markup=False)
  if drawn:
    text = f"figures: {len(drawn)} in {workdir / 'figures'}"
    console.print(text, soft_wrap=True, markup=False)


def scores(workdir: pathlib.Path, encoder: str) -> dict[str, float]:
  """The macro AUROCs of an encoder in the tables of a workdir, by name.

  Args:
    workdir: folder of an evaluation; without one there are no scores.
    encoder: name.
  """
  try:
    text = (workdir / "results/comparison.json").read_text(encoding="utf-8")
  except OSError:
    return {}
  return {
    f"evaluation/{r['dataset']}/{r['label_set']}/{r['setting']}": r["value"]
    for r in json.loads(text)["rows"]
    if (r["encoder"], r["metric"], r["label"]) == (encoder, "AUROC", MACRO)
    and r["value"] is not None
  }


def _earlier(
  folder: pathlib.Path, results: Sequence[Result], not_done: Sequence[NotDone]
) -> list[NotDone]:
  """What earlier calls could not do, and nobody has tried again."""
  try:
    text = (folder / "comparison.json").read_text(encoding="utf-8")
    before = [NotDone(**fields) for fields in json.loads(text)["not_done"]]
  except (OSError, ValueError, KeyError, TypeError):
    return []
  tried = {(n.encoder, n.task, n.dataset, n.label_set) for n in not_done}
  tried |= {(r.encoder.name, r.task, r.dataset, r.label_set) for r in results}
  return [
    n
    for n in before
    if (n.encoder, n.task, n.dataset, n.label_set) not in tried
  ]


def _document(
  rows: Sequence[Row],
  results: Sequence[Result],
  not_done: Sequence[NotDone],
) -> dict[str, Any]:
  """The content of `comparison.json`."""
  encoders = {
    json.dumps(dataclasses.asdict(r.encoder), sort_keys=True) for r in results
  }
  return {
    "rows": [dataclasses.asdict(row) for row in rows],
    "not_done": [dataclasses.asdict(n) for n in not_done],
    "encoders": [json.loads(text) for text in sorted(encoders)],
    "options": {r.task: r.options for r in results},
    "versions": versions(),
  }


def _list(not_done: Sequence[NotDone]) -> str:
  """What was not done, a line for each reason; all of it is in the JSON."""
  lines: dict[str, dict[str, dict[str, None]]] = {}
  for n in not_done:
    names = lines.setdefault(n.reason, {}).setdefault(n.encoder, {})
    names[n.task.replace("_", " ")] = None
  text = "Not done:\n\n"
  for reason, encoders in lines.items():
    where = (f"{name}: {', '.join(names)}" for name, names in encoders.items())
    text += f"- {reason} ({'; '.join(where)})\n"
  return text


def _draw(
  rows: Sequence[Row],
  results: Sequence[Result],
  tasks: Mapping[str, tables.Shown],
  directory: pathlib.Path,
) -> list[pathlib.Path]:
  """Draws the figures of every data and label set; their paths."""
  encoders = list(dict.fromkeys(r.encoder.name for r in results))
  titles = {(r.dataset, r.label_set): tables.topic(r) for r in results[::-1]}
  drawn = []
  for dataset, label_set in dict.fromkeys(
    (row.dataset, row.label_set) for row in rows
  ):
    key = (dataset, label_set)
    chosen = [row for row in rows if (row.dataset, row.label_set) == key]
    suffix = f"{dataset}-{label_set}".replace("/", "-").replace(" ", "_")
    for name, figure in _figures(chosen, encoders, titles[key], tasks).items():
      drawn.append(directory / f"{name}-{suffix.rstrip('-')}.png")
      style.save(figure, drawn[-1])
  return drawn


def _figures(
  rows: Sequence[Row],
  encoders: Sequence[str],
  title: str,
  tasks: Mapping[str, tables.Shown],
) -> dict[str, Figure]:
  """Figures of one data and label set.

  Args:
    rows: about this data and label set.
    encoders: names of all encoders; their order decides the colours.
    title: data and label set in words.
    tasks: name -> how a task is shown.

  Returns:
    Name -> figure: the AUROC of each label in one setting, the macro AUROCs of
    each table, and what tasks draw themselves.
  """
  drawn = {}
  aurocs = [row for row in rows if row.metric == "AUROC"]
  per_label = label_setting(aurocs, tasks)
  if per_label:
    setting = tables.heading(per_label[0], tasks[per_label[0].task])
    drawn["auroc"] = figures.auroc_per_label(
      per_label, encoders, f"{title}: {setting}"
    )
  macros: dict[str, list[Row]] = {}
  for row in aurocs:
    if row.label == MACRO:
      macros.setdefault(tables.own_table(tasks[row.task]), []).append(row)
  for own, group in macros.items():
    if own and tasks[own].figure:
      continue
    headings = [tables.heading(row, tasks[row.task]) for row in group]
    words = f"{title}, {own.replace('_', ' ')}" if own else title
    drawn[own or "macro"] = figures.macro_scores(
      group, headings, encoders, words
    )
  for name in dict.fromkeys(row.task for row in rows):
    if tasks[name].figure:
      group = [row for row in rows if row.task == name]
      drawn[name] = tasks[name].figure(group, encoders, title)
  return drawn


def label_setting(
  rows: Sequence[Row], tasks: Mapping[str, tables.Shown]
) -> list[Row]:
  """Rows of the setting that is drawn label by label; see `Task.label_figure`.

  Of several settings it is the last, with the most labels to train on.
  """
  ranks = {
    tasks[row.task].label_figure: (row.task, row.setting)
    for row in rows
    if tasks[row.task].label_figure is not None
  }
  if not ranks:
    return []
  chosen = ranks[min(ranks)]
  return [row for row in rows if (row.task, row.setting) == chosen]
