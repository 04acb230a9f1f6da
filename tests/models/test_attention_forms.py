"""Other forms of attention; that of cuDNN is lowered, as no GPU is needed."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from cgdmer_jax.models import layers


@pytest.mark.parametrize(
  ("length", "masked", "calls"),
  [(12, True, True), (12, False, True), (7, False, False), (7, True, False)],
)
def test_forward_and_backward_become_calls_of_cudnn(
  monkeypatch, length, masked, calls
):
  for check, answer in (
    ("check_cudnn_version", 91000),
    ("check_compute_capability", True),
  ):
    monkeypatch.setattr(
      fused_attention_stablehlo, check, lambda *_, answer=answer: answer
    )
  compute = layers.Compute(dtype="bfloat16", attention="cudnn")
  attention = layers.Attention(2, compute)
  x = jax.ShapeDtypeStruct((4, length, 64), jnp.bfloat16)
  valid = jax.ShapeDtypeStruct((4, length), bool) if masked else None

  def gradient(params, x, valid):
    def loss(params):
      return attention.apply(params, x, valid).astype(jnp.float32).sum()

    return jax.grad(loss)(params)

  params = jax.eval_shape(attention.init, jax.random.key(0), x)
  traced = jax.jit(gradient).trace(params, x, valid)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  assert bool(re.search(r"@__cudnn\$fmha\w+Backward", text)) == calls
  assert ("__cudnn$fmha" in text) == calls


@pytest.mark.parametrize(
  ("length", "sequences"), [(12, 20), (20, 12), (7, 1), (130, 2)]
)
def test_packed_sequences_attend_each_for_itself(length, sequences):
  x = jax.random.normal(jax.random.key(0), (2 * sequences, length, 16))
  valid = jax.random.bernoulli(jax.random.key(1), 0.7, x.shape[:2])
  valid = valid.at[:, 0].set(True)
  plain, packed = (
    layers.Attention(2, layers.Compute(attention=kind), sequences)
    for kind in ("xla", "packed")
  )
  params = plain.init(jax.random.key(2), x, valid)
  for mask in (valid, None):
    np.testing.assert_allclose(
      packed.apply(params, x, mask), plain.apply(params, x, mask), atol=1e-5
    )
