"""The model card: `README.md` of an export, as the hub shows it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import huggingface_hub
import jax
import jinja2

from cgdmer_jax.evaluators.scores import results, subgroups
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.exchange import card_scores, golden, program
from cgdmer_jax.inference import bundle
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.recordings import windows

FILE_NAME = "README.md"
_TEMPLATE = pathlib.Path(__file__).with_name("card.md")
_TAGS = ("ecg", "electrocardiogram", "jax", "contrastive-learning", "medical")
_FILES = {
  bundle.WEIGHTS: "parameters, and the configuration in its metadata",
  "config.json": "configuration of the pretraining",
  bundle.TOKENIZER: "tokenizer of reports",
  bundle.READOUT: "labels with prompts and calibration; the most frequent"
  " sentences of the training reports",
  program.FILE_NAME: "the ECG encoder for `jax.export.deserialize`",
  golden.FILE_NAME: "made-up recordings, and what the model gives for them",
}


@dataclasses.dataclass(frozen=True)
class About:
  """What only those know who export.

  Attributes:
    name: title of the card.
    address: what `cgdmer_jax.load` takes.
    num_train: records of the training; 0: unknown.
    licence: such as "apache-2.0"; empty: none was given.
    groups: sex and age of test records.
  """

  name: str
  address: str
  num_train: int = 0
  licence: str = ""
  groups: subgroups.Groups = dataclasses.field(default_factory=dict)


def write(
  loaded: EcgModel,
  directory: pathlib.Path,
  found: Sequence[Result],
  about: About,
) -> str:
  """Writes the card of a model.

  Args:
    loaded: the model.
    directory: its export, complete but for the card.
    found: results of an evaluation of these weights.
    about: what cannot be read from these.
  """
  config, model = loaded.trained.config, loaded.trained.model
  names = {x.name for x in directory.iterdir()}
  topics = card_scores.topics(found, about.groups)
  rate = config.preprocess.sampling_rate
  labels = loaded.readout.labels if loaded.readout else ()
  environment = jinja2.Environment(
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
  )
  template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
  return template.render(
    metadata=_metadata(found, about),
    name=about.name,
    address=about.address,
    licence=about.licence,
    recipe=loaded.trained.name,
    simulated=_is_simulated(config.data.dataset),
    patients=", ".join(
      sorted({x.dataset for x in found if not _is_simulated(x.dataset)})
    ),
    reports=model.use_report,
    specific=model.use_specific,
    readout=loaded.readout,
    labels=len(labels),
    fitted=sum(x.slope is not None for x in labels),
    program=program.FILE_NAME in names,
    rate=rate,
    samples=rate * windows.WINDOW_SECONDS,
    filter=_filter(config.preprocess),
    width=config.model.ecg.width,
    parameters=sum(x.size for x in jax.tree.leaves(loaded.trained.params)),
    training=_training(loaded),
    terms=_terms(config),
    data=_data(config, about.num_train),
    topics=topics,
    has_groups=any(x.groups for x in topics),
    files=[(k, v) for k, v in _FILES.items() if k in names],
    sha256=golden.hash_of(directory / bundle.WEIGHTS),
    version=results.versions().get("cgdmer-jax", ""),
  )


def _metadata(found: Sequence[Result], about: About) -> str:
  """The YAML at the head, by which the hub finds and shows a model."""
  scores = [
    huggingface_hub.EvalResult(
      task_type="zero-shot-classification"
      if outcome.setting == "zero_shot"
      else "feature-extraction",
      dataset_type=result.dataset,
      dataset_name=result.dataset,
      dataset_split=result.split,
      metric_type="roc_auc",
      metric_name=(
        f"macro AUROC, {result.label_set},"
        f" {card_scores.words(result.task, outcome.setting)}"
      ),
      metric_value=round(outcome.evaluation.macro_auroc.value, 4),
    )
    for result in found
    for outcome in result.findings.outcomes
    if outcome.evaluation.macro_auroc.value is not None
  ]
  data = huggingface_hub.ModelCardData(
    license=about.licence or None,
    library_name="cgdmer_jax",
    pipeline_tag="feature-extraction",
    tags=[*_TAGS],
    model_name=about.name,
    eval_results=scores or None,
  )
  return data.to_yaml()


def _is_simulated(dataset: str) -> bool:
  return dataset.startswith("synthetic_ecg")


def _filter(config: Any) -> str:
  low, high = config.bandpass
  if low and high:
    return f"filtered from {low:g} to {high:g} Hz"
  if low or high:
    side, corner = ("above", low) if low else ("below", high)
    return f"filtered {side} {corner:g} Hz"
  return "unfiltered"


def _training(loaded: EcgModel) -> str:
  config, step = loaded.trained.config, loaded.trained.step
  if not step:
    return "none: random weights"
  text = f"{step:,} steps of {config.train.batch_size:,} records"
  if step < config.train.steps:
    text += f", of {config.train.steps:,} that were planned"
  if config.report.checkpoint:
    text += f"; report encoder from {config.report.checkpoint}"
  return f"{text}; seed {config.seed}"


def _terms(config: Any) -> str:
  names = {
    "align": "alignment of recordings and reports",
    "ecg": "reconstruction of hidden patches",
    "mlm": "restoration of masked words",
    "disentangle": "disentanglement of the shared and the specific part",
  }
  terms = [
    f"{text} ({config.loss[name]:g})"
    for name, text in names.items()
    if config.loss.get(name)
  ]
  return "; ".join(terms) or "none"


_CORPORA = {
  "synthetic_ecg": "simulated 12-lead ECGs with written reports",
  "mimic_iv_ecg": "MIMIC-IV-ECG: ECGs of Beth Israel Deaconess Medical Center,"
  " Boston, with the reports of the machine",
  "ptb_xl": "PTB-XL: ECGs of Physikalisch-Technische Bundesanstalt, with"
  " reports",
}


def _data(config: Any, num_train: int) -> str:
  name = config.data.dataset
  corpus = _CORPORA.get(name.partition("/")[0])
  text = f"`{name}`, split `{config.data.train}`"
  text += f" ({num_train:,} records)" if num_train else ""
  text += f": {corpus}." if corpus else "."
  if config.init_from:
    text += f" The training started from the weights of {config.init_from}."
  return text
