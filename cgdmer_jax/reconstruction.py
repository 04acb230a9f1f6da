"""Tracings with hidden patches and what the model made of them."""

from __future__ import annotations

import pathlib

import jax
import numpy as np

from cgdmer_jax import ecg_figure, figures, train_step
from cgdmer_jax import experiment as experiment_lib
from cgdmer_jax.data import preprocessing, report_table
from cgdmer_jax.data.source import EcgSource

_COUNT = 3  # tracings to draw


def reconstruct(
  experiment: experiment_lib.Experiment, batch: train_step.Batch, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Restores the hidden patches of a batch.

  The decoder predicts each patch up to its mean and standard deviation, which
  are taken from the original: shapes are restored, levels are given.

  Returns:
    The preprocessed signal and its reconstruction, both float32 (B, 12, T) in
    mV, and which patches (B, 12, N) were hidden.
  """
  model, config = experiment.model, experiment.config

  @jax.jit
  def run(params, batch):
    key = jax.random.key(seed)
    out, _, patches, hidden = train_step.forward(
      model, config, params, batch, key
    )
    _, mean, deviation = preprocessing.normalise_patches(patches)
    restored = out.samples.astype(np.float32) * deviation + mean
    flat = batch["ecg"].shape
    return patches.reshape(flat), restored.reshape(flat), hidden

  original, restored, hidden = jax.device_get(run(experiment.params, batch))
  unit = 1.0
  if config.preprocess.normalise == "fixed":
    unit = config.preprocess.scale
  return original * unit, restored * unit, hidden


def draw(
  experiment: experiment_lib.Experiment,
  source: EcgSource,
  directory: pathlib.Path,
) -> None:
  """Draws the first records of `source` into `directory`/tracing-*.png."""
  records = [source[i] for i in range(min(_COUNT, len(source)))]
  texts = [r["report"] for r in records]
  rows = np.arange(len(texts))
  max_length = experiment.config.report.max_length
  table = report_table.build(
    texts, rows, experiment.tokenizer, max_length=max_length
  )
  batch = {
    "ecg": np.stack([r["ecg"] for r in records]),
    "lead_valid": np.stack([r["lead_valid"] for r in records]),
    **table.gather(rows, max_length),
  }
  original, restored, hidden = reconstruct(experiment, batch, seed=0)
  if jax.process_index():
    return
  for i, record in enumerate(records):
    figure = ecg_figure.tracing(
      original[i],
      source.sampling_rate,
      mask=hidden[i],
      reconstruction=restored[i],
      lead_valid=record["lead_valid"],
      report=record["report"],
    )
    figures.save(figure, directory / f"tracing-{i + 1}.png")
