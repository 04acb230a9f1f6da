"""Report backbone: BERT (Devlin et al. 2019), post-LN, exact GELU."""

from __future__ import annotations

import flax.linen as nn
from jaxtyping import Bool, Float, Int

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array
from cgdmer_jax.models import layers, products

_EPSILON = 1e-12  # of LayerNorm; Hugging Face's default for BERT


class BertBlock(nn.Module):
  """Post-LN transformer block."""

  num_heads: int
  mlp_dim: int
  compute: layers.Compute = layers.Compute()
  epsilon: float = _EPSILON

  @nn.compact
  def __call__(self, x: Array, valid: Array) -> Array:
    """Maps `x` (batch, token, width); attends to the valid tokens."""
    dtype = self.compute.dtype
    x = sharding.constrain_batch(x)
    attention = layers.Attention(self.num_heads, self.compute, name="attention")
    x += attention(x, valid)
    x = layers.LayerNorm(self.epsilon, dtype=dtype, name="norm_attention")(x)
    y = products.Dense(self.mlp_dim, dtype=dtype, name="up")(x)
    y = layers.exact_gelu(y)
    y = products.Dense(x.shape[-1], dtype=dtype, name="down")(y)
    return layers.LayerNorm(self.epsilon, dtype=dtype, name="norm_mlp")(x + y)


class Table(nn.Module):
  """Table of embeddings: `nn.Embed` for tables that are cut over devices."""

  count: int
  width: int
  dtype: str = "float32"

  def setup(self):
    """Makes the table."""
    self.embedding = self.param(
      "embedding", nn.initializers.normal(0.02), (self.count, self.width)
    )

  def __call__(self, index: Array) -> Array:
    """Rows of the table: (..., width)."""
    return products.rows(self.embedding, index, self.dtype)

  def first(self, count: int, like: Array) -> Array:
    """The first `count` rows, broadcast to the shape of `like`."""
    rows = sharding.gather(self.embedding[:count])
    return products.spread(rows, like)

  def attend(self, x: Array) -> Array:
    """Products with every row: (..., count)."""
    x = x.astype(self.dtype)
    return products.product(x, self.embedding.T, 1, True)


class ReportEncoder(nn.Module):
  """BERT encoder without pooler; the word table serves the MLM head too."""

  vocab_size: int
  num_positions: int
  width: int
  depth: int
  num_heads: int
  mlp_dim: int
  compute: layers.Compute = layers.Compute()
  type_vocab_size: int = 2  # segments; only the first is ever used
  epsilon: float = _EPSILON

  def setup(self):
    """Makes the embedding tables and the blocks."""

    def embed(count):
      return Table(count, self.width, self.compute.dtype)

    self.word = embed(self.vocab_size)
    self.position = embed(self.num_positions)
    self.token_type = embed(self.type_vocab_size)
    self.norm = layers.LayerNorm(self.epsilon, dtype=self.compute.dtype)
    # Never scanned: the configuration says how many of them train.
    block = self.compute.recomputed(BertBlock)
    self.blocks = [
      block(self.num_heads, self.mlp_dim, self.compute, self.epsilon)
      for _ in range(self.depth)
    ]

  def __call__(
    self,
    tokens: Int[Array, "batch token"],
    valid: Bool[Array, "batch token"],
  ) -> Float[Array, "batch token width"]:
    """Encodes reports of one segment; `valid` is False for padding.

    Raises:
      ValueError: reports longer than `num_positions`.
    """
    return self.upper(self.lower(tokens, valid, 0), valid, 0)

  def lower(
    self,
    tokens: Int[Array, "batch token"],
    valid: Bool[Array, "batch token"],
    count: int,
  ) -> Float[Array, "batch token width"]:
    """Runs the embeddings and the first `count` blocks; see `__call__`."""
    length = tokens.shape[1]
    if length > self.num_positions:
      raise ValueError(
        f"reports of {length} tokens; expected at most {self.num_positions}"
      )
    x = self.word(tokens)
    x += self.position.first(length, x)
    x += self.token_type.first(1, x)
    x = self.norm(x)
    for block in self.blocks[:count]:
      x = block(x, valid)
    return x

  def upper(
    self,
    x: Float[Array, "batch token width"],
    valid: Bool[Array, "batch token"],
    count: int,
  ) -> Float[Array, "batch token width"]:
    """Runs the blocks after the first `count`, on the output of `lower`."""
    for block in self.blocks[count:]:
      x = block(x, valid)
    return x

  def word_logits(
    self, x: Float[Array, "batch slot width"]
  ) -> Float[Array, "batch slot vocab"]:
    """Scores of every word: the product with the embedding table."""
    return self.word.attend(x)
