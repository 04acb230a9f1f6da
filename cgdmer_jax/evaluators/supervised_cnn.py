"""A small residual network, trained on the labels alone.

What pretraining is worth is seen beside a network that had none, with the same
records, labels and fractions as the linear probe. As in Ribeiro et al. (Nature
Communications 2020, figure 3) residual blocks of convolutions along time
shorten the signal and widen it; it is much smaller, for thousands of records on
a CPU. The signals of all splits are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cgdmer_jax.data import pipeline, preprocessing
from cgdmer_jax.evaluators.data_set import SPLITS
from cgdmer_jax.evaluators.probes import linear, training
from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Inputs, Options

NAME = "supervised_cnn"
SCALE = 0.25  # mV that become 1
RATE = 100  # Hz that are read; of faster records, means of samples
WIDTHS = (32, 64, 64, 128)  # of the blocks; each halves the length


class ResidualCnn(nn.Module):
  """Pre-activation residual blocks, mean and maximum over time.

  Attributes:
    num_labels: L.
    widths: channels of the blocks.
  """

  num_labels: int
  widths: Sequence[int]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Scores (B, L) of signals (B, T, 12), but for a bias of each label."""

    def activate(x: jax.Array) -> jax.Array:
      return nn.relu(nn.GroupNorm(8, use_fast_variance=False)(x))

    x = nn.Conv(self.widths[0], (15,), 4)(x)
    for width in self.widths:
      y = nn.Conv(width, (5,), 2)(activate(x))
      y = nn.Conv(width, (5,))(activate(y))
      x = y + nn.Dense(width)(nn.avg_pool(x, (2,), (2,), "SAME"))
    x = activate(x)
    x = jnp.concatenate([x.mean(1), x.max(1)], axis=-1)
    return nn.Dense(
      self.num_labels, use_bias=False, kernel_init=nn.initializers.zeros
    )(x)


def make_trainer(
  num_labels: int, num_samples: int, sampling_rate: int
) -> training.Trainer:
  """Training of the network on signals of this length and rate."""
  network = ResidualCnn(num_labels, WIDTHS)
  factor = max(1, sampling_rate // RATE)

  def prepare(ecg: jax.Array, lead_valid: jax.Array) -> jax.Array:
    x = ecg.astype(jnp.float32) / (1000 * SCALE)
    x = preprocessing.bandpass(x, sampling_rate, 0.5, 0.0)
    x = jnp.where(lead_valid[..., None], x, 0.0)
    length = x.shape[-1] // factor * factor
    x = x[..., :length].reshape(*x.shape[:2], -1, factor).mean(-1)
    return x.swapaxes(1, 2)

  def logits(params: dict, ecg: jax.Array, lead_valid: jax.Array) -> jax.Array:
    x = network.apply({"params": params["network"]}, prepare(ecg, lead_valid))
    return x + params["bias"][None]

  def init(key: jax.Array, num_labels: int) -> dict:
    del num_labels
    x = jnp.zeros((1, num_samples // factor, 12))
    return {"network": jax.jit(network.init)(key, x)["params"]}

  return training.Trainer(
    *(logits, init),
    epochs=10,
    patience=3,
    batch_size=64,
    lr=2e-3,
    weight_decay=0.05,
  )


def run(inputs: Inputs, options: Options) -> Findings:
  """Trains on each fraction of the labels; settings as in `linear_probe`.

  Raises:
    UserError: a split has no record of the label set.
  """
  data = inputs.data
  labels, index = data.labels(inputs.label_set), data.index("test")
  test, _ = scoring.make_test_set(
    index.subject_ids, labels["test"], inputs.label_names, index.ids
  )
  x, y = {}, {}
  for split in SPLITS:
    numbers = np.arange(len(labels[split]))[:, None]
    rows, y[split] = linear.belonging(
      split, numbers, labels[split], inputs.label_names
    )
    x[split] = _read(data.source(split), rows[:, 0])
  trainer = make_trainer(
    len(inputs.label_names), data.test.num_samples, data.test.sampling_rate
  )
  return training.probe(
    *(trainer, x, y, test, "probe"),
    fractions=options.fractions,
    seeds=options.seeds,
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )


def _read(
  source: pipeline.SignalSource, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Signals int16 (N, 12, T) of some records, and which leads are valid."""
  records = [source.signal(int(i)) for i in rows]
  return (
    np.stack([r["ecg"] for r in records]),
    np.stack([r["lead_valid"] for r in records]),
  )
