"""A report encoder as if it had been pretrained, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np

from cgdmer_jax import sharding
from cgdmer_jax.models import hf_bert
from tests import small

SIZES = hf_bert.BertConfig(50, 16, 3, 2, 24, 16)


def random_params(sizes, seed=0):
  """Of a report encoder; every array random, norms and biases too."""
  tokens = jnp.zeros((1, 3), jnp.int32)
  params = jax.jit(sizes.build().init)(jax.random.key(0), tokens, tokens == 0)
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda x: (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32),
    params["params"],
  )


def config_of(train, **report):
  """The toy configuration as if `resolve` had read SIZES."""
  c = small.config("recipe=clip").unlock()  # compiles sooner than the others
  c.model.report.update(vars(SIZES))
  c.report.update(checkpoint="given", train=train, **report)
  c.data.statements = (0,)
  c.optim.update(muon_lr=0.0, warmup_ratio=0.0)
  c.loss.alignment = "sigmoid"  # which uses the bias too
  return c.lock()


def named(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {sharding.path_name(path): np.asarray(x) for path, x in leaves}
