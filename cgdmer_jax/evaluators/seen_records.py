"""Test records that were learnt from, under whatever name.

Corpora contain each other: a recording may be a test record of one data set and
a training record of another. Recordings are told apart by `RecordIndex`.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from cgdmer_jax import trained_model
from cgdmer_jax.data import identity
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.scores.results import Identity
from cgdmer_jax.evaluators.task import Inputs

_PRETRAINING, _TRAINING = "seen_in_pretraining", "seen_in_training"


class SeenRecords:
  """Looks for test records that were learnt from; warns once of each case."""

  def __init__(self):
    """Nothing is read before the first call."""
    self._pretraining: dict[str, tuple[str, np.ndarray] | UserError] = {}
    self._said: set[str] = set()

  def details(self, inputs: Inputs, findings: Findings) -> dict[str, Any]:
    """What a result must say about its test records.

    Args:
      inputs: what the task worked on.
      findings: what it found; its `details` may hold an earlier answer.

    Returns:
      Name -> entry. `seen` is the number of test records that are also among
      `data`, a training split; with a `text` if there are any. An entry with
      `not_checked` says why nobody knows.
    """
    found = {}
    encoder, data = inputs.store.encoder.identity, inputs.data
    if encoder.checkpoint:
      try:
        name, recordings = self._pretraining_of(encoder, data.data_dir)
        found[_PRETRAINING] = _entry(
          inputs, name, recordings, "the encoder was pretrained"
        )
      except UserError as error:
        earlier = findings.details.get(_PRETRAINING)
        found[_PRETRAINING] = earlier or {"not_checked": one_line(error)}
    if any(outcome.num_train for outcome in findings.outcomes):
      other = inputs.source.data if inputs.source else data
      found[_TRAINING] = _entry(
        inputs,
        _name(other.source("train")),
        other.index("train").recordings,
        "this task trains",
      )
    self._warn(encoder, found)
    return found

  def _pretraining_of(
    self, encoder: Identity, data_dir: pathlib.Path
  ) -> tuple[str, np.ndarray]:
    """Name and recordings of the training split of an encoder.

    Raises:
      UserError: the encoder does not tell, or its data are not here.
    """
    if encoder.step is None:
      raise UserError("nobody knows what these features were pretrained on")
    if encoder.checkpoint not in self._pretraining:
      self._pretraining[encoder.checkpoint] = _read(encoder, data_dir)
    known = self._pretraining[encoder.checkpoint]
    if isinstance(known, UserError):
      raise known
    return known

  def _warn(self, encoder: Identity, found: Mapping[str, Any]) -> None:
    for entry in found.values():
      line = f"{encoder.name}: {entry.get('text')}"
      if "text" in entry and line not in self._said:
        self._said.add(line)
        logging.warning("%s", line)


def _read(
  encoder: Identity, data_dir: pathlib.Path
) -> tuple[str, np.ndarray] | UserError:
  try:
    data = trained_model.read_config(encoder.checkpoint).data
    source = EcgSource(data.dataset, data.train, data_dir)
    return _name(source), index_lib.load_index(source).recordings
  except UserError as error:
    return error


def _name(source: EcgSource) -> str:
  return f"{source.name}, {source.split}"


def _entry(
  inputs: Inputs, name: str, recordings: np.ndarray, what: str
) -> dict[str, Any]:
  """Compares the test records with those of the training split `name`."""
  test = inputs.data.index("test").recordings
  seen = int(identity.is_among(test, recordings).sum())
  entry: dict[str, Any] = {"data": name, "seen": seen}
  if seen:
    entry["text"] = (
      f"{seen:,} of {len(test):,} test records of {inputs.data.name} are"
      f" recordings of {name}, on which {what}; scores are too high by an"
      " unknown amount, and are no measure of new patients"
    )
  return entry
