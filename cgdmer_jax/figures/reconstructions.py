"""Draws tracings with hidden patches and their reconstruction."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.figures import style, tracing
from cgdmer_jax.models import masking
from cgdmer_jax.trained_model import TrainedModel

_COUNT = 3  # tracings to draw


def draw(
  trained: TrainedModel, source: EcgSource, directory: pathlib.Path
) -> None:
  """Draws the first records of `source` into `directory`/tracing-*.png."""
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
  signals = trained.reconstruct(ecg, lead_valid, hidden)
  if jax.process_index():
    return
  for i, record in enumerate(records):
    figure = tracing.tracing(
      signals.original[i],
      source.sampling_rate,
      mask=hidden[i],
      reconstruction=signals.restored[i],
      lead_valid=record["lead_valid"],
      report=record["report"],
    )
    style.save(figure, directory / f"tracing-{i + 1}.png")
