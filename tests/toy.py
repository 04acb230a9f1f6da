"""Configuration of a run that takes seconds; `--config=tests/toy.py`."""

from cgdmer_jax.config import fields
from configs import pretrain


def get_config(arg=None):
  c = pretrain.get_config(arg).unlock()
  for part in ("ecg", "report", "disentangle", "ecg_decoder"):
    c.model[part].update(fields.transformer(16, 1, 2, 24))
  c.model.ecg.stem = ((8, 10, 10),)
  if c.recipe != "cg_dmer":
    c.optim.muon_lr = 0.0  # Muon takes long to compile; once is enough.
  c.data.dataset = c.evaluation.datasets = "synthetic_ecg/tiny"
  c.data.vocab_size = 300
  c.evaluation.update(
    max_train=0, label_sets=("superclass", "rhythm"), num_bootstrap=20
  )
  c.evaluation.update(min_positives=3, seeds=2, fractions=(0.1, 1.0))
  c.train.update(batch_size=32, log_every=2, validate_every=4)
  c.train.update(checkpoint_every=3)
  if c.train.steps:
    c.train.steps = 7
  return c.lock()
