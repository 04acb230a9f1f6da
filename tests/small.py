"""A configuration and batches small enough for tests."""

import numpy as np

from cgdmer_jax.config import fields
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.train import optim, setup
from configs import pretrain

NUM_SAMPLES = 200
VOCABULARY = Vocabulary(50, 0, 1, 4, (0, 1, 2, 3, 4))


def config(arg=None):
  """The demo configuration with everything on, at toy widths."""
  c = pretrain.get_config(arg).unlock()
  c.model.patch_length = 25
  for part in ("ecg", "report", "disentangle", "ecg_decoder"):
    c.model[part].update(fields.transformer(16, 1, 2, 24))
  c.model.report.num_positions = c.report.max_length = 16
  c.train.batch_size = 8
  return c.lock()


def batch(size=8, seed=0):
  """Random records; the first two share a report, one lead is missing.

  Limb leads depend on each other as those of any recording do.
  """
  rng = np.random.default_rng(seed)
  length = rng.integers(4, 17, size)
  tokens = rng.integers(5, VOCABULARY.size, (size, 16)).astype(np.int32)
  tokens[np.arange(16)[None] >= length[:, None]] = 0
  tokens[:, 0] = 2
  tokens[1] = tokens[0]
  lead_valid = np.ones((size, 12), bool)
  lead_valid[2, 7] = False
  ecg = rng.normal(scale=400, size=(size, 12, NUM_SAMPLES)).cumsum(-1) / 8
  i, ii = ecg[:, 0], ecg[:, 1]
  limb = ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2
  ecg[:, 2:6] = np.stack(limb, axis=1)
  ecg = np.where(lead_valid[..., None], ecg, 0).astype(np.int16)
  statement = np.where(tokens > 4, np.arange(16)[None] // 5, -1)
  return Batch(
    ecg=ecg,
    lead_valid=lead_valid,
    tokens=tokens,
    statement=statement.astype(np.int32),
    report=np.maximum(np.arange(size, dtype=np.int32), 1),
    has_text=np.ones(size, bool),
  )


def objective(config, mesh=None):
  return setup.make_objective(config, VOCABULARY, mesh)


def optimizer(config, total_steps):
  return optim.make_optimizer(
    config.optim, config.report, config.model.report.depth, total_steps
  )
