"""Probabilities of the labels of one data set, for one model: a JSON file.

It holds sentences and two numbers for each label, and no recording, report or
embedding of a patient.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from cgdmer_jax import files
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.inference.readout import Label, Readout, unit
from cgdmer_jax.trained_model import TrainedModel

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Calibration:
  """What was fitted.

  Attributes:
    dataset: the data set and split that it was fitted on.
    num_records: its number of records.
    amplitude: 1st and 99th percentile of `quality.amplitude_mv` there, in mV.
    model: `fingerprint` of the model.
    measures: calibration error before and after, on the test split.
    labels: with their sentences.
  """

  dataset: str
  num_records: int
  amplitude: tuple[float, float]
  model: str
  measures: dict[str, Any]
  labels: tuple[Label, ...]


def write(path: pathlib.Path, calibration: Calibration) -> None:
  """Writes the file."""
  document = {"format": FORMAT, **dataclasses.asdict(calibration)}
  files.write(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read(path: pathlib.Path) -> Calibration:
  """Reads what `write` wrote.

  Raises:
    UserError: it is missing or damaged, or a newer version wrote it.
  """
  try:
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.pop("format") > FORMAT:
      raise UserError(
        f"{path} was written by a newer version of cgdmer_jax; use that one"
      )
    document["labels"] = tuple(
      Label(**label | {"sentences": tuple(label["sentences"])})
      for label in document["labels"]
    )
    document["amplitude"] = tuple(document["amplitude"])
    return Calibration(**document)
  except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
    raise UserError(
      f"{path} is no calibration ({one_line(e)}); make one: python -m"
      " cgdmer_jax.calibrate"
    ) from e


def fingerprint(trained: TrainedModel) -> str:
  """Hash of all parameters: probabilities are right for these alone."""
  digest = hashlib.sha256()
  flat = traverse_util.flatten_dict(jax.device_get(trained.params), sep="/")
  for name in sorted(flat):
    array = np.ascontiguousarray(flat[name])
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()[:16]


def apply(
  calibration: Calibration, trained: TrainedModel, readout: Readout | None
) -> Readout:
  """A readout with these labels; sentences of reports stay as they are.

  Args:
    calibration: what was fitted.
    trained: the model.
    readout: its own; None: it has none.

  Raises:
    UserError: the calibration is another model's.
  """
  if calibration.model != fingerprint(trained):
    raise UserError(
      f"the calibration on {calibration.dataset} was made for another model;"
      " make one for this: python -m cgdmer_jax.calibrate --model=..."
    )
  texts = sorted({text for x in calibration.labels for text in x.sentences})
  embedded = unit(trained.encode_report(texts).shared)
  vectors = dict(zip(texts, embedded, strict=True))
  classes = [
    unit(np.mean([vectors[text] for text in label.sentences], axis=0))
    for label in calibration.labels
  ]
  none = np.zeros((0, embedded.shape[1]), np.float32)
  return Readout(
    calibration.dataset,
    calibration.num_records,
    readout.amplitude if readout else calibration.amplitude,
    calibration.labels,
    np.stack(classes).astype(np.float32),
    readout.statements if readout else (),
    readout.vectors if readout else none,
    readout.reference if readout else none,
    calibration.measures,
  )
