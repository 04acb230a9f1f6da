"""The training objective: from a batch of records to the terms of the loss.

Each record is encoded by itself, so a batch that does not fit into memory can
be encoded in parts; the losses compare all records of the global batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Int, Key
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array
from cgdmer_jax.data import augmentation
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.models import cgdmer, masking, report_masking
from cgdmer_jax.models.forward import Forward, is_seen_whole
from cgdmer_jax.train import dependence, losses, positives, ring


@flax.struct.dataclass
class Encoded:
  """What the losses need of each record; None for what a recipe lacks.

  Attributes:
    ecg: embedding of the masked ECG; with `align_view` "full", of the whole
      one.
    report: embedding of the masked report; with `align_view` "full", and of
      records that are seen whole, of the unmasked one.
    hidden_error: two (M,), squared error of hidden patches and their number,
      of the M records that are restored.
    word_error: two (B,), cross-entropy of masked words and their number.
  """

  ecg: cgdmer.Embedding
  report: cgdmer.Embedding | None
  hidden_error: tuple[Array, Array] | None
  word_error: tuple[Array, Array] | None


@dataclasses.dataclass(frozen=True)
class Objective:
  """The objective of a recipe.

  Attributes:
    forward: the model with its preprocessing and mesh. Without a mesh, the
      compiler places activations, and `loss.ring` is not possible.
    loss: `config.loss`, weights of the terms and their forms.
    mask: `config.mask`, what is hidden.
    augment: `config.augment`, how recordings are changed in training.
    align_view: "masked" or "full", see `Forward.train`; decides what alignment
      and disentanglement see.
    statements: how many statements of a report are read, see
      `report_masking.sample_statements`; (0,) for whole reports.
    max_length: most tokens that are read of a report.
    microbatches: number of parts in which a batch is encoded.
  """

  forward: Forward
  loss: ConfigDict
  mask: ConfigDict
  augment: ConfigDict
  align_view: str
  statements: tuple[int, ...]
  max_length: int
  microbatches: int

  def draw(
    self, batch: Batch, key: Key[Array, ""]
  ) -> tuple[
    masking.PatchMask, report_masking.TokenMask, Int[Array, "batch token"]
  ]:
    """Draws what is random in a step: hidden patches, statements and words.

    Returns:
      Masks of patches and of words, and the number of the statement that each
      token that is read belongs to.
    """
    patch_key, statement_key, token_key = jax.random.split(key, 3)
    model = self.forward.model
    mask = masking.sample_patch_mask(
      patch_key,
      batch.lead_valid,
      batch.ecg.shape[-1] // model.config.patch_length,
      self.mask.kind,
      self.mask.lead_ratio,
      self.mask.time_ratio,
    )
    tokens, statement = batch.tokens, batch.statement
    if self.statements != (0,):
      tokens, statement = report_masking.sample_statements(
        statement_key,
        tokens,
        statement,
        self.statements,
        self.max_length,
        model.vocabulary.pad_id,
      )
    if not model.use_mlm:
      return mask, report_masking.unmasked_tokens(tokens), statement
    words = report_masking.sample_token_mask(
      token_key, tokens, self.mask.token_ratio, model.vocabulary
    )
    # Of a short report, one masked word may be all that alignment could use.
    is_whole = is_seen_whole(len(tokens), self._whole_quarters)
    return mask, report_masking.unmask(words, is_whole), statement

  @property
  def _whole_quarters(self) -> int:
    """Of four records, how many are seen whole."""
    return round(4 * self.mask.whole_ratio)

  def terms(
    self,
    params: Any,
    batch: Batch,
    key: Key[Array, ""],
    is_training: bool = False,
  ) -> dict[str, Array]:
    """Computes the unweighted terms, and "loss", their weighted sum.

    Recordings are augmented if `is_training`; otherwise they are as they are.

    With a report tower there is also "padding", the share of padding in what it
    reads; with alignment "false_negatives_avoided", the number of positive
    pairs that are not a record with itself (`positives.false_negatives`).
    """
    with sharding.use(self.forward.mesh):
      return self._terms(params, batch, key, is_training)

  def _terms(self, params, batch, key, is_training):
    mask, words, statement = self.draw(batch, key)
    augment = augmentation.NONE
    if is_training:
      augment_key = jax.random.fold_in(key, 3)  # `draw` splits it into 0, 1, 2
      augment = augmentation.draw(
        augment_key, batch.lead_valid, batch.ecg.shape[-1], self.augment
      )
    out = self._encode(params, batch, mask, words, augment)
    model = self.forward.model
    terms, facts = {}, {}
    texts = None
    if model.use_report:
      padding = words.tokens == model.vocabulary.pad_id
      facts["padding"] = jnp.mean(padding.astype(jnp.float32))
      texts = self._texts(batch, words.original, statement)
    if model.reconstruct:
      terms["ecg"] = losses.mean(*out.hidden_error)
    if model.use_mlm:
      terms["mlm"] = losses.mean(*out.word_error)
    if self.loss.align:
      terms["align"], count = self._alignment(params, out, texts)
      facts["false_negatives_avoided"] = count
    if self.loss.disentangle:
      terms["disentangle"] = self._disentanglement(params, out, batch)
    terms["loss"] = sum(
      self.loss[name] * value for name, value in terms.items()
    )
    return terms | facts

  def _encode(self, params, batch, mask, words, augment) -> Encoded:
    """Runs the model in microbatches."""
    table = batch.state_table  # the one array without an axis of records
    model = self.forward.model

    def encode(inputs):
      records, mask, words, augment = inputs
      out, target, hidden = self.forward.train(
        params,
        records.replace(state_table=table),
        mask,
        words,
        self.align_view,
        augment,
        self._whole_quarters,
      )
      hidden_error = word_error = None
      if model.reconstruct:
        hidden_error = losses.hidden_error(out.samples, target, hidden)
      if model.use_mlm:
        word_error = losses.word_error(
          out.word_logits, words.target, words.weight
        )
      return Encoded(out.ecg, out.report, hidden_error, word_error)

    inputs = batch.replace(state_table=None), mask, words, augment
    # The place among four neighbours says which records are seen whole.
    together = 4 if self.mask.whole_ratio else 1
    return in_microbatches(encode, self.microbatches, inputs, together)

  def _texts(self, batch, tokens, statement) -> positives.Texts:
    """What tells which records belong together."""
    marks = None
    if self.loss.positives == "statement":
      marks = positives.fingerprint_statements(
        tokens, statement, self.forward.model.vocabulary.separator_ids
      )
    read = positives.fingerprint(tokens)
    return positives.Texts(batch.report, read, batch.has_text, marks)

  def _alignment(self, params, out, texts) -> tuple[Array, Array]:
    """The alignment loss, and the positive pairs off the diagonal."""
    z = out.ecg.shared, out.report.shared, texts
    scale, bias = params["log_scale"], params["bias"]
    if self.loss.ring:
      mesh = self.forward.mesh
      return ring.alignment(self.loss.alignment, *z, scale, bias, mesh)
    if self.loss.alignment == "sigmoid":
      loss = losses.sigmoid_alignment(*z, scale, bias)
    else:
      loss = losses.infonce_alignment(*z, scale)
    return loss, positives.false_negatives(texts)

  def _disentanglement(self, params, out, batch) -> Array:
    """Sums how shared depends on specific, and specific on specific."""
    pairs = {"ecg": (out.ecg.shared, out.ecg.specific, None)}
    if out.report is not None:
      parts = out.report.shared, out.report.specific
      pairs["report"] = (*parts, batch.has_text)
      pairs["specific"] = out.ecg.specific, parts[1], batch.has_text
    form = self.loss.disentangle_form
    if form != "club":
      return sum(getattr(dependence, form)(*pair) for pair in pairs.values())
    model = self.forward.model

    def critic(name):
      return lambda params, x: model.apply(
        {"params": params}, name, x, method="criticise"
      )

    return sum(
      dependence.club(*pair, critic(name), params)
      for name, pair in pairs.items()
    )


def in_microbatches(
  encode: Callable[[Any], Any], count: int, inputs: Any, together: int = 1
) -> Any:
  """Computes `encode(inputs)` in `count` parts, one after the other.

  The backward pass encodes each part again, so only the activations of one part
  are in memory. The gradient is that of the whole batch, also for losses that
  compare its records (Gao et al. 2021, arXiv 2101.06983).

  Args:
    encode: maps a pytree of arrays to another; the first axis of each array is
      that of the records, which do not depend on each other. It may be shorter
      in the result, by as many of each `together` records.
    count: number of parts; times `together` divides the number of records.
    inputs: pytree with all records.
    together: how many neighbours come into the same part, in their order.
  """
  if count == 1:
    return encode(inputs)
  num_groups = jax.tree.leaves(inputs)[0].shape[0] // (count * together)

  def split(x):
    # Every count-th group: each device already has some of each part.
    shape = x.shape[1:]
    x = x.reshape(num_groups, count, together, *shape).swapaxes(0, 1)
    x = x.reshape(count, num_groups * together, *shape)
    return sharding.constrain_batch(x, axis=1)

  def join(x):
    left = x.shape[1] // num_groups  # of each group
    x = x.reshape(count, num_groups, left, *x.shape[2:]).swapaxes(0, 1)
    return x.reshape(count * x.shape[0] * left, *x.shape[3:])

  encode = jax.checkpoint(encode, prevent_cse=False)
  return jax.tree.map(join, jax.lax.map(encode, jax.tree.map(split, inputs)))
