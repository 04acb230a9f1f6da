"""From stored microvolts to embeddings and restored patches.

Preprocess, cut into patches, hide, run the model: the one implementation for
training, validation, feature extraction, fine-tuning and reconstruction. All
methods are functions of parameters and arrays; the caller compiles them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data import augmentation, preprocessing
from cgdmer_jax.data.batch import Batch
from cgdmer_jax.models import (
  cgdmer,
  known_amplitude,
  masking,
  report_masking,
)


@flax.struct.dataclass
class Restored:
  """Recordings and their reconstruction.

  A decoder with the target "patch" predicts a patch up to its mean and standard
  deviation. In `restored` these are taken from the original: it is for scores
  of the shape. `known_mv` is for people: it holds nothing but what the model
  knows.

  Attributes:
    original: float32 (B, L, T), the preprocessed signal.
    restored: float32 (B, L, T), its reconstruction, of visible patches too.
    mean: float32 (B, L, T), mean of the patch that a sample belongs to.
    known_mv: float32 (B, L, T), mV, the reconstruction with a height that
      follows from visible patches, see `known_amplitude.in_millivolt`; None
      of a baseline.
  """

  original: Leaf
  restored: Leaf
  mean: Leaf
  known_mv: Leaf | None = None


@dataclasses.dataclass(frozen=True)
class Forward:
  """A model with the preprocessing that it was trained with.

  Attributes:
    model: the modules; they read records of any number of patches.
    preprocess: `config.preprocess`.
    mesh: devices that hold the arrays; None: the compiler decides.
  """

  model: cgdmer.CGDMER
  preprocess: ConfigDict
  mesh: jax.sharding.Mesh | None = None

  def patches(
    self,
    ecg: Int[Array, "batch lead time"],
    lead_valid: Bool[Array, "batch lead"],
    augment: augmentation.Augmentation = augmentation.NONE,
  ) -> Float[Array, "batch lead patch sample"]:
    """Scales, filters and normalises recordings, and cuts them into patches.

    For `augment` see `preprocessing.preprocess`.

    Raises:
      UserError: the patch length does not divide the samples.
    """
    with sharding.use(self.mesh):
      x = preprocessing.preprocess(ecg, lead_valid, self.preprocess, augment)
    return preprocessing.patchify(x, self.model.config.patch_length)

  def encode_ecg(
    self,
    params: Any,
    ecg: Int[Array, "batch lead time"],
    lead_valid: Bool[Array, "batch lead"],
  ) -> cgdmer.Embedding:
    """Embeds whole recordings; nothing is hidden."""
    patches = self.patches(ecg, lead_valid)
    view = masking.full_view(lead_valid, patches.shape[2])
    return self._encode_ecg(params, patches, view)

  def ecg_tokens(
    self,
    params: Any,
    ecg: Int[Array, "batch lead time"],
    lead_valid: Bool[Array, "batch lead"],
  ) -> Float[Array, "batch lead patch width"]:
    """Tokens of whole recordings, whose mean `encode_ecg` is.

    Returns:
      float32, shared and specific part side by side; 0 in missing leads.
    """
    patches = self.patches(ecg, lead_valid)
    view = masking.full_view(lead_valid, patches.shape[2])
    tokens, _ = self.model.apply(
      {"params": params}, patches, view, method="encode_ecg"
    )
    tokens = tokens.reshape(*patches.shape[:3], -1).astype(jnp.float32)
    return jnp.where(lead_valid[..., None, None], tokens, 0.0)

  def _encode_ecg(self, params, patches, mask) -> cgdmer.Embedding:
    variables = {"params": params}
    return self.model.apply(variables, patches, mask, method="encode_ecg")[1]

  def encode_report(
    self,
    params: Any,
    tokens: Int[Array, "batch token"],
    states: Float[Array, "batch token width"] | None = None,
  ) -> cgdmer.Embedding:
    """Embeds reports; for `states` see `CGDMER.encode_report`."""
    variables = {"params": params}
    return self.model.apply(variables, tokens, states, method="encode_report")[
      1
    ]

  def reconstruct(
    self,
    params: Any,
    ecg: Int[Array, "batch lead time"],
    lead_valid: Bool[Array, "batch lead"],
    hidden: Bool[Array, "batch lead patch"],
    num_visible: int,
  ) -> Restored:
    """Hides patches and restores them.

    Args:
      params: parameters, with those of an ECG decoder.
      ecg: microvolts.
      lead_valid: False for missing leads.
      hidden: the patches to hide.
      num_visible: greatest number of visible patches of any record.

    Returns:
      Signals in the unit that the model reads; `known_mv` in mV.
    """
    with sharding.use(self.mesh):
      x, unit = preprocessing.preprocess_with_unit(
        ecg, lead_valid, self.preprocess
      )
    length = self.model.config.patch_length
    patches = preprocessing.patchify(x, length)
    visible = ~hidden & lead_valid[..., None]
    mask = masking.patch_mask(visible, lead_valid, num_visible)

    def restore(model):
      fused, _ = model.encode_ecg(patches, mask)
      return model.decode_ecg(fused, patches, mask, lead_valid)

    samples = self.model.apply({"params": params}, method=restore)
    kind = self.model.config.ecg_target
    _, shift, scale = preprocessing.target(patches, visible, kind)
    samples = samples.astype(jnp.float32)
    mean = patches.mean(-1, keepdims=True)
    known = known_amplitude.in_millivolt(
      samples,
      patches,
      preprocessing.patchify(ecg.astype(jnp.float32) / 1000.0, length),
      visible,
      unit[..., None],
      kind,
    )
    restored = samples * scale + shift
    signals = patches, restored, jnp.broadcast_to(mean, patches.shape), known
    return Restored(*(x.reshape(ecg.shape) for x in signals))

  def train(
    self,
    params: Any,
    batch: Batch,
    mask: masking.PatchMask,
    words: report_masking.TokenMask,
    align_view: str,
    augment: augmentation.Augmentation = augmentation.NONE,
    whole_quarters: int = 0,
  ) -> tuple[cgdmer.Outputs, Array, Array]:
    """Makes one pass over masked recordings and masked reports.

    Args:
      params: all parameters, also those of decoders.
      batch: records.
      mask: which of their patches are visible.
      words: their masked reports.
      align_view: "masked", or "full": a second pass makes the embeddings, from
        whole recordings and unmasked reports. Alignment and disentanglement use
        these embeddings; without a report tower "full" changes nothing.
      augment: what is done to the recordings first.
      whole_quarters: of four records, how many are seen whole: nothing of them
        is hidden or restored.

    Returns:
      What the losses need; targets (M, L, N, p) of the M records that are
      restored, and which of their patches are hidden.
    """
    patches = self.patches(batch.ecg, batch.lead_valid, augment)
    states = _known_states(batch)
    valid = batch.lead_valid
    whole = None
    if whole_quarters:
      whole = self._encode_ecg(
        params,
        _quarters(patches, 0, whole_quarters),
        masking.full_view(
          _quarters(valid, 0, whole_quarters), patches.shape[2]
        ),
      )
      masked, valid, mask = jax.tree.map(
        lambda x: _quarters(x, whole_quarters, 4), (patches, valid, mask)
      )
    else:
      masked = patches
    out = self.model.apply(
      {"params": params}, masked, valid, mask, words, states
    )
    if whole is not None:
      join = functools.partial(_join_quarters, first=whole_quarters)
      out = out.replace(ecg=jax.tree.map(join, whole, out.ecg))
    if align_view == "full" and self.model.use_report:
      view = masking.full_view(batch.lead_valid, patches.shape[2])
      out = out.replace(
        ecg=self._encode_ecg(params, patches, view),
        report=self.encode_report(params, words.original, states),
      )
    shown = valid[..., None] & ~mask.hidden
    target, _, _ = preprocessing.target(
      masked, shown, self.model.config.ecg_target
    )
    return out, target, mask.hidden


def is_seen_whole(count: int, quarters: int) -> Bool[Array, " batch"]:
  """Which of `count` records are seen whole: of each four, the first ones."""
  return jnp.arange(count) % 4 < quarters


def _quarters(x: Array, first: int, last: int) -> Array:
  """Of each four records those from `first` to before `last`.

  Every fourth, and not a part of the batch: each device has some of them.
  """
  parts = x.reshape(x.shape[0] // 4, 4, *x.shape[1:])[:, first:last]
  return parts.reshape(-1, *x.shape[1:])


def _join_quarters(a: Array, b: Array, first: int) -> Array:
  """Puts the records together that `_quarters` has taken apart."""
  shape = a.shape[1:]
  parts = a.reshape(-1, first, *shape), b.reshape(-1, 4 - first, *shape)
  return jnp.concatenate(parts, axis=1).reshape(-1, *shape)


def _known_states(batch: Batch) -> Float[Array, "batch token width"] | None:
  """Outputs of the frozen layers of the report encoder, if they are known.

  Rows after the end of a report are meaningless.
  """
  if batch.state_table is None:
    return batch.states
  row = batch.state_start[:, None] + jnp.arange(batch.tokens.shape[1])[None]
  return jnp.take(batch.state_table, row, axis=0, mode="clip")
