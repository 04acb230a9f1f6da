"""The training step: a pure function of state and batch, without a mesh.

Every random draw is `fold_in(key(seed), step)` with a stream of its own, so
nothing random is part of the state, and step k is the same on any mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import flax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from cgdmer_jax import losses, masking, sharding
from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer

Batch = Mapping[str, Array]


@flax.struct.dataclass
class TrainState:
  """What is trained and checkpointed; `step` counts the updates made."""

  step: Array
  params: dict
  opt_state: optax.OptState


def check_config(config: ConfigDict, num_samples: int) -> None:
  """Checks what can be known before anything is made or written.

  Args:
    config: the whole configuration.
    num_samples: T, samples a lead.

  Raises:
    UserError: a value that does not exist, or values that do not fit together.
  """
  patch_length = config.model.patch_length
  if patch_length < 1 or num_samples % patch_length:
    raise UserError(
      f"model.patch_length={patch_length} does not divide the {num_samples} "
      "samples of a record; choose a divisor"
    )
  loss = config.loss
  if loss.disentangle and not config.model.specific:
    raise UserError(
      f"loss.disentangle={loss.disentangle} needs model.specific=True"
    )
  if loss.ecg and config.mask.kind == "none":
    raise UserError(
      f"loss.ecg={loss.ecg} has nothing to restore with mask.kind='none'; "
      "choose a mask kind or set loss.ecg=0"
    )
  for name, value, choices in (
    ("loss.alignment", loss.alignment, ("sigmoid", "infonce")),
    ("align_view", config.align_view, ("masked", "full")),
    ("mask.kind", config.mask.kind, masking.KINDS),
    (
      "preprocess.normalise",
      config.preprocess.normalise,
      preprocessing.NORMALISATIONS,
    ),
  ):
    if value not in choices:
      raise UserError(f"{name}={value!r}; expected one of {', '.join(choices)}")
  if not config.data.statements or min(config.data.statements) < 0:
    raise UserError(
      f"data.statements={tuple(config.data.statements)}; expected numbers of "
      "statements to draw, 0 for the whole report"
    )


def build_model(
  config: ConfigDict, num_samples: int, vocab_size: int
) -> cgdmer.CGDMER:
  """The model of a recipe; parts that no loss term needs are left out.

  Args:
    config: the whole configuration.
    num_samples: T, samples a lead.
    vocab_size: word pieces of the report tokenizer.

  Raises:
    UserError: see `check_config`.
  """
  check_config(config, num_samples)
  loss = config.loss
  return cgdmer.CGDMER(
    config=config.model,
    num_patches=num_samples // config.model.patch_length,
    vocab_size=vocab_size,
    use_report=bool(loss.align or loss.mlm),
    use_specific=config.model.specific,
    reconstruct=bool(loss.ecg),
    use_mlm=bool(loss.mlm),
    dtype=jnp.dtype(config.dtype),
  )


def forward(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  params,
  batch: Batch,
  key: Key[Array, ""],
) -> tuple[cgdmer.Outputs, masking.TokenMask, Array, Array]:
  """Preprocesses, masks and runs the model.

  Returns:
    Outputs, the masked reports, the patches (B, L, N, p), and which of them
    (B, L, N) are to be reconstructed.
  """
  patch_key, statement_key, token_key = jax.random.split(key, 3)
  lead_valid = batch["lead_valid"]
  x = preprocessing.preprocess(batch["ecg"], lead_valid, config.preprocess)
  patches = preprocessing.patchify(x, config.model.patch_length)
  mask = masking.sample_patch_mask(
    patch_key,
    lead_valid,
    model.num_patches,
    config.mask.kind,
    config.mask.lead_ratio,
    config.mask.time_ratio,
  )
  tokens = masking.sample_statements(
    statement_key,
    batch["tokens"],
    batch["statement"],
    config.data.statements,
    config.model.report.max_length,
  )
  if model.use_mlm:
    words = masking.sample_token_mask(
      token_key,
      tokens,
      config.mask.token_ratio,
      model.vocab_size,
      cgdmer.NUM_SPECIAL,
      cgdmer.MASK_ID,
    )
  else:
    words = masking.unmasked_tokens(tokens)
  variables = {"params": params}
  out = model.apply(variables, patches, lead_valid, mask, words)
  if config.align_view == "full" and model.use_report:
    full = masking.full_view(lead_valid, model.num_patches)
    _, ecg = model.apply(variables, patches, full, method="encode_ecg")
    _, report = model.apply(variables, tokens, method="encode_report")
    out = out.replace(ecg=ecg, report=report)
  return out, words, patches, mask.hidden


def loss_terms(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  params,
  batch: Batch,
  key: Key[Array, ""],
) -> dict[str, Array]:
  """The terms of the objective, unweighted, and "loss", their weighted sum."""
  out, words, patches, hidden = forward(model, config, params, batch, key)
  weights = config.loss
  terms = {}
  if model.reconstruct:
    target, _, _ = preprocessing.normalise_patches(patches)
    terms["ecg"] = losses.reconstruction(out.samples, target, hidden)
  if model.use_mlm:
    terms["mlm"] = losses.masked_language_model(
      out.word_logits, words.target, words.weight
    )
  if weights.align:
    positive = losses.positive_pairs(words.original)
    pair = (out.ecg.shared, out.report.shared, positive, out.log_scale)
    if weights.alignment == "sigmoid":
      terms["align"] = losses.sigmoid_alignment(*pair, out.bias)
    else:
      terms["align"] = losses.infonce_alignment(*pair)
  if weights.disentangle:
    between = losses.cross_correlation
    total = between(out.ecg.shared, out.ecg.specific)
    if model.use_report:
      total += between(out.report.shared, out.report.specific)
      total += between(out.ecg.specific, out.report.specific)
    terms["disentangle"] = total
  terms["loss"] = sum(weights[name] * value for name, value in terms.items())
  return terms


def step_key(seed: int, step: Array) -> Key[Array, ""]:
  """Key of everything random in one step."""
  return jax.random.fold_in(jax.random.key(seed), step)


def make_train_step(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  optimizer: optax.GradientTransformation,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
  """Returns `train_step(state, batch) -> (state, metrics)`, to be jitted.

  Metrics are those of the parameters before the update.
  """

  def train_step(state: TrainState, batch: Batch):
    def loss_fn(params):
      key = step_key(config.seed, state.step)
      terms = loss_terms(model, config, params, batch, key)
      return terms["loss"], terms

    gradient, terms = jax.grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    metrics = dict(terms, gradient_norm=optax.tree.norm(gradient))
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), metrics

  return train_step


def example_batch(num_samples: int, batch_size: int = 1) -> Batch:
  """Zeros of the shapes that a batch has; for tracing."""
  return {
    "ecg": jnp.zeros((batch_size, 12, num_samples), jnp.int16),
    "lead_valid": jnp.ones((batch_size, 12), bool),
    "tokens": jnp.ones((batch_size, 8), jnp.int32),
    "statement": jnp.zeros((batch_size, 8), jnp.int32),
  }


def init_params(model: cgdmer.CGDMER, config: ConfigDict, num_samples: int):
  """Fresh parameters; a pure function of `config.seed`."""
  batch = example_batch(num_samples)
  lead_valid = batch["lead_valid"]
  x = batch["ecg"].astype(jnp.float32)
  patches = preprocessing.patchify(x, config.model.patch_length)
  mask = masking.full_view(lead_valid, model.num_patches)
  words = masking.unmasked_tokens(batch["tokens"])
  key = jax.random.key(config.seed)
  return model.init(key, patches, lead_valid, mask, words)["params"]


def create_state(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  optimizer: optax.GradientTransformation,
  num_samples: int,
  mesh: jax.sharding.Mesh,
) -> tuple[TrainState, TrainState]:
  """Fresh state, born sharded, and its abstract twin with shardings.

  No device ever holds an unsharded copy of a sharded parameter.
  """

  def init():
    params = init_params(model, config, num_samples)
    return TrainState(jnp.int32(0), params, optimizer.init(params))

  shapes = jax.eval_shape(init)
  shardings = sharding.state_shardings(shapes, mesh)
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    shardings,
  )
  # It runs once: compiling it well would take longer than running it.
  options = {"xla_backend_optimization_level": 0}
  init = jax.jit(init, out_shardings=shardings, compiler_options=options)
  return init(), abstract
