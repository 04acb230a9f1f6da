"""The tasks of the benchmark: from an encoder and a data set to findings."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from cgdmer_jax import trained_model
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import views
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.probes import linear as linear_probe
from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.tasks import (
  disentanglement,
  finetune,
  reconstruction,
  retrieval,
  transfer,
  zero_shot,
)
from cgdmer_jax.trained_model import TrainedModel

SPLITS = ("train", "validation", "test")
# What smaller devices record.
LEAD_SUBSETS = {
  "6_leads": ("I", "II", "III", "aVR", "aVL", "aVF"),
  "3_leads": ("I", "II", "V2"),
  "1_lead": ("I",),
}


class Data:
  """One data set, as the tasks see it.

  Attributes:
    name: name with configuration, such as "ptb_xl/100hz".
    options: `config.evaluation`.
    mesh: devices.
    others: data sets of the same evaluation, to transfer from: not those made
      of the same corpus, which may train on records that are test records here.
  """

  def __init__(
    self,
    name: str,
    options: ConfigDict,
    data_dir: pathlib.Path,
    mesh: jax.sharding.Mesh,
  ):
    """Opens the test split; the others are opened when they are read."""
    self.name, self.options, self.mesh = name, options, mesh
    self._data_dir = data_dir
    self.others: list[Data] = []
    self.source("test")

  @functools.lru_cache  # noqa: B019
  def source(self, split: str) -> EcgSource:
    """Records of "train", "validation" or "test"."""
    name = self.options[split]
    source = EcgSource(self.name, name, self._data_dir)
    most = self.options.max_train
    if split == "train" and 0 < most < len(source):
      source = EcgSource(self.name, f"{name}[:{most}]", self._data_dir)
    return source

  @functools.lru_cache  # noqa: B019
  def index(self, split: str) -> index_lib.RecordIndex:
    """What the split says about its records."""
    return index_lib.load_index(self.source(split))

  @property
  def test(self) -> EcgSource:
    """The test records."""
    return self.source("test")

  @property
  def label_sets(self) -> Mapping[str, tuple[str, ...]]:
    """Label set -> its labels."""
    return self.test.label_sets

  def teachers(self, label_set: str) -> list[tuple[Data, str]]:
    """Other data sets, with their label set, that know findings of this one."""
    names = self.label_sets[label_set]
    return [
      (other, of_source)
      for other in self.others
      for of_source in other.label_sets
      if transfer.findings(of_source, label_set, names)
    ]

  def labels(self, label_set: str) -> dict[str, np.ndarray]:
    """Labels of each split, uint8 (N, L)."""
    return {split: self.index(split).labels[label_set] for split in SPLITS}

  @property
  def scoring(self) -> dict:
    """Options of `scoring.evaluate`."""
    return {k: self.options[k] for k in ("min_positives", "num_bootstrap")}


def _represented(store, data, leads=LEADS) -> dict[str, np.ndarray]:
  """Features for probes; with few leads, of test only."""
  return {
    split: features.represent(
      store.ecg(data.source(split), leads if split == "test" else LEADS),
      data.options.representation,
    )
    for split in SPLITS
  }


def _probe_data(store, data, label_set, leads=LEADS):
  index = data.index("test")
  return linear_probe.prepare(
    _represented(store, data, leads),
    data.labels(label_set),
    index.subject_ids,
    data.label_sets[label_set],
    index.ids,
  )


def _zero_shot(store, data, label_set, leads=LEADS) -> scoring.Findings:
  names = data.label_sets[label_set]
  sentences = prompts.load(label_set, names, data.options.prompts)
  texts = sorted({text for of_label in sentences.values() for text in of_label})
  vectors = store.encoder.report(texts).shared
  of_text = dict(zip(texts, vectors, strict=True))
  index = data.index("test")
  return zero_shot.zero_shot(
    store.ecg(data.test, leads).shared,
    {
      name: np.stack([of_text[text] for text in of_label])
      for name, of_label in sentences.items()
    },
    index.labels[label_set],
    index.subject_ids,
    names,
    record_ids=index.ids,
    **data.scoring,
  )


def _linear_probe(store, data, label_set) -> scoring.Findings:
  return linear_probe.linear_probe(
    _probe_data(store, data, label_set),
    fractions=data.options.fractions,
    seeds=data.options.seeds,
    **data.scoring,
  )


def _finetune(store, data, label_set) -> scoring.Findings:
  trained = _trained_model(store, data)
  labels = data.labels(label_set)
  index = data.index("test")
  test, belongs = scoring.make_test_set(
    index.subject_ids, labels["test"], data.label_sets[label_set], index.ids
  )
  rows = {split: labels[split].any(axis=1) for split in SPLITS} | {
    "test": belongs
  }
  for split, has in rows.items():
    if not has.any():
      raise UserError(f"no {split} record carries a label of {label_set!r}")
  options = data.options.finetune
  train = np.flatnonzero(rows["train"])
  # The records of the first probe of each fraction.
  subsets = {
    fraction: train[linear_probe.subset(len(train), fraction, seed=0)]
    for fraction in options.fractions
  }
  outcomes, details = [], {}
  for fraction, some in subsets.items():
    rows["train"] = np.isin(np.arange(len(labels["train"])), some)
    setting = f"finetune_{100 * fraction:g}"
    scores, details[setting] = finetune.finetune(
      trained,
      {
        split: views.Rows(data.source(split), np.flatnonzero(has))
        for split, has in rows.items()
      },
      {split: labels[split][has] for split, has in rows.items()},
      options,
      eval_batch_size=store.encoder.batch_size,
    )
    outcome = scoring.evaluate(
      test,
      setting,
      scores,
      fraction=fraction,
      num_train=len(some),
      **data.scoring,
    )
    outcomes.append(outcome)
  return scoring.Findings(test, tuple(outcomes), details=details)


def _transfer(
  store, data, label_set, other=None, of_source=""
) -> scoring.Findings:
  """A probe of the findings of one label set of another data set."""
  if other is None:
    raise UserError(
      f"nothing to transfer to {label_set!r}: no other data set of this"
      " evaluation has findings in common with it"
    )
  index = data.index("test")
  names = data.label_sets[label_set]
  x = {
    split: features.represent(store.ecg(source), data.options.representation)
    for split, source in (
      ("train", other.source("train")),
      ("validation", other.source("validation")),
      ("test", data.test),
    )
  }
  return transfer.transfer(
    x,
    {split: other.index(split).labels[of_source] for split in SPLITS[:2]},
    other.label_sets[of_source],
    scoring.make_test_set(
      index.subject_ids, index.labels[label_set], names, index.ids
    ),
    transfer.findings(of_source, label_set, names),
    f"from_{other.name.replace('/', '_')}_{of_source}",
    **data.scoring,
  )


def _retrieval(store, data, label_set) -> scoring.Findings:
  del label_set
  index = data.index("test")
  return retrieval.retrieval(
    store.ecg(data.test).shared,
    store.encoder.report(index.reports).shared,
    index.report_ids,
    _has_text(index.reports),
    index.subject_ids,
    index.ids,
    num_bootstrap=data.options.num_bootstrap,
  )


def _reconstruction(store, data, label_set) -> scoring.Findings:
  del label_set
  return reconstruction.reconstruct(
    _trained_model(store, data),
    data.test,
    data.index("test"),
    batch_size=data.options.batch_size,
    num_bootstrap=data.options.num_bootstrap,
  )


def _disentanglement(store, data, label_set) -> scoring.Findings:
  ecg, report, has_text = {}, {}, {}
  for split in SPLITS:
    index = data.index(split)
    ecg[split] = store.ecg(data.source(split))
    has_text[split] = _has_text(index.reports)[index.report_ids]
    has_text[split][disentanglement.MAX_RECORDS :] = False
    read = np.unique(index.report_ids[: disentanglement.MAX_RECORDS])
    some = store.encoder.report([index.reports[i] for i in read])
    place = np.searchsorted(read, index.report_ids).clip(max=len(read) - 1)
    report[split] = jax.tree.map(lambda x, at=place: x[at], some)
  index = data.index("test")
  return disentanglement.disentanglement(
    ecg,
    report,
    data.labels(label_set),
    has_text,
    index.subject_ids,
    data.label_sets[label_set],
    index.ids,
    **data.scoring,
  )


def _missing_leads(store, data, label_set) -> scoring.Findings:
  """The probe of whole records, and zero-shot, on some leads of the test."""
  whole = _probe_data(store, data, label_set)
  probes = linear_probe.fit(whole, 1.0)
  subsets = {"12_leads": LEADS} | LEAD_SUBSETS
  outcomes, details = [], {}
  for name, leads in subsets.items():
    few = _probe_data(store, data, label_set, leads)
    setting = f"probe_100_{name}"
    outcomes.append(linear_probe.score(few, probes, setting, **data.scoring))
  try:
    for name, leads in subsets.items():
      outcome = _zero_shot(store, data, label_set, leads).outcomes[0]
      outcomes.append(dataclasses.replace(outcome, setting=f"zero_shot_{name}"))
  except UserError as error:
    details["zero_shot"] = {"text": f"no zero-shot: {error}"}
  return scoring.Findings(whole.test, tuple(outcomes), details=details)


def _has_text(texts: Sequence[str]) -> np.ndarray:
  return np.array([any(map(str.isalnum, text)) for text in texts], bool)


def _trained_model(store: features.Store, data: Data) -> TrainedModel:
  trained = store.encoder.trained_model()
  trained_model.check_sampling_rate(
    data.test.name, data.test.sampling_rate, trained.config.preprocess
  )
  return trained


@dataclasses.dataclass(frozen=True)
class Task:
  """A task of the benchmark.

  Attributes:
    run: from features, data set and label set to findings; transfer also takes
      a data set and its label set to learn from, see `Data.teachers`.
    labels: "every" label set of a data set, the "first" (unless label sets are
      asked for by name), or "" for a task without labels.
    options: fields of `config.evaluation` that decide what comes out, besides
      `num_bootstrap`.
  """

  run: Callable[..., scoring.Findings]
  labels: str
  options: tuple[str, ...] = ()


_SCORES = ("min_positives",)
_PROBE = ("representation", "max_train", *_SCORES)
TASKS = {
  "zero_shot": Task(_zero_shot, "every", ("prompts", *_SCORES)),
  "linear_probe": Task(_linear_probe, "every", ("fractions", "seeds", *_PROBE)),
  "finetune": Task(_finetune, "first", ("finetune", "max_train", *_SCORES)),
  "transfer": Task(_transfer, "every", _PROBE),
  "retrieval": Task(_retrieval, ""),
  # What is hidden is drawn for each batch.
  "reconstruction": Task(_reconstruction, "", ("batch_size",)),
  "disentanglement": Task(_disentanglement, "first", ("max_train", *_SCORES)),
  "missing_leads": Task(_missing_leads, "first", ("prompts", *_PROBE)),
}
