"""Fits probabilities of a model's findings on a data set, and measures them.

The probability of a label is a sigmoid of the cosine of the recording and the
label's sentences (`scores/calibration.py`). It is fitted on one split and
measured on another one, whose patients are others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import readout_fit
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.scores import reliability
from cgdmer_jax.evaluators.scores.reliability import Reliability
from cgdmer_jax.inference import calibration as calibration_lib
from cgdmer_jax.inference.calibration import Calibration
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.inference.readout import Readout

UNCALIBRATED = "uncalibrated"


def calibrate(
  model: EcgModel,
  data: DataSet,
  label_sets: Sequence[str] = (),
  num_bootstrap: int = 1000,
) -> tuple[Calibration, dict[str, Reliability]]:
  """Fits on the validation split of `data`, measures on its test split.

  Args:
    model: with the weights that will be used.
    data: may name any splits as these two.
    label_sets: see `readout_fit.fit_labels`.
    num_bootstrap: resamples of test patients.

  Returns:
    The calibration, and by name what was measured on test: without calibration,
    with the calibration that the model came with as far as it knows the labels,
    and with the new one.

  Raises:
    UserError: the splits share patients or records, no label has enough
      positives, or the model has no report encoder or was trained on the test
      split.
  """
  trained = model.trained
  if not trained.model.use_report:
    raise UserError(
      f"recipe {trained.name!r} has no report encoder, so it has no findings"
    )
  _check_apart(data)
  if trained.config.data.dataset.split("/")[0] == data.corpus:
    data.check_unseen(trained.config.data.train)
  fitted = readout_fit.fit_labels(trained, data, label_sets)
  columns = np.array([x.slope is not None for x in fitted.labels])
  if not columns.any():
    raise UserError(
      f"no label of {data.name} has {readout_fit.MIN_POSITIVES} positives and"
      f" negatives in {data.source('validation').split}; fit on more records,"
      " for instance --fit=train+validation"
    )
  cosines, known = fitted.cosines["test"], fitted.known["test"]
  source = data.source("validation")
  calibration = Calibration(
    f"{data.name}, {source.split}",
    len(source),
    readout_fit.amplitudes(source),
    calibration_lib.fingerprint(trained),
    {},
    fitted.labels,
  )
  new = calibration_lib.apply(calibration, trained, None)
  probabilities = {UNCALIBRATED: readout_fit.uncalibrated(trained, cosines)}
  if model.readout is not None and model.readout.dataset != new.dataset:
    probabilities[model.readout.dataset] = _with_other(
      model.readout, new, fitted.shared["test"]
    )
  probabilities[new.dataset] = new.probabilities(cosines)
  measured = {}
  for name, p in probabilities.items():
    used = columns & np.isfinite(p).all(axis=0)
    if used.any():
      measured[name] = reliability.measure(
        p[:, used], known[:, used], data.index("test").subject_ids,
        num_bootstrap,
      )  # fmt: skip
  calibration.measures.update(
    _describe(measured, new.dataset, int(columns.sum()), len(known))
  )
  return calibration, measured


def _check_apart(data: DataSet) -> None:
  """Checks that records and patients of both splits are different ones."""
  one, other = data.index("validation"), data.index("test")
  for what, a, b in (
    ("records", one.ids, other.ids),
    ("patients", one.subject_ids, other.subject_ids),
  ):
    common = sorted(set(a[a != ""].tolist()) & set(b.tolist()))
    if common:
      raise UserError(
        f"--fit={data.source('validation').split} and --test="
        f"{data.test.split} share {len(common)} {what}, for instance"
        f" {common[0]!r}; choose others"
      )


def _with_other(other: Readout, new: Readout, shared: np.ndarray) -> np.ndarray:
  """Probabilities (N, L) that another readout gives to labels, NaN if none."""
  p = other.probabilities(shared @ other.classes.T)
  column = {(x.label_set, x.code): k for k, x in enumerate(other.labels)}
  nothing = np.full(len(shared), np.nan)
  found = [column.get((x.label_set, x.code)) for x in new.labels]
  return np.stack([nothing if k is None else p[:, k] for k in found], axis=1)


def _describe(
  measured: Mapping[str, Reliability],
  new: str,
  num_labels: int,
  num_test: int,
) -> dict[str, Any]:
  """Numbers for the file: before is without any calibration."""
  found: dict[str, Any] = {"num_test": num_test, "num_labels": num_labels}
  for suffix, name in (("before", UNCALIBRATED), ("after", new)):
    for key, x in (
      (f"ece_{suffix}", measured[name].error),
      (f"mean_label_ece_{suffix}", measured[name].label_error),
    ):
      found[key] = x.value
      found[f"{key}_interval"] = [x.low, x.high]
  return found
