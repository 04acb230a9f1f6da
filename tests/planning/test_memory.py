"""What is expected of memory, against what the compiler uses."""

import jax
import pytest

from cgdmer_jax import plan
from cgdmer_jax.config import fields
from cgdmer_jax.errors import UserError
from cgdmer_jax.planning import memory, remedy, target
from cgdmer_jax.train import setup
from configs import plan as plan_config
from tests import small


def planned(*options, **compute):
  config = plan_config.get_config(",".join(["demo", *options])).unlock()
  for part in ("ecg", "report", "disentangle", "ecg_decoder"):
    config.model[part].update(fields.transformer(16, 1, 2, 24))
  config.plan.update(num_samples=small.NUM_SAMPLES)
  config.model.patch_length = 25
  config.train.batch_size = 64
  config.compute.update(compute)
  config.mesh = (-1, 1, 1)
  return config.lock()


def assembled(config, count=1):
  training = setup.assemble(config, small.VOCABULARY, jax.devices()[:count])
  return training, plan.abstract_batch(training, config)


def test_expected_activations_are_in_proportion_to_the_records():
  training, batch = assembled(planned())
  one = memory.expected(training, batch, False)
  parts = memory.expected(training, batch, False, microbatches=4)
  assert parts["activations"] == pytest.approx(one["activations"] / 4, rel=0.1)
  assert parts["parameters"] == one["parameters"]
  assert one["optimizer"] > 1.9 * one["parameters"] * 0.5
  tiled = memory.expected(training, batch, True)
  assert tiled["activations"] > one["activations"]  # narrow: much padding


def test_tiles_round_up():
  def laid_out(shape, dtype):
    return memory._bytes(jax.ShapeDtypeStruct(shape, dtype), True)

  assert laid_out((8, 128), "float32") == 8 * 128 * 4
  assert laid_out((3, 100), "float32") == 8 * 128 * 4
  assert laid_out((64, 12, 64), "bfloat16") == 12 * 64 * 128 * 2
  assert laid_out((128, 12, 64), "bfloat16") == 128 * 12 * 64 * 2


def test_what_does_not_fit_is_given_a_remedy():
  config = planned("topology=v5e-1")
  training, batch = assembled(config)
  place = target.find("v5e-1", 1, compiles=False)
  hbm = place.slice.chip.hbm
  needs = dict(parameters=1, optimizer=2, gradients=1, batch=0)

  def found(activations):
    needs["activations"] = int(activations * hbm)
    return remedy.find(training, batch, config, place, needs)

  assert found(2.5) == "--config.train.microbatches=4"
  needs["optimizer"] = int(0.7 * hbm)
  config = planned("topology=v5e-4")
  training, batch = assembled(config, 4)
  place = target.find("v5e-4", 1, compiles=False)
  assert found(0.5) == "--config.mesh='(-1,4,1)'"


def test_a_mesh_that_does_not_divide_the_slice():
  config = planned().unlock()
  config.mesh = (-1, 3, 1)
  with pytest.raises(UserError, match=r"mesh=\(-1, 3, 1\).*4 devices"):
    assembled(config, 4)


def test_no_such_slice():
  with pytest.raises(UserError, match="plan.topology: unknown slice 'v5e-3'"):
    target.find("v5e-3", 1, compiles=True)
  with pytest.raises(UserError, match="plan.num_slices=0"):
    target.find("v5e-8", 0, compiles=True)


def test_the_compiler_is_missing_or_another(monkeypatch):
  monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(UserError, match=r"missing; install it: .*\[plan\]"):
    target.find("v5e-8", 1, compiles=True)
  with pytest.raises(UserError, match=r"compiler of GPUs.*\[gpu\]"):
    target.find("h100-8", 1, compiles=True)
  monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: name)
  monkeypatch.setattr(target.metadata, "version", lambda name: "0.0.1")
  with pytest.raises(UserError, match="libtpu 0.0.1 is not the one that jax"):
    target.find("v5e-8", 1, compiles=True)
