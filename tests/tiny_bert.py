"""A report encoder as if it had been pretrained, with random weights."""

import jax
import jax.numpy as jnp
import numpy as np

from cgdmer_jax.models import hf_bert

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
