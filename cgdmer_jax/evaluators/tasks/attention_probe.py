"""Attention probe: a learned query looks at frozen tokens.

A mean over all tokens loses where something was. Here a query of `HEADS` heads
is learnt; each head takes a mean of the tokens by its attention, and a linear
map of these means scores the labels. That is cross-attention of one query with
many heads: a projection to keys is part of the query, and one to values part of
the linear map. Training subsets are those of the linear probe, and the epoch is
chosen on validation (`probes/training.py`).

The tokens of all splits are in memory, two bytes a feature: 0.4 GB for 6,000
records of the demonstration (120 tokens of 256 features).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cgdmer_jax.evaluators.data_set import SPLITS
from cgdmer_jax.evaluators.probes import linear, training
from cgdmer_jax.evaluators.scores import scoring
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Inputs, Options, Task

HEADS = 4


def logits(params: dict, tokens: jax.Array, lead_valid: jax.Array) -> jax.Array:
  """Scores of every label.

  Args:
    params: `query` (D, H), `kernel` (H, D, L), `bias` (L,).
    tokens: (B, 12, N, D); those of missing leads are not looked at.
    lead_valid: bool (B, 12).

  Returns:
    float32 (B, L).
  """
  b, leads, n, d = tokens.shape
  x = tokens.astype(jnp.float32).reshape(b, leads * n, d)
  is_there = jnp.repeat(lead_valid, n, axis=1)[..., None]
  scores = jnp.where(is_there, x @ params["query"], -1e9)
  weights = jax.nn.softmax(scores, axis=1)
  means = jnp.einsum("bnh,bnd->bhd", weights, x)
  out = jnp.einsum("bhd,hdl->bl", means, params["kernel"])
  return out + params["bias"][None]


def _trainer(width: int) -> training.Trainer:
  """Training of a probe of tokens with `width` features."""

  def init(key: jax.Array, num_labels: int) -> dict:
    return {
      "query": jax.random.normal(key, (width, HEADS)) / width**0.5,
      "kernel": jnp.zeros((HEADS, width, num_labels)),
    }

  return training.Trainer(
    *(logits, init),
    epochs=20,
    patience=3,
    batch_size=64,
    lr=3e-3,
    weight_decay=0.1,
  )


def run(inputs: Inputs, options: Options) -> Findings:
  """Probes the tokens of the encoder with each fraction of the labels.

  Raises:
    UserError: only features of the encoder are known, or a split has no record
      of the label set.
  """
  data = inputs.data
  labels, index = data.labels(inputs.label_set), data.index("test")
  test, _ = scoring.make_test_set(
    index.subject_ids, labels["test"], inputs.label_names, index.ids
  )
  x, y = {}, {}
  for split in SPLITS:
    x[split], y[split] = linear.belonging(
      split,
      inputs.store.tokens(data.source(split)),
      labels[split],
      inputs.label_names,
    )
  valid = {split: tokens.any(axis=(2, 3)) for split, tokens in x.items()}
  _standardise(x)
  trainer = _trainer(x["train"].shape[-1])
  return training.probe(
    trainer,
    {split: (x[split], valid[split]) for split in SPLITS},
    y,
    test,
    "attention",
    fractions=options.fractions,
    seeds=options.seeds,
    min_positives=options.min_positives,
    num_bootstrap=options.num_bootstrap,
  )


def _standardise(x: dict[str, np.ndarray]) -> None:
  """Gives every feature of the training tokens mean 0 and deviation 1."""
  sample = x["train"][:: max(1, len(x["train"]) // 500)].astype(np.float32)
  axes = (0, 1, 2)
  mean, scale = sample.mean(axes), sample.std(axes) + 1e-3
  for tokens in x.values():
    for start in range(0, len(tokens), 500):  # in place, as there are many
      part = tokens[start : start + 500]
      part[:] = (part - mean) / scale


def heading(setting: str) -> str:
  """`attention_10` as "attention probe 10 %"."""
  return f"{setting.replace('_', ' probe ')} %"


TASK = Task(
  name="attention_probe",
  run=run,
  order=25,
  labels="first",
  options=("fractions", "seeds", "min_positives"),
  heading=heading,
)
