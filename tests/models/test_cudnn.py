"""Attention of cuDNN as far as it goes without a GPU: it is lowered, not run."""

import re

import jax
import jax.numpy as jnp
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
