"""Fine-tuning: the whole ECG encoder and a linear head, on labels.

Binary cross-entropy of every label, AdamW with warm-up and cosine decay. After
each epoch the loss on validation is measured; the parameters of the best epoch
are kept, and training stops when it has not improved for a few. Test is looked
at once. The random encoder under the same recipe is training from scratch.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax import trained_model as experiment_lib
from cgdmer_jax.data import pipeline, preprocessing
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.probes import logistic
from cgdmer_jax.models import cgdmer, masking

_ENCODER = ("ecg_encoder", "ecg_projection", "shared_encoder")
_ENCODER += ("ecg_specific_encoder",)


class Rows:
  """Some records of a source."""

  def __init__(self, source: EcgSource, rows: np.ndarray):
    """The records `rows` of `source`, in that order."""
    self._source, self._rows = source, rows

  def __len__(self) -> int:
    return len(self._rows)

  def signal(self, index: int):
    """See `EcgSource.signal`."""
    return self._source.signal(int(self._rows[index]))


def finetune(
  experiment: experiment_lib.Experiment,
  sources: Mapping[str, pipeline.SignalSource],
  labels: Mapping[str, np.ndarray],
  config: ConfigDict,
  mesh: jax.sharding.Mesh,
  *,
  eval_batch_size: int,
  seed: int = 0,
) -> tuple[np.ndarray, dict]:
  """Trains on "train", chooses the epoch on "validation", scores "test".

  Args:
    experiment: where it starts; its parameters stay as they are.
    sources: "train", "validation", "test" -> records.
    labels: "train", "validation" -> (N, L) 0 or 1.
    config: `epochs` at most, `patience` in epochs, `batch_size`, `lr`,
      `weight_decay`.
    mesh: devices.
    eval_batch_size: of validation and test.
    seed: of the order of the records.

  Returns:
    Test scores (N, L) float32, and details: loss on validation by epoch.
  """
  model, settings = experiment.model, experiment.config
  num_labels = labels["train"].shape[1]
  devices = mesh.shape["data"] * mesh.shape["fsdp"]
  batch_size = min(config.batch_size, len(sources["train"]))
  batch_size = batch_size // devices * devices
  if not batch_size:
    raise UserError(
      f"{len(sources['train'])} training records cannot be divided among"
      f" {devices} devices"
    )
  per_epoch = max(1, len(sources["train"]) // batch_size)
  total = config.epochs * per_epoch
  params = {
    k: jax.tree.map(jnp.array, v)  # a copy: steps give their input away
    for k, v in experiment.params.items()
    if k in _ENCODER
  }
  others = {k: v for k, v in experiment.params.items() if k not in _ENCODER}
  width = settings.model.disentangle.width * (1 + model.use_specific)
  rate = np.clip(labels["train"].mean(axis=0), 1e-3, 1 - 1e-3)
  params["head"] = {
    "kernel": jnp.zeros((width, num_labels)),
    "bias": jnp.asarray(np.log(rate / (1 - rate)), jnp.float32),
  }
  optimizer = optax.adamw(
    optax.warmup_cosine_decay_schedule(
      0.0, config.lr, max(1, total // 10), max(2, total)
    ),
    weight_decay=config.weight_decay,
  )

  def logits(params, others, batch):
    lead_valid = batch["lead_valid"]
    with sharding.use(mesh):
      x = preprocessing.preprocess(
        batch["ecg"], lead_valid, settings.preprocess
      )
    patches = preprocessing.patchify(x, settings.model.patch_length)
    mask = masking.full_view(lead_valid, model.num_patches)
    encoder = {k: v for k, v in params.items() if k != "head"}
    variables = {"params": others | encoder}
    _, z = model.apply(variables, patches, mask, method="encode_ecg")
    z = jnp.concatenate(jax.tree.leaves(z), axis=-1).astype(jnp.float32)
    return z @ params["head"]["kernel"] + params["head"]["bias"][None]

  @jax.jit
  def score(params, others, batch):
    return cgdmer.Embedding(logits(params, others, batch), None)

  def step(params, state, others, batch):
    def loss(params):
      x = logits(params, others, batch)
      return optax.sigmoid_binary_cross_entropy(x, batch["labels"]).mean()

    value, gradient = jax.value_and_grad(loss)(params)
    updates, state = optimizer.update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value

  step = jax.jit(step, donate_argnums=(0, 1))

  def predict(params, split):
    def compute(batch):
      return score(params, others, batch)

    found = features.extract(compute, sources[split], eval_batch_size, mesh)
    return found.shared

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
  state = optimizer.init(params)
  best, best_loss, losses = params, np.inf, []
  try:
    for epoch in range(config.epochs):
      for _ in range(per_epoch):
        batch = sharding.put_batch(next(batches), mesh)
        params, state, value = step(params, state, others, batch)
      validation = predict(params, "validation")
      if not np.isfinite(validation).all():
        break  # there is no way back from there
      loss = float(logistic.log_loss(validation, labels["validation"]).mean())
      losses.append(round(loss, 5))
      logging.info(
        "fine-tuning %s, epoch %d: loss %.4f, validation %.4f",
        experiment.name,
        epoch + 1,
        float(value),
        loss,
      )
      if loss < best_loss:
        best, best_loss = jax.tree.map(jnp.copy, params), loss
      elif len(losses) - int(np.argmin(losses)) > config.patience:
        break
  finally:
    batches.close()
  if not np.isfinite(best_loss):
    raise UserError(
      f"fine-tuning with finetune.lr={config.lr} diverged; lower it"
    )
  return predict(best, "test"), {"validation_loss_by_epoch": losses}
