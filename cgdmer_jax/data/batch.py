"""The batch: everything that a training step reads."""

from __future__ import annotations

import flax
import jax.numpy as jnp

from cgdmer_jax.arrays import Leaf
from cgdmer_jax.data.leads import NUM_LEADS


@flax.struct.dataclass
class Batch:
  """B records of L leads and T samples, with reports of S tokens.

  The first axis of every array is that of the records, except in `state_table`.

  Attributes:
    ecg: int16 (B, L, T), microvolts, leads in the order of `leads.LEADS`.
    lead_valid: bool (B, L), False where a lead is missing; its samples are 0.
    tokens: int32 (B, S), ids of the report, padded on the right.
    statement: int32 (B, S), number of the statement that a token belongs to,
      from 0; -1 for [CLS], [SEP] and padding.
    report: int32 (B,), equal for reports that count as the same.
    has_text: bool (B,), False where the report says nothing.
    states: float (B, S, width), outputs of the frozen layers of the report
      encoder, zero in padding; None if these layers run in every step, or their
      outputs are in `state_table`.
    state_start: int32 (B,), first row of the report in `state_table`.
    state_table: float (rows, width), the outputs for every token of every
      report, one report after the other, on the devices.
  """

  ecg: Leaf
  lead_valid: Leaf
  tokens: Leaf
  statement: Leaf
  report: Leaf
  has_text: Leaf
  states: Leaf | None = None
  state_start: Leaf | None = None
  state_table: Leaf | None = None


def zeros(num_samples: int, batch_size: int = 1, num_tokens: int = 3) -> Batch:
  """Makes records without signal and reports of unknown words, for tracing."""
  tokens = (batch_size, num_tokens)
  return Batch(
    ecg=jnp.zeros((batch_size, NUM_LEADS, num_samples), jnp.int16),
    lead_valid=jnp.ones((batch_size, NUM_LEADS), bool),
    tokens=jnp.ones(tokens, jnp.int32),
    statement=jnp.zeros(tokens, jnp.int32),
    report=jnp.arange(batch_size, dtype=jnp.int32),
    has_text=jnp.ones((batch_size,), bool),
  )
