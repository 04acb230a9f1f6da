"""The training objective: from a batch of records to the terms of the loss.

Encoding goes record by record, so that a batch which does not fit into memory
can be encoded in parts; the losses compare all records of the global batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.data import preprocessing
from cgdmer_jax.models import cgdmer, masking
from cgdmer_jax.train import losses, ring

Batch = Mapping[str, Array]


@flax.struct.dataclass
class Encoded:
  """What the losses need of each record; None for what a recipe lacks.

  Attributes:
    ecg: embedding of the masked ECG.
    report: embedding of the masked report.
    hidden_error: two (B,), squared error of hidden patches and their number.
    word_error: two (B,), cross-entropy of masked words and their number.
  """

  ecg: cgdmer.Embedding
  report: cgdmer.Embedding | None
  hidden_error: tuple[Array, Array] | None
  word_error: tuple[Array, Array] | None


def draw(
  model: cgdmer.CGDMER, config: ConfigDict, batch: Batch, key: Key[Array, ""]
) -> tuple[masking.PatchMask, masking.TokenMask]:
  """Everything random of a step: which patches and which words are hidden."""
  patch_key, statement_key, token_key = jax.random.split(key, 3)
  mask = masking.sample_patch_mask(
    patch_key,
    batch["lead_valid"],
    model.num_patches,
    config.mask.kind,
    config.mask.lead_ratio,
    config.mask.time_ratio,
  )
  tokens = batch["tokens"]
  if tuple(config.data.statements) != (0,):
    tokens = masking.sample_statements(
      statement_key,
      tokens,
      batch["statement"],
      config.data.statements,
      config.report.max_length,
      model.vocabulary.pad_id,
    )
  if not model.use_mlm:
    return mask, masking.unmasked_tokens(tokens)
  return mask, masking.sample_token_mask(
    token_key, tokens, config.mask.token_ratio, model.vocabulary
  )


def forward(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  params,
  batch: Batch,
  mask: masking.PatchMask,
  words: masking.TokenMask,
) -> tuple[cgdmer.Outputs, Array]:
  """Preprocesses and runs the model; returns its outputs and the patches."""
  lead_valid = batch["lead_valid"]
  x = preprocessing.preprocess(batch["ecg"], lead_valid, config.preprocess)
  patches = preprocessing.patchify(x, config.model.patch_length)
  variables = {"params": params}
  states = _known_states(batch)
  out = model.apply(variables, patches, lead_valid, mask, words, states)
  if config.align_view == "full" and model.use_report:
    full = masking.full_view(lead_valid, model.num_patches)
    _, ecg = model.apply(variables, patches, full, method="encode_ecg")
    _, report = model.apply(
      variables, words.original, states, method="encode_report"
    )
    out = out.replace(ecg=ecg, report=report)
  return out, patches


def _known_states(batch: Batch) -> Array | None:
  """Outputs of the frozen layers of the report encoder, if they are known.

  Returns:
    (B, S, width), meaningless behind the end of a report; None if unknown.
  """
  if "state_table" not in batch:
    return batch.get("states")
  table, tokens = batch["state_table"], batch["tokens"]
  row = batch["state_start"][:, None] + jnp.arange(tokens.shape[1])[None]
  return jnp.take(table, row, axis=0, mode="clip")


def loss_terms(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  params,
  batch: Batch,
  key: Key[Array, ""],
  mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Array]:
  """The terms of the objective, unweighted, and "loss", their weighted sum.

  Without `mesh`, activations lie as the compiler likes, and there is no
  `config.loss.ring`.

  With a report tower also "padding", the share of padding in what it reads;
  with alignment "false_negatives_avoided", the matching pairs of the batch
  besides those of a record with itself.
  """
  with sharding.use(mesh):
    return _loss_terms(model, config, params, batch, key, mesh)


def _loss_terms(model, config, params, batch, key, mesh):
  mask, words = draw(model, config, batch, key)
  records = dict(batch)
  tables = {k: records.pop(k) for k in ("state_table",) if k in records}

  def encode(inputs):
    records, mask, words = inputs
    batch = records | tables
    out, patches = forward(model, config, params, batch, mask, words)
    hidden_error = word_error = None
    if model.reconstruct:
      target, _, _ = preprocessing.normalise_patches(patches)
      hidden_error = losses.hidden_error(out.samples, target, mask.hidden)
    if model.use_mlm:
      word_error = losses.word_error(
        out.word_logits, words.target, words.weight
      )
    return Encoded(out.ecg, out.report, hidden_error, word_error)

  out = in_microbatches(
    encode, config.train.microbatches, (records, mask, words)
  )
  weights = config.loss
  terms, facts = {}, {}
  if model.use_report:
    has_text = batch["has_text"]
    texts = losses.Texts(
      batch["report"], losses.fingerprint(words.original), has_text
    )
    padding = words.tokens == model.vocabulary.pad_id
    facts["padding"] = jnp.mean(padding.astype(jnp.float32))
  if model.reconstruct:
    terms["ecg"] = losses.mean(*out.hidden_error)
  if model.use_mlm:
    terms["mlm"] = losses.mean(*out.word_error)
  if weights.align:
    scale, bias = params["log_scale"], params["bias"]
    both = (out.ecg.shared, out.report.shared, texts, scale)
    if weights.ring:
      terms["align"], count = ring.alignment(
        weights.alignment, *both, bias, mesh
      )
    elif weights.alignment == "sigmoid":
      terms["align"] = losses.sigmoid_alignment(*both, bias)
      count = losses.false_negatives(texts)
    else:
      terms["align"] = losses.infonce_alignment(*both)
      count = losses.false_negatives(texts)
    facts["false_negatives_avoided"] = count.astype(jnp.float32)
  if weights.disentangle:
    between = losses.cross_correlation
    total = between(out.ecg.shared, out.ecg.specific)
    if model.use_report:
      total += between(out.report.shared, out.report.specific, has_text)
      total += between(out.ecg.specific, out.report.specific, has_text)
    terms["disentangle"] = total
  terms["loss"] = sum(weights[name] * value for name, value in terms.items())
  return terms | facts


def in_microbatches(
  encode: Callable[[Any], Any], count: int, inputs: Any
) -> Any:
  """`encode(inputs)`, in `count` parts one after the other.

  The backward pass encodes each part again, so that the activations of one are
  all that is ever in memory, and the gradient is that of the whole batch, also
  of losses that compare its records (Gao et al. 2021, arXiv 2101.06983).

  Args:
    encode: of a pytree of arrays, and to one, whose first axis are records;
      those do not depend on each other.
    count: divides the number of records; 1: all at once.
    inputs: of all records.
  """
  if count == 1:
    return encode(inputs)

  def split(x):
    # Every count-th record, so that each part lies on all devices already.
    x = x.reshape(x.shape[0] // count, count, *x.shape[1:]).swapaxes(0, 1)
    return sharding.constrain_batch(x, axis=1)

  def join(x):
    x = x.swapaxes(0, 1)
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])

  encode = jax.checkpoint(encode, prevent_cse=False)
  return jax.tree.map(join, jax.lax.map(encode, jax.tree.map(split, inputs)))
