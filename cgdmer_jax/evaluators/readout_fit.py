"""Fits the readout of a model: calibrated labels and known sentences."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from cgdmer_jax.data import reports
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import prompts
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.scores import calibration
from cgdmer_jax.evaluators.tasks import zero_shot
from cgdmer_jax.inference.readout import Label, Readout, unit
from cgdmer_jax.recordings import codec, quality
from cgdmer_jax.trained_model import TrainedModel

MIN_POSITIVES = 10  # of a label in validation; with fewer it has no probability
NUM_STATEMENTS = 2000  # the most frequent ones
NUM_REFERENCES = 1000
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Fitted:
  """Labels that were fitted on one split, and what they are measured on.

  Attributes:
    labels: L labels.
    classes: float32 (L, D), unit vectors of their sentences.
    shared: split -> unit vectors (N, D) of its recordings.
    cosines: split -> (N, L).
    known: split -> uint8 (N, L).
  """

  labels: tuple[Label, ...]
  classes: np.ndarray
  shared: dict[str, np.ndarray]
  cosines: dict[str, np.ndarray]
  known: dict[str, np.ndarray]


def fit_labels(
  trained: TrainedModel, data: DataSet, label_sets: Sequence[str] = ()
) -> Fitted:
  """Calibrates labels on the validation split.

  Args:
    trained: the model, with the weights that will be used.
    data: a data set with labels.
    label_sets: names; none: all but those whose labels are all in another set.

  Raises:
    UserError: a label set does not exist, or a label has no prompt.
  """
  sets = data.label_sets
  names = list(label_sets) or _maximal(sets)
  if missing := [x for x in names if x not in sets]:
    raise UserError(
      f"{data.name} has no label set {missing[0]!r}, only {', '.join(sets)}"
    )
  if not names:
    raise UserError(
      f"{data.name} has no labels to calibrate with; give another --dataset"
    )
  codes = [(name, code) for name in names for code in sets[name]]
  sentences, classes = _embed_classes(trained, sets, names)
  shared, cosines, known = {}, {}, {}
  for split in ("validation", "test"):
    labels, source = data.index(split).labels, data.source(split)
    found = features.extract(trained.embed, source, _BATCH, trained.mesh)
    shared[split] = unit(found.shared)
    cosines[split] = shared[split] @ classes.T
    known[split] = np.concatenate([labels[name] for name in names], axis=1)
  fitted = tuple(
    _fit_label(*code, listed, x, y)
    for code, listed, x, y in zip(
      codes, sentences, cosines["validation"].T, known["validation"].T,
      strict=True,
    )
  )  # fmt: skip
  return Fitted(fitted, classes, shared, cosines, known)


def fit(
  trained: TrainedModel, data: DataSet, label_sets: Sequence[str] = ()
) -> Readout:
  """Calibrates on the validation split, and measures on the test split.

  Args:
    trained: the model, with the weights that will be used.
    data: a data set with labels; sentences are taken from its training reports.
    label_sets: see `fit_labels`.

  Raises:
    UserError: see `fit_labels`.
  """
  fitted = fit_labels(trained, data, label_sets)
  statements = _statements(data.index("train").reports)
  vectors = np.zeros((0, fitted.classes.shape[1]), np.float32)
  if statements:
    vectors = unit(trained.encode_report(statements).shared)
  readout = Readout(
    f"{data.name}, {data.source('validation').split}",
    len(fitted.shared["validation"]),
    amplitudes(data.source("validation")),
    fitted.labels,
    fitted.classes,
    statements,
    vectors,
    fitted.shared["validation"][:NUM_REFERENCES],
    {},
  )
  readout.measures.update(
    _measure(readout, trained, fitted.cosines["test"], fitted.known["test"])
  )
  return readout


def _maximal(label_sets) -> list[str]:
  """Names of the sets that are no part of another."""
  return [
    name
    for name, labels in label_sets.items()
    if not any(set(labels) < set(other) for other in label_sets.values())
  ]


def _embed_classes(
  trained, sets, names
) -> tuple[list[tuple[str, ...]], np.ndarray]:
  """Sentences of each label, and their unit vector."""
  sentences, classes = [], []
  for name in names:
    listed = prompts.load(name, sets[name])
    texts = sorted({text for x in listed.values() for text in x})
    vectors = dict(zip(texts, trained.encode_report(texts).shared, strict=True))
    by_label = {k: np.stack([vectors[x] for x in v]) for k, v in listed.items()}
    classes.append(zero_shot.class_embeddings(by_label, sets[name]))
    sentences += [listed[code] for code in sets[name]]
  return sentences, np.concatenate(classes).astype(np.float32)


def _fit_label(label_set, code, sentences, cosines, labels) -> Label:
  """The first sentence of a label names it."""
  positives = int(labels.sum())
  slope = offset = None
  if MIN_POSITIVES <= positives <= len(labels) - MIN_POSITIVES:
    slope, offset = calibration.fit_platt(cosines, labels)
  return Label(
    label_set, code, sentences[0], positives, slope, offset, sentences
  )


def _statements(texts: Sequence[str]) -> tuple[str, ...]:
  """The most frequent statements of reports, as they are written most often."""
  counts: collections.Counter[str] = collections.Counter()
  for text in texts:
    counts.update(reports.split_statements(text))
  spellings: dict[str, str] = {}
  totals: collections.Counter[str] = collections.Counter()
  for text, number in counts.most_common():
    totals[spellings.setdefault(text.lower(), text)] += number
  return tuple(text for text, _ in totals.most_common(NUM_STATEMENTS))


def amplitudes(source: EcgSource) -> tuple[float, float]:
  """1st and 99th percentile of `quality.amplitude_mv`, in mV."""
  values = []
  for i in range(min(len(source), NUM_REFERENCES)):
    record = source.signal(i)
    values.append(
      quality.amplitude_mv(
        codec.Recording(
          record["ecg"].astype(np.float64),
          record["lead_valid"] & np.ones(NUM_LEADS, bool),
          source.sampling_rate,
        )
      )
    )
  low, high = np.nanpercentile(values, (1, 99))
  return float(low), float(high)


def uncalibrated(trained: TrainedModel, cosines: np.ndarray) -> np.ndarray:
  """Sigmoid of the model's own logits: cosines over its temperature."""
  scale = np.exp(float(trained.params["log_scale"]))
  return 1 / (1 + np.exp(-scale * cosines))


def _measure(readout, trained, cosines, labels) -> dict[str, float]:
  """Calibration error on the test split, before and after.

  Before: the sigmoid of the model's own logit, cosine over temperature.
  """
  fitted = np.array([x.slope is not None for x in readout.labels])
  before = uncalibrated(trained, cosines[:, fitted])
  after, y = readout.probabilities(cosines)[:, fitted], labels[:, fitted]
  error = calibration.expected_calibration_error
  columns = range(y.shape[1])
  return {
    "num_test": len(y),
    "num_labels": int(fitted.sum()),
    "ece_before": error(before, y),
    "ece_after": error(after, y),
    "mean_label_ece_before": float(
      np.mean([error(before[:, k], y[:, k]) for k in columns])
    ),
    "mean_label_ece_after": float(
      np.mean([error(after[:, k], y[:, k]) for k in columns])
    ),
  }
