"""Tracings with hidden patches and what the model made of them."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from cgdmer_jax import trained_model as experiment_lib
from cgdmer_jax.data import pipeline, preprocessing
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.figures import results as figures
from cgdmer_jax.figures import tracing as ecg_figure
from cgdmer_jax.models import masking

_COUNT = 3  # tracings to draw


class Restore:
  """Hides patches of recordings and restores them.

  The decoder predicts each patch up to its mean and standard deviation, which
  are taken from the original: shapes are restored, levels are given.
  """

  def __init__(
    self,
    experiment: experiment_lib.Experiment,
    kind: str,
    lead_ratio: float,
    time_ratio: float,
  ):
    """What to hide, see `masking.sample_patch_mask`."""
    model, config = experiment.model, experiment.config
    self._params = experiment.params
    fixed = config.preprocess.normalise == "fixed"
    self._unit = config.preprocess.scale if fixed else 1.0

    @jax.jit
    def run(params, batch, key):
      lead_valid = batch["lead_valid"]
      x = preprocessing.preprocess(batch["ecg"], lead_valid, config.preprocess)
      patches = preprocessing.patchify(x, config.model.patch_length)
      mask = masking.sample_patch_mask(
        key, lead_valid, model.num_patches, kind, lead_ratio, time_ratio
      )

      def restore(model):
        fused, _ = model.encode_ecg(patches, mask)
        return model.decode_ecg(fused, mask, lead_valid)

      samples = model.apply({"params": params}, method=restore)
      _, mean, deviation = preprocessing.normalise_patches(patches)
      restored = samples.astype(jnp.float32) * deviation + mean
      hidden = jnp.broadcast_to(mask.hidden[..., None], patches.shape)
      every = (patches, restored, jnp.broadcast_to(mean, patches.shape), hidden)
      return tuple(v.reshape(x.shape) for v in every)

    self._run = run

  def __call__(
    self, batch: pipeline.Batch, key: Key[Array, ""]
  ) -> tuple[np.ndarray, ...]:
    """Restores the records of a batch.

    Args:
      batch: `ecg` int16 (B, 12, T) and `lead_valid` bool (B, 12).
      key: of what is hidden.

    Returns:
      (B, 12, T) each: the preprocessed signal, its reconstruction and the mean
      of each patch, float32 in mV (in standard deviations, if that is what the
      model reads), and which samples were hidden, bool.
    """
    original, restored, mean, hidden = jax.device_get(
      self._run(self._params, batch, key)
    )
    unit = self._unit
    return original * unit, restored * unit, mean * unit, hidden


def draw(
  experiment: experiment_lib.Experiment,
  source: EcgSource,
  directory: pathlib.Path,
) -> None:
  """Draws the first records of `source` into `directory`/tracing-*.png."""
  records = [source[i] for i in range(min(_COUNT, len(source)))]
  batch = {
    "ecg": np.stack([r["ecg"] for r in records]),
    "lead_valid": np.stack([r["lead_valid"] for r in records]),
  }
  mask, config = experiment.config.mask, experiment.config
  restore = Restore(experiment, mask.kind, mask.lead_ratio, mask.time_ratio)
  original, restored, _, hidden = restore(batch, jax.random.key(0))
  if jax.process_index():
    return
  hidden = hidden[..., :: config.model.patch_length]
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
