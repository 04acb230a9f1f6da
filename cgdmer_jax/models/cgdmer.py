"""CG-DMER: two backbones, three disentangling encoders, two decoders.

Paper: arXiv 2602.21154. Encoders and decoders that a recipe does not need do
not exist: their parameters are never created. Every report tower has two
scalars, also where no loss reads them: `log_scale`, which only alignment uses,
and `bias`, which only the sigmoid alignment uses.
"""

from __future__ import annotations

import flax
import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from cgdmer_jax.arrays import Array, Leaf
from cgdmer_jax.data import preprocessing
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.models import (
  arithmetic,
  critic,
  decoders,
  ecg_encoder,
  layers,
  masking,
  products,
  report_encoder,
  report_masking,
)


@flax.struct.dataclass
class Embedding:
  """Pooled representation of one modality, float32.

  Attributes:
    shared: (B, width) from the modality-shared encoder; aligned.
    specific: (B, width) from the modality-specific encoder; None in recipes
      without disentanglement.
  """

  shared: Leaf
  specific: Leaf | None


@flax.struct.dataclass
class Outputs:
  """What the losses need; None for what the recipe does not compute.

  Attributes:
    ecg: embedding of the masked ECG; `Forward.train` puts that of the whole one
      here if `align_view` is "full".
    report: embedding of the masked report; likewise.
    samples: (B, L, N, p) reconstructed patches.
    word_logits: (B, K, vocab) scores of the masked report tokens.
  """

  ecg: Embedding
  report: Embedding | None
  samples: Leaf | None
  word_logits: Leaf | None


