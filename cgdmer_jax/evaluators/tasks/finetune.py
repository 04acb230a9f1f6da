"""Fine-tuning: the whole ECG encoder and a linear head, on labels.

Binary cross-entropy of every label, AdamW with warm-up and cosine decay. After
each epoch the loss on validation is measured; the parameters of the best epoch
are kept, and training stops when it has not improved for a few. Test is looked
at once. The classifier is kept, see `classifier_files.py`. The random encoder
under the same recipe is training from scratch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.data import pipeline, views
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import classifier_files
from cgdmer_jax.evaluators.data_set import SPLITS
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.probes import linear, logistic
from cgdmer_jax.evaluators.scores import calibration, scoring
from cgdmer_jax.evaluators.scores.findings import Findings
from cgdmer_jax.evaluators.task import Inputs, Options, Task
from cgdmer_jax.models import cgdmer
from cgdmer_jax.models.forward import Forward
from cgdmer_jax.trained_model import TrainedModel

_ENCODER = ("ecg_encoder", "ecg_projection", "shared_encoder")
_ENCODER += ("ecg_specific_encoder",)


@dataclasses.dataclass(frozen=True)
class _Classifier:
  """The ECG encoder with a linear head, and how it is trained.

  Attributes:
    forward: the model with its preprocessing.
    others: parameters that stay as they are.
    optimizer: updates the encoder and the head.
  """

  forward: Forward
  others: dict
  optimizer: optax.GradientTransformation

  def logits(
    self, params: dict, others: dict, ecg: jax.Array, lead_valid: jax.Array
  ) -> jax.Array:
    """Scores of every label, float32 (B, L)."""
    encoder = {k: v for k, v in params.items() if k != "head"}
    z = self.forward.encode_ecg(others | encoder, ecg, lead_valid)
    z = jnp.concatenate(jax.tree.leaves(z), axis=-1).astype(jnp.float32)
    return z @ params["head"]["kernel"] + params["head"]["bias"][None]

  @functools.cached_property
  def step(self) -> Callable:
    """Compiled: the next parameters and state, and the loss of the batch."""

    def step(
      params: dict,
      state: optax.OptState,
      others: dict,
      ecg: jax.Array,
      lead_valid: jax.Array,
      labels: jax.Array,
    ) -> tuple[dict, optax.OptState, jax.Array]:
      def loss(params: dict) -> jax.Array:
        x = self.logits(params, others, ecg, lead_valid)
        return optax.sigmoid_binary_cross_entropy(x, labels).mean()

      value, gradient = jax.value_and_grad(loss)(params)
      updates, state = self.optimizer.update(gradient, state, params)
      return optax.apply_updates(params, updates), state, value

    return jax.jit(step, donate_argnums=(0, 1))

  @functools.cached_property
  def _score(self) -> Callable:
    """Compiled: scores of a batch, in place of an embedding."""

    def score(
      params: dict, others: dict, ecg: jax.Array, lead_valid: jax.Array
    ) -> cgdmer.Embedding:
      return cgdmer.Embedding(
        self.logits(params, others, ecg, lead_valid), None
      )

    return jax.jit(score)

  def predict(
    self, params: dict, source: pipeline.SignalSource, batch_size: int
  ) -> np.ndarray:
    """Scores of all records of a source, float32 (N, L)."""

    def embed(ecg: jax.Array, lead_valid: jax.Array) -> cgdmer.Embedding:
      return self._score(params, self.others, ecg, lead_valid)

    mesh = self.forward.mesh
    return features.extract(embed, source, batch_size, mesh).shared


@dataclasses.dataclass(frozen=True)
class Tuned:
  """What fine-tuning gives.

  Attributes:
    params: of the ECG encoder and the head, on the host.
    scores: of the test records, float32 (N, L).
    temperature: by which logits are divided, fitted on validation.
    losses: on validation, by epoch.
  """

  params: dict
  scores: np.ndarray
  temperature: float
  losses: list[float]


def finetune(
  trained: TrainedModel,
  sources: Mapping[str, pipeline.SignalSource],
  labels: Mapping[str, np.ndarray],
  config: ConfigDict,
  *,
  eval_batch_size: int,
  seed: int = 0,
) -> Tuned:
  """Trains on "train", chooses the epoch on "validation", scores "test".

  Args:
    trained: where it starts; its parameters stay as they are.
    sources: "train", "validation", "test" -> records.
    labels: "train", "validation" -> (N, L) 0 or 1.
    config: `epochs` at most, `patience` in epochs, `batch_size`, `lr`,
      `weight_decay`.
    eval_batch_size: records of validation and test on the devices at once.
    seed: decides the order of the records.

  Raises:
    UserError: too few records for the devices, or the training diverged.
  """
  batch_size = _batch_size(len(sources["train"]), config.batch_size, trained)
  per_epoch = max(1, len(sources["train"]) // batch_size)
  params, others = _initial(trained, labels["train"])
  classifier = _Classifier(
    trained.forward, others, _optimizer(config, config.epochs * per_epoch)
  )
  targets = labels["train"].astype(np.float32)
  batches = pipeline.train_batches(
    sources["train"],
    np.arange(len(targets), dtype=np.int32),
    lambda rows, _: {"labels": targets[rows]},
    batch_size=batch_size,
    seed=seed,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )
  with contextlib.closing(batches):
    epochs = _epochs(classifier, params, batches, per_epoch, config.epochs)
    best, logits, losses = _choose(
      epochs,
      lambda params: classifier.predict(
        params, sources["validation"], eval_batch_size
      ),
      labels["validation"],
      config.patience,
      trained.name,
    )
  if best is None:
    raise UserError(
      f"fine-tuning with finetune.lr={config.lr} diverged; lower it"
    )
  return Tuned(
    jax.device_get(best),
    classifier.predict(best, sources["test"], eval_batch_size),
    calibration.fit_temperature(logits, labels["validation"]),
    losses,
  )


def _optimizer(config: ConfigDict, steps: int) -> optax.GradientTransformation:
  """AdamW with warm-up over a tenth of the steps, then cosine decay."""
  schedule = optax.warmup_cosine_decay_schedule(
    0.0, config.lr, max(1, steps // 10), max(2, steps)
  )
  return optax.adamw(schedule, weight_decay=config.weight_decay)


def _batch_size(records: int, wanted: int, trained: TrainedModel) -> int:
  """The batch size, a multiple of the devices and no larger than the data."""
  devices = trained.mesh.shape["data"] * trained.mesh.shape["fsdp"]
  batch_size = min(wanted, records) // devices * devices
  if not batch_size:
    raise UserError(
      f"{records} training records cannot be divided among {devices} devices"
    )
  return batch_size


def _initial(trained: TrainedModel, labels: np.ndarray) -> tuple[dict, dict]:
  """Parameters that train, with a head that knows how frequent labels are."""
  params = {
    k: jax.tree.map(jnp.array, v)  # a copy: steps give their input away
    for k, v in trained.params.items()
    if k in _ENCODER
  }
  others = {k: v for k, v in trained.params.items() if k not in _ENCODER}
  parts = 1 + trained.model.use_specific
  width = trained.model.config.disentangle.width * parts
  rate = np.clip(labels.mean(axis=0), 1e-3, 1 - 1e-3)
  params["head"] = {
    "kernel": jnp.zeros((width, labels.shape[1])),
    "bias": jnp.asarray(np.log(rate / (1 - rate)), jnp.float32),
  }
  return params, others


def _epochs(
  classifier: _Classifier,
  params: dict,
  batches: Iterator[pipeline.HostBatch],
  per_epoch: int,
  count: int,
) -> Iterator[tuple[dict, float]]:
  """Parameters after each epoch, to be copied, and its last loss."""
  state = classifier.optimizer.init(params)
  for _ in range(count):
    for _ in range(per_epoch):
      batch = sharding.put_batch(next(batches), classifier.forward.mesh)
      arrays = batch["ecg"], batch["lead_valid"], batch["labels"]
      params, state, value = classifier.step(
        params, state, classifier.others, *arrays
      )
    yield params, float(value)


def _choose(
  epochs: Iterator[tuple[dict, float]],
  predict: Callable[[dict], np.ndarray],
  labels: np.ndarray,
  patience: int,
  name: str,
) -> tuple[dict | None, np.ndarray, list[float]]:
  """The parameters with the least loss on validation; None if all diverged.

  Also their scores there, and the losses of all epochs.
  """
  best, best_loss, losses = None, np.inf, []
  best_scores = np.zeros(labels.shape, np.float32)
  for epoch, (params, value) in enumerate(epochs):
    scores = predict(params)
    if not np.isfinite(scores).all():
      break  # there is no way back from there
    loss = float(logistic.log_loss(scores, labels).mean())
    losses.append(round(loss, 5))
    logging.info(
      "fine-tuning %s, epoch %d: loss %.4f, validation %.4f",
      name,
      epoch + 1,
      value,
      loss,
    )
    if loss < best_loss:
      best, best_loss = jax.tree.map(jnp.copy, params), loss
      best_scores = scores
    elif len(losses) - int(np.argmin(losses)) > patience:
      break
  return best, best_scores, losses


def run(inputs: Inputs, options: Options) -> Findings:
  """Fine-tunes on each fraction of the training labels.

  Raises:
    UserError: a split has no record of the label set, or see `finetune`.
  """
  trained, data = inputs.trained_model(), inputs.data
  labels = data.labels(inputs.label_set)
  index = data.index("test")
  test, belongs = scoring.make_test_set(
    index.subject_ids, labels["test"], inputs.label_names, index.ids
  )
  rows = {
    split: np.flatnonzero(labels[split].any(axis=1))
    for split in ("train", "validation")
  } | {"test": np.flatnonzero(belongs)}
  for split, numbers in rows.items():
    if not len(numbers):
      raise UserError(
        f"no {split} record carries a label of {inputs.label_set!r}"
      )
  outcomes, details, files = [], {}, {}
  for fraction in options.finetune.fractions:
    # The records of the first probe of the same fraction.
    subset = linear.subset(len(rows["train"]), fraction, seed=0)
    chosen = rows | {"train": np.sort(rows["train"][subset])}
    setting = f"finetune_{100 * fraction:g}"
    tuned = finetune(
      trained,
      {
        split: views.Rows(data.source(split), chosen[split]) for split in SPLITS
      },
      {split: labels[split][chosen[split]] for split in SPLITS},
      options.finetune,
      eval_batch_size=inputs.store.encoder.batch_size,
    )
    details[setting] = {"validation_loss_by_epoch": tuned.losses}
    made = classifier_files.make(
      tuned.params,
      inputs.label_names,
      trained.config,
      label_set=inputs.label_set,
      dataset=data.name,
      fraction=fraction,
      temperature=tuned.temperature,
    )
    files |= {f"{setting}/{name}": content for name, content in made.items()}
    outcome = scoring.evaluate(
      test,
      setting,
      tuned.scores,
      fraction=fraction,
      num_train=len(subset),
      min_positives=options.min_positives,
      num_bootstrap=options.num_bootstrap,
    )
    outcomes.append(outcome)
  return Findings(test, tuple(outcomes), details=details, files=files)


def heading(setting: str) -> str:
  """`finetune_10` as "fine-tuned 10 %"."""
  return f"{setting.replace('finetune_', 'fine-tuned ')} %"


TASK = Task(
  name="finetune",
  run=run,
  order=30,
  labels="first",
  options=("finetune", "min_positives"),
  heading=heading,
  label_figure=3,
)
