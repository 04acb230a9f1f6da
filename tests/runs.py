"""Runs without the pretraining."""

import optax

from cgdmer_jax import sharding
from cgdmer_jax.config import saved
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import reports
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.train import checkpoint, setup, train_step
from cgdmer_jax.train import tokenizer as tokenizer_lib
from tests import toy


def make_run(data_dir, workdir, recipe, seed=0, **changes):
  """What a pretraining leaves: `workdir`, with random weights."""
  workdir.mkdir(parents=True)
  config = toy.get_config(f"recipe={recipe}").unlock()
  config.seed = seed
  config.update_from_flattened_dict(changes)
  saved.write(workdir, config, False)
  source = EcgSource("synthetic_ecg/tiny", "train", data_dir)
  texts = index_lib.load_index(source).reports
  tokenizer = tokenizer_lib.prepare(workdir, texts, config)
  mesh = sharding.make_mesh((-1, 1, 1))
  model = setup.build_model(config, reports.vocabulary(tokenizer))
  state = train_step.create_state(model, optax.identity(), mesh, config.seed)
  with checkpoint.Checkpointer(workdir, keep=1) as checkpointer:
    checkpointer.save(7, state)
  return workdir
