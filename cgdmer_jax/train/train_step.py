"""The training step: a pure function of state and batch, without a mesh.

Every random draw is `fold_in(key(seed), step)` with a stream of its own, so
nothing random is part of the state, and step k is the same on any mesh.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.data import preprocessing
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer, layers, masking
from cgdmer_jax.train import objective, optim


@flax.struct.dataclass
class TrainState:
  """What is trained and checkpointed; `step` counts the updates made."""

  step: Array
  params: dict
  opt_state: optax.OptState


# Of a state and a batch, makes the next state, and metrics.
StepFn = Callable[[TrainState, objective.Batch], tuple[TrainState, dict]]


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
  loss, compute = config.loss, config.compute
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
    ("compute.dtype", compute.dtype, ("float32", "bfloat16")),
    ("compute.attention", compute.attention, layers.ATTENTION),
    ("compute.remat", compute.remat, layers.REMAT),
    (
      "preprocess.normalise",
      config.preprocess.normalise,
      preprocessing.NORMALISATIONS,
    ),
  ):
    if value not in choices:
      raise UserError(f"{name}={value!r}; expected one of {', '.join(choices)}")
  if compute.attention == "cudnn" and (
    jax.default_backend() != "gpu" or compute.dtype == "float32"
  ):
    raise UserError(
      "compute.attention='cudnn' needs an NVIDIA GPU and compute.dtype="
      "'bfloat16'; set it to 'xla'"
    )
  if not config.data.statements or min(config.data.statements) < 0:
    raise UserError(
      f"data.statements={tuple(config.data.statements)}; expected numbers of "
      "statements to draw, 0 for the whole report"
    )
  if reads_reports(config):
    _check_report_tower(config)


def reads_reports(config: ConfigDict) -> bool:
  """Whether the recipe has a report tower."""
  return bool(config.loss.align or config.loss.mlm)


def _check_report_tower(config: ConfigDict) -> None:
  """Raises UserError where `config.report` does not fit the rest."""
  report, model = config.report, config.model.report
  if not 3 <= report.max_length <= model.num_positions:
    raise UserError(
      f"report.max_length={report.max_length}; expected 3 to "
      f"{model.num_positions}, the positions of the report encoder "
      "(model.report.num_positions)"
    )
  trained = 0  # blocks
  if match := re.fullmatch(r"last_(\d+)", report.train):
    trained = int(match[1])
  if report.train not in ("frozen", "full") and not 0 < trained <= model.depth:
    raise UserError(
      f"report.train={report.train!r}; expected frozen, full, or last_1 to "
      f"last_{model.depth}, the number of blocks to train"
    )
  if report.train != "full" and config.loss.mlm:
    raise UserError(
      f"loss.mlm={config.loss.mlm} masks words, which the frozen layers of "
      f"report.train={report.train!r} cannot learn to read; set loss.mlm=0, or "
      "report.train='full'"
    )
  if report.lr < 0 or not 0 < report.layer_decay <= 1:
    raise UserError(
      f"report.lr={report.lr}, report.layer_decay={report.layer_decay}; "
      "expected at least 0, and above 0 up to 1"
    )
  if report.layer_decay < 1 and not report.lr:
    raise UserError(
      f"report.layer_decay={report.layer_decay} applies to report.lr, which is "
      "0; set it above 0"
    )


def num_frozen(config: ConfigDict) -> int | None:
  """Blocks of the report encoder that do not train; None: all of it trains."""
  if config.report.train == "full":
    return None
  trained = config.report.train.removeprefix("last_")
  return config.model.report.depth - (
    0 if trained == "frozen" else int(trained)
  )


def build_model(
  config: ConfigDict, num_samples: int, vocabulary: Vocabulary
) -> cgdmer.CGDMER:
  """The model of a recipe; parts that no loss term needs are left out.

  Args:
    config: the whole configuration.
    num_samples: T, samples a lead.
    vocabulary: of the report tokenizer.

  Raises:
    UserError: see `check_config`.
  """
  check_config(config, num_samples)
  loss = config.loss
  return cgdmer.CGDMER(
    config=config.model,
    num_patches=num_samples // config.model.patch_length,
    vocabulary=vocabulary,
    use_report=reads_reports(config),
    use_specific=config.model.specific,
    reconstruct=bool(loss.ecg),
    use_mlm=bool(loss.mlm),
    num_frozen=num_frozen(config),
    compute=layers.Compute(**config.compute),
  )


def step_key(seed: int, step: Array) -> Key[Array, ""]:
  """Key of everything random in one step."""
  return jax.random.fold_in(jax.random.key(seed), step)


def make_train_step(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  optimizer: optax.GradientTransformation,
  mesh: jax.sharding.Mesh,
) -> StepFn:
  """Returns `train_step(state, batch) -> (state, metrics)`, to be jitted.

  Metrics are those of the parameters before the update.
  """

  def train_step(state: TrainState, batch: objective.Batch):
    trained, frozen = optim.split(state.params, model.num_frozen)

    def loss_fn(trained):
      key = step_key(config.seed, state.step)
      params = optim.merge(trained, frozen)
      terms = objective.loss_terms(model, config, params, batch, key, mesh)
      return terms["loss"], terms

    gradient, terms = jax.grad(loss_fn, has_aux=True)(trained)
    updates, opt_state = optimizer.update(gradient, state.opt_state, trained)
    metrics = dict(terms, gradient_norm=optax.tree.norm(gradient))
    params = optim.merge(optax.apply_updates(trained, updates), frozen)
    return TrainState(state.step + 1, params, opt_state), metrics

  return train_step


def example_batch(num_samples: int, batch_size: int = 1) -> objective.Batch:
  """Zeros of the shapes that a batch has; for tracing."""
  return {
    "ecg": jnp.zeros((batch_size, NUM_LEADS, num_samples), jnp.int16),
    "lead_valid": jnp.ones((batch_size, NUM_LEADS), bool),
    "tokens": jnp.ones((batch_size, 3), jnp.int32),
    "statement": jnp.zeros((batch_size, 3), jnp.int32),
    "report": jnp.arange(batch_size),
    "has_text": jnp.ones((batch_size,), bool),
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


def abstract_state(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  optimizer: optax.GradientTransformation,
  num_samples: int,
  mesh: jax.sharding.Mesh,
) -> TrainState:
  """Shapes and shardings of the state that `create_state` makes."""
  shapes = jax.eval_shape(_initialiser(model, config, optimizer, num_samples))
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    shapes,
    sharding.state_shardings(shapes, mesh),
  )


def create_state(
  model: cgdmer.CGDMER,
  config: ConfigDict,
  optimizer: optax.GradientTransformation,
  num_samples: int,
  mesh: jax.sharding.Mesh,
) -> TrainState:
  """Fresh state, born sharded.

  No device ever holds an unsharded copy of a sharded parameter.
  """
  arguments = model, config, optimizer, num_samples
  abstract = abstract_state(*arguments, mesh)
  # It runs once: compiling it well would take longer than running it.
  init = jax.jit(
    _initialiser(*arguments),
    out_shardings=jax.tree.map(lambda x: x.sharding, abstract),
    compiler_options={"xla_backend_optimization_level": 0},
  )
  return init()


def _initialiser(model, config, optimizer, num_samples):
  def init() -> TrainState:
    params = init_params(model, config, num_samples)
    trained, _ = optim.split(params, model.num_frozen)
    return TrainState(jnp.int32(0), params, optimizer.init(trained))

  return init
