"""Whole records beside masked ones, and what the ECG decoder predicts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import masking, report_masking
from cgdmer_jax.train import checks, train_step
from tests import small


def make(**fields):
  """Objective, its parameters, and a batch with masks."""
  config = small.config()
  with config.unlocked():
    config.update_from_flattened_dict(fields)
  checks.check(config, small.NUM_SAMPLES)
  objective = small.objective(config)
  init = functools.partial(train_step.init_params, objective.forward.model, 0)
  batch = jax.tree.map(jnp.asarray, small.batch())
  mask = masking.sample_patch_mask(
    jax.random.key(0), batch.lead_valid, 8, "random", 0.5, 0.5
  )
  words = report_masking.unmasked_tokens(batch.tokens)
  return objective, jax.jit(init)(), batch, mask, words


def test_some_records_are_seen_whole():
  objective, params, batch, mask, words = make()
  forward = objective.forward
  train = jax.jit(
    forward.train, static_argnames=("align_view", "whole_quarters")
  )
  masked, target, hidden = train(params, batch, mask, words, "masked")
  mixed, some, hidden_some = train(
    params, batch, mask, words, align_view="masked", whole_quarters=1
  )
  whole = jax.jit(forward.encode_ecg)(params, batch.ecg, batch.lead_valid)
  is_whole = np.arange(8) % 4 < 1
  for part in ("shared", "specific"):
    expected = np.where(
      is_whole[:, None], getattr(whole, part), getattr(masked.ecg, part)
    )
    np.testing.assert_allclose(getattr(mixed.ecg, part), expected, atol=2e-5)
  np.testing.assert_allclose(
    mixed.samples, masked.samples[~is_whole], atol=2e-5
  )
  np.testing.assert_array_equal(some, target[~is_whole])
  np.testing.assert_array_equal(hidden_some, hidden[~is_whole])


def test_whole_records_train():
  objective, params, batch, *_ = make(**{"mask.whole_ratio": 0.5})
  terms = jax.jit(objective.terms)(params, batch, jax.random.key(1))
  assert np.isfinite(terms["loss"]) and terms["ecg"] > 0


@pytest.mark.parametrize("kind", preprocessing.TARGETS)
def test_targets_are_undone(kind):
  _, _, batch, mask, _ = make()
  x = np.random.default_rng(0).normal(size=(8, 12, 8, 25)).astype(np.float32)
  shown = batch.lead_valid[..., None] & ~mask.hidden
  target, shift, scale = preprocessing.target(x, shown, kind)
  np.testing.assert_allclose(target * scale + shift, x, atol=1e-5)
  if kind != "patch":  # by hand, of a record
    size = np.sqrt((x[0][np.asarray(shown[0])] ** 2).mean() + 1e-3)
    np.testing.assert_allclose(scale[0].item(), size, rtol=1e-5)
    # What is hidden is not known, nor is its size.
    other = np.where(np.asarray(shown)[..., None], x, 9)
    again = preprocessing.target(other, shown, kind)[2]
    np.testing.assert_array_equal(scale, again)


def test_a_silent_decoder_leaves_arithmetic():
  objective, params, batch, *_ = make(**{"model.ecg_target": "residual"})
  params["ecg_decoder"]["samples"] = jax.tree.map(
    jnp.zeros_like, params["ecg_decoder"]["samples"]
  )
  rng = np.random.default_rng(1)
  eight = rng.normal(scale=300, size=(8, 2, 200)).cumsum(-1) / 8
  i, ii = np.rint(eight[:, 0]), np.rint(eight[:, 1])
  limb = [i, ii, ii - i, -(i + ii) / 2, i - ii / 2, ii - i / 2]
  ecg = np.concatenate([np.stack(limb, 1), batch.ecg[:, 6:]], axis=1)
  hidden = np.zeros((8, 12, 8), bool)
  hidden[:, 2:6] = True
  restore = jax.jit(objective.forward.reconstruct, static_argnums=4)
  out = restore(
    params, ecg.astype(np.int16), batch.lead_valid, hidden, 12 * 8 - 4 * 8
  )
  error = np.asarray(out.restored - out.original)[:, 2:6]
  assert error.var() < 1e-2 * np.asarray(out.original)[:, 2:6].var()


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"mask.whole_ratio": 0.3}, "mask.whole_ratio=0.3; expected quarters"),
    (
      {"mask.whole_ratio": 0.5, "train.batch_size": 6},
      "mask.whole_ratio=0.5 needs train.batch_size=6 to be a multiple of 4",
    ),
    ({"model.ecg_target": "x"}, "model.ecg_target='x'; expected one of patch"),
  ],
)
def test_what_is_refused(fields, message):
  with pytest.raises(UserError) as error:
    make(**fields)
  assert str(error.value).startswith(message)


def test_reports_of_whole_records_are_whole():
  objective, _, batch, *_ = make(**{"mask.whole_ratio": 0.5})
  draw = jax.jit(objective.draw)
  is_whole = np.arange(8) % 4 < 2
  for seed in range(3):
    _, words, _ = draw(batch, jax.random.key(seed))
    changed = np.asarray(words.tokens != words.original).any(axis=1)
    asked = np.asarray(words.weight).any(axis=1)
    assert not changed[is_whole].any() and not asked[is_whole].any()
    assert changed[~is_whole].any() and asked[~is_whole].all()
