"""`report.html` of a workdir: what a run or an evaluation leaves, on one page.

Everything is read from files of the workdir, so a later evaluation adds to the
page of a run. What is not there is left out.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from cgdmer_jax import files
from cgdmer_jax.config import saved
from cgdmer_jax.evaluators.scores import results as results_lib
from cgdmer_jax.evaluators.scores import summary, tables
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.evaluators.scores.row import MACRO, Row
from cgdmer_jax.figures import reconstructions
from cgdmer_jax.pages import curves, sentences, sheets, template, views
from cgdmer_jax.pages.charts import MARKS, Panel
from cgdmer_jax.train import metrics

FILE_NAME = "report.html"
NOTICE = "Research software, not a medical device: not for diagnosis."
_MAPS = 6  # encoders with a map of their embeddings
_TEXTS = 2  # encoders with examples of retrieval


@dataclasses.dataclass(frozen=True)
class Topic:
  """What was found on one data and label set.

  Attributes:
    title: data and label set in words.
    tables: the short tables.
    setting: that is shown label by label, in words; empty without.
    labels: AUROC of each label in this setting.
    words: code -> what it means.
    rocs: ROC curves: the mean, then single labels.
    calibration: of this setting; None without probabilities.
    maps: embeddings of encoders.
    map_labels: their colours: label in words, marker.
    measures: numbers that are not about single labels: what, and the row.
  """

  title: str
  tables: list[views.View]
  setting: str
  labels: list[views.LabelRow]
  words: dict[str, str]
  rocs: list[Panel]
  calibration: Panel | None
  maps: list[Panel]
  map_labels: list[tuple[str, str]]
  measures: list[tuple[str, Row]]


def write(
  workdir: pathlib.Path,
  results: Sequence[Result],
  tasks: Mapping[str, tables.Shown],
) -> pathlib.Path:
  """Writes the page; its path.

  Args:
    workdir: of a run, of an evaluation, or of both.
    results: those that `summary.write` has compared; none for a run that was
      not evaluated.
    tasks: name -> how a task is shown.
  """
  document = _comparison(workdir) if results else {}
  rows = [Row(**fields) for fields in document.get("rows", ())]
  is_run = (workdir / saved.FILE_NAME).exists()
  config = saved.read(workdir) if is_run else None
  encoders = list(dict.fromkeys(r.encoder.name for r in results))
  lines = metrics.read_metrics(workdir) if is_run else []
  drawn = reconstructions.read(workdir / "figures") if is_run else None
  text = template.render(
    "report",
    title=f"{'Run' if is_run else 'Evaluation'} {workdir.resolve().name}",
    notice=NOTICE,
    sentences=_sentences(config, rows, results, tasks),
    encoders=encoders,
    topics=_topics(rows, results, tasks, encoders),
    questions=_questions(rows, tasks),
    losses=[
      (panel, sentences.TERMS.get(panel.title.replace(" ", "_"), ""))
      for panel in curves.losses(lines)
    ],
    tracings=[
      (sheets.draw(drawn.sheet(i)), report, int(drawn.hidden[i].sum()))
      for i, report in enumerate(drawn.reports.tolist())
    ]
    if drawn
    else [],
    num_patches=drawn.hidden[0].size if drawn else 0,
    rule=str(drawn.rule) if drawn else "",
    retrieval=_retrieval(results),
    not_done=document.get("not_done", []),
    settings=json.dumps(
      config.to_dict() if config else document.get("options", {}),
      indent=1,
      default=str,
    ),
    provenance=document.get("encoders", []),
    versions=document.get("versions") or results_lib.versions(),
  )
  path = workdir / FILE_NAME
  files.write(path, text)
  return path


def _comparison(workdir: pathlib.Path) -> dict[str, Any]:
  path = workdir / "results/comparison.json"
  return json.loads(path.read_text(encoding="utf-8"))


def _sentences(config, rows, results, tasks) -> list[str]:
  said = [sentences.training(config)] if config else []
  if not results:
    return [*said, "It was not evaluated."]
  said.append(sentences.comparison(results))
  for dataset, label_set in _keys(rows):
    chosen = summary.label_setting(_aurocs(rows, dataset, label_set), tasks)
    if not chosen:
      continue
    macros = [row for row in chosen if row.label == MACRO]
    heading = tables.heading(macros[0], tasks[macros[0].task])
    scored = {
      r.label for r in chosen if r.label != MACRO and r.value is not None
    }
    topic = f"{dataset}, {label_set}"
    said.append(sentences.outcome(macros, topic, heading, len(scored)))
    return said
  first = next((row for row in rows if not row.label and row.main), None)
  if first:
    column = first.dataset, first.task, first.setting, first.metric
    same = [
      r for r in rows if (r.dataset, r.task, r.setting, r.metric) == column
    ]
    said.append(sentences.measure(same, tasks))
  return said


def _keys(rows: Sequence[Row]) -> list[tuple[str, str]]:
  return list(dict.fromkeys((row.dataset, row.label_set) for row in rows))


def _aurocs(rows: Sequence[Row], dataset: str, label_set: str) -> list[Row]:
  key = dataset, label_set, "AUROC"
  return [r for r in rows if (r.dataset, r.label_set, r.metric) == key]


def _topics(rows, results, tasks, encoders) -> list[Topic]:
  made = []
  for dataset, label_set in _keys(rows):
    key = dataset, label_set
    chosen = [r for r in rows if (r.dataset, r.label_set) == key]
    every = [r for r in results if (r.dataset, r.label_set) == key]
    made.append(_topic(chosen, every, tasks, encoders))
  return made


def _topic(
  rows: Sequence[Row],
  results: Sequence[Result],
  tasks: Mapping[str, tables.Shown],
  encoders: Sequence[str],
) -> Topic:
  """All that is about one data and label set."""
  aurocs = [row for row in rows if row.metric == "AUROC"]
  per_label = summary.label_setting(aurocs, tasks)
  setting, rocs, calibration = "", [], None
  if per_label:
    first = per_label[0]
    setting = tables.heading(first, tasks[first.task])
    by_encoder: dict[int, list[Result]] = {}
    for result in results:
      if result.task == first.task:
        number = encoders.index(result.encoder.name)
        by_encoder.setdefault(number, []).append(result)
    outcomes = {
      k: [
        o
        for result in every
        for o in result.findings.outcomes
        if o.setting == first.setting
      ]
      for k, every in by_encoder.items()
    }
    outcomes = {k: found for k, found in outcomes.items() if found}
    test = next(iter(by_encoder.values()))[0].findings.test
    rocs = curves.rocs(outcomes, test)
    calibration = curves.calibration(by_encoder, first.setting)
  words = {row.label: row.label_in_words for row in rows}
  maps, codes = _maps(results)
  return Topic(
    tables.topic(results[0]),
    [
      views.view(table, encoders) for table in tables.make(rows, results, tasks)
    ],
    setting,
    views.label_rows(per_label, encoders),
    words,
    rocs,
    calibration,
    maps,
    [
      (f"{words[code]} ({code})" if words.get(code) else code, MARKS[k])
      for k, code in enumerate(codes)
    ],
    [
      (tables.heading(row, tasks[row.task]), row)
      for row in rows
      if not row.label
    ],
  )


def _maps(results: Sequence[Result]) -> tuple[list[Panel], list[str]]:
  """Maps of different encoders, and the codes of their labels."""
  maps: dict[str, Panel] = {}
  codes: list[str] = []
  for result in results:
    made = curves.embedding_map(result)
    if made and result.encoder.name not in maps and len(maps) < _MAPS:
      maps[result.encoder.name], codes = made
  return [*maps.values()], codes


def _questions(
  rows: Sequence[Row], tasks: Mapping[str, tables.Shown]
) -> list[tuple[str, str]]:
  """Tasks that were done, each with what it is."""
  questions = []
  for name in dict.fromkeys(row.task for row in rows):
    run = getattr(tasks[name], "run", None)
    module = sys.modules.get(getattr(run, "__module__", ""))
    text = ((module and module.__doc__) or "").partition("\n")[0]
    words = text.partition(": ")[2] or text
    questions.append((name.replace("_", " "), words))
  return questions


def _retrieval(
  results: Sequence[Result],
) -> list[tuple[str, str, int, list[dict[str, Any]]]]:
  """Examples of encoders: name, data set, number of reports, recordings."""
  shown = {}
  for result in results:
    details = result.findings.details.get("retrieval", {})
    examples = details.get("examples")
    key = result.encoder.name, result.dataset
    if examples and key not in shown and len(shown) < _TEXTS:
      shown[key] = details["num_reports"], examples
  return [(*key, *value) for key, value in shown.items()]
