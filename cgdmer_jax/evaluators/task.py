"""What a task of the benchmark is, and what it is given.

A task is a file in `tasks/` that ends with `TASK = Task(...)`, and a
configuration of the same name in `configs/`. Its result is kept under a key
that is made of all that the task is given: the encoder, the records, the label
set, and the options that it declares. A task cannot read an option that it does
not declare, so an old result is never taken for that of other options.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from cgdmer_jax import trained_model
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.data_set import SPLITS, DataSet
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.encoders.baseline import Baseline
from cgdmer_jax.evaluators.encoders.pretrained import Pretrained
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.evaluators.scores.comparison import Row
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.trained_model import TrainedModel

_ALWAYS = ("num_bootstrap",)


@dataclasses.dataclass(frozen=True)
class Source:
  """Another data set that a task learns from.

  Attributes:
    data: its records.
    label_set: the label set of it that is learnt.
  """

  data: DataSet
  label_set: str


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a task works on.

  Attributes:
    store: an encoder with its features.
    data: the data set that is scored; without a `source`, learnt from, too.
    label_set: name; empty for a task without labels.
    source: another data set that is learnt from; see `Task.sources`.
  """

  store: features.Store
  data: DataSet
  label_set: str = ""
  source: Source | None = None

  @property
  def label_names(self) -> tuple[str, ...]:
    """Labels of the label set."""
    return self.data.label_sets[self.label_set]

  @property
  def topic(self) -> str:
    """What labels the result is about, in words."""
    if self.source is None:
      return self.label_set
    other = self.source
    return f"{self.label_set} from {other.data.name} {other.label_set}"

  def check_unseen(self) -> None:
    """Raises UserError if the encoder was pretrained on test records."""
    encoder = self.store.encoder
    if not isinstance(encoder, Pretrained) or encoder.training_data is None:
      return
    seen = encoder.training_data
    if seen.dataset.split("/")[0] == self.data.corpus:
      self.data.check_unseen(seen.train)

  def trained_model(self) -> TrainedModel:
    """The model behind the encoder.

    Raises:
      UserError: there is none, or it cannot read the records of the data set.
    """
    trained = self.store.encoder.trained_model()
    trained_model.check_sampling_rate(
      self.data.test.name,
      self.data.test.sampling_rate,
      trained.config.preprocess,
    )
    return trained


class UndeclaredOption(AttributeError):
  """A task reads an option that it does not declare: a mistake in its code."""


class Options:
  """The fields of `config.evaluation` that a task declares, as attributes.

  `num_bootstrap` is always among them. `prompts` stands for the sentences of
  the label set, label -> sentences, and not for the name of their file.
  """

  def __init__(self, task: Task, evaluation: ConfigDict, inputs: Inputs):
    """Selects the declared fields.

    Args:
      task: declares them.
      evaluation: `config.evaluation`.
      inputs: decide the label set of the prompts.
    """
    names = sorted({*_ALWAYS, *task.options})
    self._task = task.name
    self._fields = ConfigDict({name: evaluation[name] for name in names})
    self._read = {}
    if "prompts" in names:
      self._read["prompts"] = _read_prompts(evaluation.prompts, inputs)

  def __getattr__(self, name: str) -> Any:
    """The value of an option.

    Raises:
      UndeclaredOption: the task does not declare it.
      UserError: the prompts cannot be read.
    """
    if name.startswith("_"):
      raise AttributeError(name)
    if name not in self._fields:
      raise UndeclaredOption(
        f"task {self._task!r} reads the option {name!r} without declaring it;"
        f" declared: {', '.join(self._fields)}"
      )
    value = self._read.get(name, self._fields[name])
    if isinstance(value, UserError):
      raise value
    return value

  def configured(self) -> dict[str, Any]:
    """The declared fields as they are in the configuration."""
    return self._fields.to_dict()

  def decisive(self) -> dict[str, Any]:
    """The declared fields as JSON has them, sentences in place of a file."""
    read = {
      name: str(value) if isinstance(value, UserError) else value
      for name, value in self._read.items()
    }
    return self.configured() | read


def _read_prompts(
  path: str, inputs: Inputs
) -> dict[str, tuple[str, ...]] | UserError:
  """The sentences of each label, or why they cannot be read."""
  try:
    return prompts.load(inputs.label_set, inputs.label_names, path)
  except UserError as error:
    return error


def words(setting: str) -> str:
  """A setting such as "ecg_to_report" in words."""
  return setting.replace("_", " ")


@dataclasses.dataclass(frozen=True)
class Task:
  """A task of the benchmark.

  Attributes:
    name: name of its file, and of its configuration.
    run: does it. Raises UserError where the encoder or the data set cannot take
      part; the rest of the benchmark goes on.
    order: place among the tasks, where all of them are done; ascending.
    labels: which label sets of a data set it is done on: "every" one, the
      "first" (unless label sets are asked for by name), or "" for a task
      without labels.
    options: fields of `config.evaluation` that `run` reads, besides
      `num_bootstrap`, which can always be read.
    sources: for a task that learns from another data set. It takes the data set
      that is scored, its label set, and the data sets of other corpora, and
      returns what can be learnt from. The task is run once for each of them;
      once without a source, if there is none. None: no other data set is
      needed.
    own_table: whether it has tables and figures of its own. The other tasks
      share theirs.
    heading: turns one of its settings into the heading of a column.
    label_figure: rank in the figure of single labels. Of the tasks that were
      done, the one with the least rank is drawn, in its last setting. None: it
      is never drawn.
    figure: draws what the task found on one data set and label set. It takes
      the rows, the names of all encoders, whose order decides the colours, and
      a title. For a task with its own table the figure takes the place of that
      of its macro AUROCs.
    baselines: what is no encoder and does the task in its own way: name ->
      in place of `run`.
  """

  name: str
  run: Callable[[Inputs, Options], Findings]
  order: int
  labels: str = "every"
  options: tuple[str, ...] = ()
  sources: Callable[[DataSet, str, Sequence[DataSet]], list[Source]] | None = (
    None
  )
  own_table: bool = False
  heading: Callable[[str], str] = words
  label_figure: int | None = None
  figure: Callable[[Sequence[Row], Sequence[str], str], Figure] | None = None
  baselines: Mapping[str, Callable[[Inputs, Options], Findings]] = (
    dataclasses.field(default_factory=dict)
  )

  def run_of(
    self, encoder: features.Encoder
  ) -> Callable[[Inputs, Options], Findings] | None:
    """What does the task with an encoder; None: it has no part in it."""
    if isinstance(encoder, Baseline):
      return self.baselines.get(encoder.identity.name)
    return self.run


def make_protocol(task: Task, inputs: Inputs, options: Options) -> str:
  """Hash of all that a result depends on, but for the encoder."""
  given = [inputs.data] + ([inputs.source.data] if inputs.source else [])
  return results.make_key(
    task.name,
    inputs.topic,
    options.decisive(),
    [data.source(split).fingerprint for data in given for split in SPLITS],
  )