class CGDMER(nn.Module):
  """The whole model; it reads records of any number of patches.

  Attributes:
    config: `config.model`.
    vocabulary: ids of the report tokenizer.
    use_report: whether there is a report tower.
    use_specific: whether there are modality-specific encoders.
    reconstruct: whether there is an ECG decoder.
    use_mlm: whether there is a report decoder.
    use_critics: whether there are critics of the parts, for disentanglement.
    num_frozen: how many of the lowest blocks of the report encoder do not
      train; its embeddings do not either. None: everything trains.
    compute: types of numbers, attention, scan and recomputation.
  """

  config: ConfigDict
  vocabulary: Vocabulary
  use_report: bool
  use_specific: bool
  reconstruct: bool
  use_mlm: bool
  use_critics: bool = False
  num_frozen: int | None = None
  compute: layers.Compute = layers.Compute()

  def setup(self):
    """Makes the parts that the recipe needs."""
    c = self.config

    def disentangle():
      return layers.Transformer(
        c.disentangle.depth,
        c.disentangle.num_heads,
        c.disentangle.mlp_dim,
        self.compute,
      )

    def project():
      return products.Dense(c.disentangle.width, dtype=self.compute.dtype)

    self.ecg_encoder = ecg_encoder.EcgEncoder(
      num_leads=NUM_LEADS, compute=self.compute, **c.ecg
    )
    self.ecg_projection = project()
    self.shared_encoder = disentangle()
    if self.use_specific:
      self.ecg_specific_encoder = disentangle()
    if self.use_critics:
      self.ecg_critic = critic.GaussianCritic(c.disentangle.width)
    if self.reconstruct:
      self.ecg_decoder = decoders.EcgDecoder(
        patch_length=c.patch_length,
        compute=self.compute,
        **c.ecg_decoder,
      )
      if c.ecg_target == "residual":
        self.arithmetic = arithmetic.Arithmetic()
    if not self.use_report:
      return
    self.report_encoder = report_encoder.ReportEncoder(
      compute=self.compute, **self.report_sizes
    )
    self.report_projection = project()
    # Scale and bias of the similarity in the alignment losses, with the initial
    # values of SigLIP (Zhai et al. 2023, section 3.2).
    self.param("log_scale", nn.initializers.constant(jnp.log(10.0)), ())
    self.param("bias", nn.initializers.constant(-10.0), ())
    if self.use_specific:
      self.report_specific_encoder = disentangle()
    if self.use_critics:
      self.report_critic = critic.GaussianCritic(c.disentangle.width)
      self.specific_critic = critic.GaussianCritic(c.disentangle.width)
    if self.use_mlm:
      self.report_decoder = decoders.ReportDecoder(
        c.report.width, self.compute.dtype
      )
      self.word_bias = self.param(
        "word_bias", nn.initializers.zeros, (self.report_sizes["vocab_size"],)
      )

  @property
  def report_sizes(self) -> dict:
    """Sizes of the report encoder.

    A `vocab_size` of 0 stands for the number of ids of the tokenizer.
    """
    sizes = dict(self.config.report)
    sizes["vocab_size"] = sizes["vocab_size"] or self.vocabulary.size
    return sizes

  def _disentangle(self, x, valid, specific_encoder):
    """Returns token features [S ; P] and the pooled embedding of a modality."""
    shared = self.shared_encoder(x, valid)
    z_shared = layers.masked_mean(shared, valid)
    if specific_encoder is None:
      return shared, Embedding(z_shared, None)
    specific = specific_encoder(x, valid)
    z_specific = layers.masked_mean(specific, valid)
    fused = jnp.concatenate([shared, specific], axis=-1)
    return fused, Embedding(z_shared, z_specific)

  def encode_ecg(
    self,
    patches: Float[Array, "batch lead patch sample"],
    mask: masking.PatchMask,
  ) -> tuple[Float[Array, "batch visible fused"], Embedding]:
    """Encodes the visible patches; hidden ones are never read."""
    b, l, n, p = patches.shape
    visible = jnp.take_along_axis(
      patches.reshape(b, l * n, p), mask.visible[..., None], axis=1
    )
    x = self.ecg_encoder(visible, mask.visible, mask.seen, n)
    specific = self.ecg_specific_encoder if self.use_specific else None
    return self._disentangle(self.ecg_projection(x), mask.seen, specific)

  def encode_report(
    self,
    tokens: Int[Array, "batch token"],
    states: Float[Array, "batch token width"] | None = None,
  ) -> tuple[Float[Array, "batch token fused"], Embedding]:
    """Encodes reports; padding is ignored.

    Args:
      tokens: ids, padded on the right.
      states: outputs of the frozen layers of the report encoder for `tokens`;
        None: they are computed.
    """
    valid = tokens != self.vocabulary.pad_id
    if states is None:
      x = self.report_encoder(tokens, valid)
    else:
      states = states.astype(self.compute.dtype)
      x = self.report_encoder.upper(states, valid, self.num_frozen)
    specific = self.report_specific_encoder if self.use_specific else None
    return self._disentangle(self.report_projection(x), valid, specific)

  def decode_ecg(
    self,
    fused: Float[Array, "batch visible fused"],
    patches: Float[Array, "batch lead patch sample"],
    mask: masking.PatchMask,
    lead_valid: Bool[Array, "batch lead"],
  ) -> Float[Array, "batch lead patch sample"]:
    """Predicts every patch, in the unit of `preprocessing.target`.

    Args:
      fused: tokens of the visible patches.
      patches: all patches; hidden ones are not read.
      mask: which of them are visible.
      lead_valid: False where a lead is missing.
    """
    samples = self.ecg_decoder(fused, mask, lead_valid)
    if self.config.ecg_target != "residual":
      return samples
    shown = lead_valid[..., None] & ~mask.hidden
    known = self.arithmetic(patches, shown, lead_valid)
    scale = preprocessing.visible_scale(patches, shown)
    return samples.astype(jnp.float32) + known / scale

  def __call__(
    self,
    patches: Float[Array, "batch lead patch sample"],
    lead_valid: Bool[Array, "batch lead"],
    mask: masking.PatchMask,
    words: report_masking.TokenMask,
    states: Float[Array, "batch token width"] | None = None,
  ) -> Outputs:
    """Makes one training pass over masked ECGs and masked reports.

    `states`: see `encode_report`; with them, nothing is masked in reports.
    """
    fused, ecg = self.encode_ecg(patches, mask)
    samples = (
      self.decode_ecg(fused, patches, mask, lead_valid)
      if self.reconstruct
      else None
    )
    report = word_logits = None
    if self.use_report:
      fused, report = self.encode_report(words.tokens, states)
      if self.use_mlm:
        masked = jnp.take_along_axis(fused, words.position[..., None], axis=1)
        x = self.report_encoder.word_logits(self.report_decoder(masked))
        word_logits = x + products.spread(self.word_bias, x)
    return Outputs(ecg, report, samples, word_logits)

  def criticise(
    self, pair: str, x: Float[Array, "batch width"]
  ) -> tuple[Float[Array, "batch width"], Float[Array, "batch width"]]:
    """Predicts one part of the embedding from another.

    Args:
      pair: "ecg" or "report", the specific part of that modality from the
        shared one; or "specific", that of reports from that of ECGs.
      x: the given part, standardised.

    Returns:
      Mean and logarithm of the variance; see `critic.GaussianCritic`.
    """
    return getattr(self, f"{pair}_critic")(x)

  def initialise(
    self,
    patches: Float[Array, "batch lead patch sample"],
    lead_valid: Bool[Array, "batch lead"],
    mask: masking.PatchMask,
    words: report_masking.TokenMask,
  ) -> None:
    """Runs every part of the model, so that all parameters are made."""
    out = self(patches, lead_valid, mask, words)
    if self.use_critics:
      self.criticise("ecg", out.ecg.shared)
    if self.use_critics and self.use_report:
      self.criticise("report", out.report.shared)
      self.criticise("specific", out.ecg.specific)
