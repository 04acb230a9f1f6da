"""What turns an embedding into findings: sentences, probabilities, evidence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from cgdmer_jax.errors import UserError, one_line

FORMAT = 2


@dataclasses.dataclass(frozen=True)
class Label:
  """A label of the calibration set.

  Attributes:
    label_set: name of the set that it belongs to.
    code: its name in the data set, such as AFIB.
    name: what it means.
    positives: records of the calibration split that carry it.
    slope: of the logit of the probability over the cosine; None where there
      were too few positives, and then there is no probability.
    offset: of that logit.
    sentences: prompts that its vector is the mean of; empty where unknown.
  """

  label_set: str
  code: str
  name: str
  positives: int
  slope: float | None
  offset: float | None
  sentences: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Readout:
  """Labels with the embedding of their sentences, and known sentences.

  Attributes:
    dataset: the data set and split that probabilities are calibrated on.
    num_records: its number of records.
    amplitude: 1st and 99th percentile of `quality.amplitude_mv` there, in mV.
    labels: K labels.
    classes: float32 (K, D), unit vectors.
    statements: known sentences of reports.
    vectors: float32 (S, D), their unit vectors.
    reference: float32 (R, D), unit vectors of recordings, for percentiles.
    measures: of the calibration, for example its error before and after.
  """

  dataset: str
  num_records: int
  amplitude: tuple[float, float]
  labels: tuple[Label, ...]
  classes: np.ndarray
  statements: tuple[str, ...]
  vectors: np.ndarray
  reference: np.ndarray
  measures: dict[str, Any]

  def probabilities(self, cosines: np.ndarray) -> np.ndarray:
    """Probabilities (N, K) of cosines (N, K); NaN where not calibrated."""
    slope, offset = (
      np.array([getattr(x, field) for x in self.labels], float)
      for field in ("slope", "offset")
    )
    return 1 / (1 + np.exp(-(slope * cosines + offset)))

  def arrays(self) -> dict[str, np.ndarray]:
    """The arrays, for a file; `from_parts` reads them."""
    return {name: getattr(self, name) for name in _ARRAYS}

  def to_json(self) -> str:
    """Everything else."""
    fields = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in (*_ARRAYS, "labels")
    }
    labels = [dataclasses.asdict(label) for label in self.labels]
    document = {"format": FORMAT, **fields, "labels": labels}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


_ARRAYS = ("classes", "vectors", "reference")


def from_parts(text: str, arrays: Mapping[str, np.ndarray]) -> Readout:
  """Joins what `to_json` and `arrays` gave.

  Raises:
    UserError: they do not belong together, or a newer version wrote them.
  """
  try:
    document = json.loads(text)
    number = document.pop("format")
    if number > FORMAT:
      raise UserError(
        f"the readout has format {number}, this version reads up to {FORMAT};"
        " use a newer version of cgdmer_jax"
      )
    labels = tuple(
      Label(**label | {"sentences": tuple(label.get("sentences", ()))})
      for label in document.pop("labels")
    )
    document["statements"] = tuple(document["statements"])
    document["amplitude"] = tuple(document["amplitude"])
    named = {name: np.asarray(arrays[name], np.float32) for name in _ARRAYS}
    readout = Readout(labels=labels, **document, **named)
  except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as e:
    raise UserError(
      f"the readout is damaged ({one_line(e)}); export the run again"
    ) from e
  sizes = len(readout.labels), len(readout.statements)
  if sizes != (len(readout.classes), len(readout.vectors)):
    raise UserError(
      "the readout is damaged (its sizes differ); export the run again"
    )
  return readout


def unit(vectors: np.ndarray) -> np.ndarray:
  """Vectors (..., D) at unit length; a zero vector stays zero."""
  norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
  return vectors / np.where(norm > 0, norm, 1)
