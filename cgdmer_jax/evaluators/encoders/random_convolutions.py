"""Random convolutions: features of raw signals that nothing was trained for.

As in ROCKET (Dempster, Petitjean, Webb 2020): kernels with random weights,
lengths, dilations and leads; of each response its largest value and the share
that is positive. What a pretrained encoder does not beat is not worth its
pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cgdmer_jax import sharding
from cgdmer_jax.data import pipeline, preprocessing
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.models import cgdmer
from cgdmer_jax.trained_model import TrainedModel

NUM_KERNELS = 1000
LENGTHS = (7, 9, 11)
DILATIONS = (1, 2, 4, 8, 16)  # at 100 Hz, kernels span 0.06 to 1.6 s
SCALE = 0.25  # mV; keeps voltages comparable between records


def draw(seed: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
  """Draws the kernels.

  Returns:
    For each length and dilation: the dilation, weights float32 (kernels, 12,
    length) that are zero in leads a kernel does not read and have mean zero in
    the others, and biases float32 (kernels,).
  """
  rng = np.random.default_rng(seed)
  groups = []
  count = -(-NUM_KERNELS // (len(LENGTHS) * len(DILATIONS)))
  num_leads = NUM_LEADS
  for length in LENGTHS:
    for dilation in DILATIONS:
      weights = rng.normal(size=(count, num_leads, length))
      weights -= weights.mean(axis=-1, keepdims=True)
      for kernel in weights:  # from one lead to all, small numbers more often
        reads = int(2 ** rng.uniform(0, np.log2(num_leads + 1)))
        kernel[rng.permutation(num_leads)[reads:]] = 0
      biases = rng.uniform(-1, 1, count)
      groups.append(
        (dilation, weights.astype(np.float32), biases.astype(np.float32))
      )
  return groups


class RandomConvolutions:
  """An encoder in the sense of `features.Encoder`, without a report encoder."""

  def __init__(self, mesh: jax.sharding.Mesh, batch_size: int, seed: int = 0):
    """Draws the kernels of `seed`."""
    self.identity = results.Identity(
      "random convolutions",
      f"random_convolutions/1/{seed}/{NUM_KERNELS}",
      seed=seed,
    )
    self.batch_size = batch_size
    self._mesh = mesh
    self._groups = draw(seed)
    self._compute = jax.jit(
      self._features,
      static_argnames="sampling_rate",
      out_shardings=NamedSharding(mesh, PartitionSpec()),
    )

  def ecg(self, source: pipeline.SignalSource) -> cgdmer.Embedding:
    """Embeddings (N, 2 * kernels) of the records of `source`, in order."""

    def embed(ecg, lead_valid):
      return self._compute(ecg, lead_valid, sampling_rate=source.sampling_rate)

    return features.extract(embed, source, self.batch_size, self._mesh)

  def report(self, texts: Sequence[str]) -> cgdmer.Embedding:
    """Raises UserError: there is no report encoder."""
    raise UserError("random convolutions have no report encoder")

  def trained_model(self) -> TrainedModel:
    """Raises UserError: there is none."""
    raise UserError(
      f"{self.identity.name} are known by their features only: there is no"
      " model to train on, or to ask for hidden patches"
    )

  def _features(
    self, ecg: jax.Array, lead_valid: jax.Array, sampling_rate: int
  ) -> cgdmer.Embedding:
    x = ecg.astype(jnp.float32) / (1000 * SCALE)
    # Baseline wander would decide what is positive; 0.5 Hz as for the encoders.
    x = sharding.by_record(
      lambda x: preprocessing.bandpass(x, sampling_rate, 0.5, 0.0)
    )(x)
    x = jnp.where(lead_valid[..., None], x, 0.0)
    found = []
    for dilation, weights, biases in self._groups:
      dilation = max(1, round(dilation * sampling_rate / 100))
      response = jax.lax.conv_general_dilated(
        x, weights, (1,), "SAME", rhs_dilation=(dilation,)
      )
      response += jnp.asarray(biases)[None, :, None]
      found.append(response.max(-1))
      found.append((response > 0).astype(jnp.float32).mean(-1))
    return cgdmer.Embedding(jnp.concatenate(found, axis=-1), None)
