"""A task sees what it declares, and its key is made of the same."""

import json
import re
import sys

import pytest
from ml_collections import ConfigDict

from cgdmer_jax import evaluate
from cgdmer_jax.config import fields
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set, prompts, tasks
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.encoders import pretrained
from cgdmer_jax.evaluators.task import (
  Inputs,
  Options,
  Source,
  Task,
  UndeclaredOption,
  make_protocol,
)
from configs import benchmark
from data_builders import build
from tests.evaluators import planted

DATASET = "synthetic_ecg/tiny"
LABEL_SET = "superclass"
# Fields that choose what is done, not what comes out.
CHOICES = {"datasets": "x", "tasks": ("x",), "label_sets": ("form",)}
RECORDS = {
  "train": "train[:50]",
  "validation": "validation[:20]",
  "test": "test[:20]",
  "max_train": 10,
}
OPTIONS = {
  "representation": "shared",
  "batch_size": 3,
  "fractions": (0.5,),
  "seeds": 7,
  "min_positives": 1,
  "num_bootstrap": 9,
  "prompts": "prompts.json",
  "finetune": {"lr": 0.5},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  build.build(DATASET, data_dir=path)
  return path


def evaluation(**changes):
  config = fields.evaluation("", ()).unlock()
  config.update(changes)
  return config


def inputs(task, config, data_dir, tmp_path):
  data = DataSet(DATASET, config, data_dir)
  source = Source(data, LABEL_SET) if task.sources else None
  label_set = LABEL_SET if task.labels else ""
  return Inputs(planted.store(tmp_path), data, label_set, source)


def key(name, config, data_dir, tmp_path):
  task = tasks.TASKS[name]
  given = inputs(task, config, data_dir, tmp_path)
  return make_protocol(task, given, Options(task, config, given))


def test_every_field_is_tried():
  assert {*CHOICES, *RECORDS, *OPTIONS} == set(evaluation())
  assert set(data_set.FIELDS) == set(RECORDS)
  for task in tasks.TASKS.values():
    assert set(task.options) <= set(OPTIONS)


@pytest.mark.parametrize("name", tasks.TASKS)
@pytest.mark.parametrize("field", [*CHOICES, *RECORDS, *OPTIONS])
def test_a_changed_field_makes_the_results_stale_that_depend_on_it(
  field, name, data_dir, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  labels = EcgSource(DATASET, "test", data_dir).label_sets[LABEL_SET]
  sentences = {label: [f"it is {label}"] for label in labels}
  (tmp_path / "prompts.json").write_text(json.dumps(sentences))
  config = evaluation(**{field: (CHOICES | RECORDS | OPTIONS)[field]})
  before, after = (
    key(name, c, data_dir, tmp_path) for c in (evaluation(), config)
  )
  declared = ("num_bootstrap", *tasks.TASKS[name].options)
  assert (before != after) == (field in RECORDS or field in declared)


def test_prompts_count_by_their_sentences_and_not_by_their_file(
  data_dir, tmp_path
):
  copy = tmp_path / "copy.json"
  copy.write_text(prompts.SCP_PROMPTS.read_text())
  arguments = data_dir, tmp_path
  same = key("zero_shot", evaluation(prompts=str(copy)), *arguments)
  assert same == key("zero_shot", evaluation(), *arguments)
  missing = evaluation(prompts="none.json")
  assert same != key("zero_shot", missing, *arguments)
  task = tasks.TASKS["zero_shot"]
  options = Options(task, missing, inputs(task, missing, *arguments))
  assert options.min_positives == 10
  with pytest.raises(UserError, match="cannot read the prompt file none.json"):
    _ = options.prompts


def test_a_task_cannot_read_what_it_does_not_declare(
  data_dir, tmp_path, monkeypatch
):
  read = []

  def run(inputs, options):
    read.append((options.fractions, options.num_bootstrap))
    return options.seeds

  task = Task("dummy", run, order=0, labels="", options=("fractions",))
  monkeypatch.setitem(tasks.TASKS, "dummy", task)
  config = evaluation(datasets=DATASET, tasks=("dummy",))
  message = "'dummy' reads the option 'seeds' without declaring it"
  with pytest.raises(UndeclaredOption, match=message):
    every = evaluate.open_data_sets(config, data_dir)
    evaluate.evaluate([planted.Encoder()], every, config, tmp_path)
  assert read == [((0.01, 0.1, 1.0), 1000)]
  assert not issubclass(UndeclaredOption, UserError)


def test_all_folds_are_scored_where_nothing_is_learnt(data_dir, tmp_path):
  config = evaluation(
    datasets=DATASET, test="train+validation+test", num_bootstrap=5
  )
  config.update(tasks=("linear_probe", "zero_shot"), label_sets=(LABEL_SET,))
  every = evaluate.open_data_sets(config, data_dir)
  evaluate.evaluate([planted.Encoder()], every, config, tmp_path)
  document = json.loads((tmp_path / "results/comparison.json").read_text())
  assert {row["task"] for row in document["rows"]} == {"zero_shot"}
  (not_done,) = document["not_done"]
  assert not_done["task"] == "linear_probe"
  assert not_done["reason"] == (
    "evaluation.test=train+validation+test has 256 records of"
    " evaluation.train=train, which this task learns from; leave it out, or"
    " score other records"
  )


@pytest.mark.parametrize(
  ("test", "seen", "count"),
  [
    ("test", "train", 0),
    ("train+test", "train", 256),
    ("train[:100]", "train[90:]+validation", 10),
    ("train[:100]", "train[100:]", 0),
  ],
)
def test_records_of_the_pretraining_are_not_scored(
  test, seen, count, data_dir, tmp_path
):
  data = DataSet(DATASET, evaluation(test=test), data_dir)
  encoder = object.__new__(pretrained.Pretrained)  # as if it had been a run
  vars(encoder).update(vars(planted.Encoder()), _random=False)
  for dataset in ("synthetic_ecg/other", "ptb_xl/100hz"):
    config = {"data": {"dataset": dataset, "train": seen}}
    encoder._config = ConfigDict(config)
    inputs = Inputs(planted.store(tmp_path, encoder), data)
    if count and dataset.startswith("synthetic_ecg"):
      with pytest.raises(UserError, match=f" {count} records that the encoder"):
        inputs.check_unseen()
    else:
      inputs.check_unseen()


def test_tasks_are_found_in_their_order(tmp_path, monkeypatch):
  assert list(tasks.TASKS) == [
    *("zero_shot", "linear_probe", "attention_probe", "finetune"),
    "transfer",
    *("retrieval", "reconstruction", "disentanglement", "missing_leads"),
  ]
  assert tasks.registered() == tasks.TASKS
  (tmp_path / "nothing.py").write_text("TASK = None\n")
  monkeypatch.setattr(tasks, "__path__", [str(tmp_path)])
  with pytest.raises(ValueError, match=r"nothing\.py has no TASK named"):
    tasks.registered()
  del sys.modules[f"{tasks.__name__}.nothing"]


def test_every_task_has_a_configuration():
  for name in tasks.TASKS:
    module = __import__(f"configs.{name}", fromlist=["get_config"])
    assert module.get_config().evaluation.tasks == (name,)
    assert re.search(rf"configs/{name}\.py", module.__doc__)
  assert benchmark.get_config().evaluation.tasks == ("all",)
  assert evaluate._choose_tasks(("all",)) == list(tasks.TASKS.values())


def test_built_data_sets_are_found_by_their_labels(tmp_path):
  with pytest.raises(UserError, match="no data set in .*; build one"):
    data_set.choose(" ", tmp_path)
  for name, metadata in {
    "new/100hz": {"label_sets": {"x": ["a"]}},
    "ptb_xl/500hz": {"label_sets": {"x": ["a"]}},
    "ptb_xl/100hz": {"label_sets": {"x": ["a"]}},
    "images/small": {},
  }.items():
    folder = tmp_path / name / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps(metadata))
  assert data_set.choose("", tmp_path) == [
    *("ptb_xl/100hz", "ptb_xl/500hz", "new/100hz"),
  ]
  assert data_set.choose("a/b, c/d", tmp_path) == ["a/b", "c/d"]


def test_names_of_settings_in_words():
  for name, setting, words in (
    ("zero_shot", "zero_shot", "zero-shot"),
    ("linear_probe", "probe_0.1", "probe 0.1 %"),
    ("linear_probe", "probe_10_per_lead", "probe 10 % per lead"),
    ("finetune", "finetune_10", "fine-tuned 10 %"),
    ("transfer", "from_ptb_xl_100hz_form", "from ptb xl 100hz form"),
    ("retrieval", "ecg_to_report", "ecg to report"),
    ("missing_leads", "probe_100_3_leads", "probe 100 % 3 leads"),
    ("missing_leads", "zero_shot_1_lead", "zero-shot 1 lead"),
  ):
    assert tasks.TASKS[name].heading(setting) == words
