"""What was done and what came out, in three sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ml_collections import ConfigDict

from cgdmer_jax.evaluators.scores import tables
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.evaluators.scores.row import Row

_GOALS = {
  "align": "to bring recordings near their reports",
  "ecg": "to restore hidden parts of recordings",
  "mlm": "to restore hidden words of reports",
}
# Terms of the loss, for people.
TERMS = {
  "align": "how far recordings are from their reports",
  "disentangle": "what the shared and the specific part know of each other",
  "ecg": "error in hidden parts of recordings",
  "mlm": "error in hidden words of reports",
  "loss": "the weighted sum",
  "gradient_norm": "size of the gradient",
}
_MOST = 4  # encoders in a sentence


def dataset(name: str) -> str:
  """A data set for people who do not know its name."""
  simulated = name.startswith("synthetic_ecg/")
  return f"simulated recordings ({name})" if simulated else name


def training(config: ConfigDict) -> str:
  """How a model was pretrained."""
  goals = [words for term, words in _GOALS.items() if config.loss[term]]
  if not config.train.steps or not goals:
    return f"The model of the recipe {config.recipe} has random weights."
  return (
    f"A model of the recipe {config.recipe} was pretrained on"
    f" {dataset(config.data.dataset)}, for {config.train.steps:,} steps of"
    f" {config.train.batch_size} records: it learnt {_join(goals)}."
  )


def comparison(results: Sequence[Result]) -> str:
  """What was compared on which records."""
  names = list(dict.fromkeys(r.encoder.name for r in results))
  datasets = list(dict.fromkeys(r.dataset for r in results))
  tasks = list(dict.fromkeys(r.task.replace("_", " ") for r in results))
  counts = [
    max(len(r.findings.test.record_ids) for r in results if r.dataset == name)
    for name in datasets
  ]
  where = [
    f"{name} ({n:,} test records)"
    for name, n in zip(datasets, counts, strict=True)
  ]
  one = len(names) == 1
  subject = f"The encoder {names[0]} was" if one else f"{_few(names)} were"
  return f"{subject} evaluated on {_join(where)}, by {_join(tasks)}."


def outcome(
  macros: Sequence[Row], topic: str, heading: str, num_labels: int
) -> str:
  """How well labels are told apart in one setting.

  Args:
    macros: the macro AUROC of each encoder.
    topic: data and label set.
    heading: the setting in words.
    num_labels: that the mean is over.
  """
  known = [row for row in macros if row.value is not None]
  known.sort(key=lambda row: -row.value)
  if not known:
    return f"No label of {topic} has enough test records to be scored."
  parts = [f"{known[0].encoder} with {_value(known[0])}"]
  parts += [f"{row.encoder} with {_value(row)}" for row in known[1:_MOST]]
  best = f"{parts[0]} is the best" if len(parts) > 1 else parts[0]
  text = (
    f"By the mean AUROC over {num_labels} labels ({topic}, {heading}), {best}"
  )
  return f"{text}, then {_join(parts[1:])}." if parts[1:] else f"{text}."


def measure(rows: Sequence[Row], tasks: Mapping[str, tables.Shown]) -> str:
  """The first number that is not about labels; `rows` are of its column."""
  known = [row for row in rows if row.value is not None]
  parts = [f"{row.encoder} {_value(row)}" for row in known[:_MOST]]
  heading = tables.heading(rows[0], tasks[rows[0].task])
  return f"{heading[:1].upper()}{heading[1:]}: {_join(parts)}."


def _value(row: Row) -> str:
  text = f"{row.value:.3f}"
  if row.low is None:
    return text
  return f"{text} [{row.low:.3f}, {row.high:.3f}]"


def _join(parts: Sequence[str]) -> str:
  *first, last = parts
  return f"{', '.join(first)} and {last}" if first else last


def _few(names: Sequence[str]) -> str:
  if len(names) <= _MOST:
    return f"The encoders {_join(names)}"
  return f"{len(names)} encoders"
