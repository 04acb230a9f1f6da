"""Draws tracings with hidden patches and their reconstruction."""

from __future__ import annotations

import dataclasses
import io
import pathlib
from collections.abc import Mapping

import jax
import numpy as np

from cgdmer_jax import files
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.figures import paper, style, tracing
from cgdmer_jax.models import known_amplitude, masking
from cgdmer_jax.trained_model import TrainedModel

FILE_NAME = "tracings.npz"
_COUNT = 3  # tracings to draw


@dataclasses.dataclass(frozen=True)
class Reconstructions:
  """What a model restored of some recordings.

  Attributes:
    recorded: float32 (M, 12, T), mV, as it is in the data set: no filter.
    restored: float32 (M, 12, T), mV, see `known_amplitude.in_millivolt`.
    hidden: bool (M, 12, N), patches that the model did not see.
    lead_valid: bool (M, 12).
    reports: (M,) texts.
    sampling_rate: Hz.
    rule: where the height of a restored patch comes from, in words.
  """

  recorded: np.ndarray
  restored: np.ndarray
  hidden: np.ndarray
  lead_valid: np.ndarray
  reports: np.ndarray
  sampling_rate: np.ndarray
  rule: np.ndarray

  def sheet(self, i: int) -> paper.Sheet:
    """The first 10 s of a recording on paper."""
    return paper.arrange(
      self.recorded[i],
      float(self.sampling_rate),
      hidden=self.hidden[i],
      restored=self.restored[i],
      missing=missing_leads(self.lead_valid[i]),
    )[0]


def missing_leads(lead_valid: np.ndarray) -> Mapping[str, str]:
  """Leads (12,) that are not valid, in words."""
  return {
    name: "missing or unusable"
    for name, is_valid in zip(LEADS, lead_valid, strict=True)
    if not is_valid
  }


def make(trained: TrainedModel, source: EcgSource) -> Reconstructions:
  """Hides patches of the first records as in training, and restores them."""
  records = [source[i] for i in range(min(_COUNT, len(source)))]
  ecg = np.stack([r["ecg"] for r in records])
  lead_valid = np.stack([r["lead_valid"] for r in records])
  mask = trained.config.mask
  hidden = np.asarray(
    masking.sample_patch_mask(
      jax.random.key(0),
      lead_valid,
      ecg.shape[-1] // trained.config.model.patch_length,
      mask.kind,
      mask.lead_ratio,
      mask.time_ratio,
    ).hidden
  )
  return Reconstructions(
    ecg.astype(np.float32) / 1e3,
    np.asarray(trained.reconstruct(ecg, lead_valid, hidden).known_mv),
    hidden,
    lead_valid,
    np.array([r["report"] for r in records]),
    np.array(source.sampling_rate),
    np.array(known_amplitude.RULES[trained.config.model.ecg_target]),
  )


def draw(
  trained: TrainedModel, source: EcgSource, directory: pathlib.Path
) -> None:
  """Draws the first records of `source` into `directory`/tracing-*.png.

  What was drawn is in `FILE_NAME` beside them; `read` gives it back.
  """
  made = make(trained, source)
  if jax.process_index():
    return
  for i, report in enumerate(made.reports.tolist()):
    figure = tracing.tracing(made.sheet(i), report=report, note=str(made.rule))
    style.save(figure, directory / f"tracing-{i + 1}.png")
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **vars(made))
  files.write(directory / FILE_NAME, buffer.getvalue())


def read(directory: pathlib.Path) -> Reconstructions | None:
  """What `draw` has drawn; None without."""
  try:
    with np.load(directory / FILE_NAME, allow_pickle=False) as arrays:
      return Reconstructions(**arrays)
  except (OSError, ValueError, TypeError, KeyError, EOFError):
    return None
