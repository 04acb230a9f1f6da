"""Baselines that do a task themselves, without vectors of recordings."""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import ConfigDict

from cgdmer_jax.data import pipeline
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer
from cgdmer_jax.trained_model import TrainedModel


class Baseline:
  """A row of the tables that is no encoder; see `task.Task.baselines`.

  Attributes:
    config: of a run whose preprocessing and patches it takes; None without.
  """

  path = ""

  def __init__(
    self, name: str, batch_size: int, config: ConfigDict | None = None
  ):
    """Names the baseline.

    Args:
      name: as tasks know it.
      batch_size: records on the devices at once.
      config: see the attribute.
    """
    self.config, self.batch_size = config, batch_size
    given = []
    if config is not None:
      given = [config.preprocess.to_dict(), config.model.patch_length]
    self.identity = results.Identity(
      name, results.make_key("baseline", name, given)
    )
    self.group = self.identity.fingerprint

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """Raises UserError: there are no vectors."""
    raise self._error()

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Raises UserError: there are no vectors."""
    raise self._error()

  def trained_model(self) -> TrainedModel:
    """Raises UserError: there is none."""
    raise self._error()

  def _error(self) -> UserError:
    return UserError(f"{self.identity.name} is no encoder")
