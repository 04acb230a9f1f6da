"""Slices by the makers' names, and rows that fill them."""

import pytest

from cgdmer_jax.config import presets, slices
from configs import plan, pretrain


@pytest.mark.parametrize(
  ("name", "shape"),
  [
    ("v5e-1", (1, 1)),
    ("v5litepod-16", (4, 4)),
    ("v6e-256", (16, 16)),
    ("v5p-64", (2, 4, 4)),  # counts cores
    ("v4-512", (4, 8, 8)),
    ("h100-8", (8,)),
  ],
)
def test_names_of_makers(name, shape):
  found = slices.parse(name)
  assert found.shape == shape
  assert found.name in slices.names(found.chip)


@pytest.mark.parametrize(
  "name", ["v5e-3", "v5e", "v5p-7", "tpu-8", "v5e-x", ""]
)
def test_unknown_slices_are_named_with_those_that_exist(name):
  with pytest.raises(
    ValueError, match="unknown slice '.*'; expected .*v5e-|v5p"
  ):
    slices.parse(name)


def test_every_chip_has_a_number():
  for counts in presets.FILL.values():
    assert counts.keys() == slices.CHIPS.keys()


def test_a_row_is_applied_and_as_many_records_are_seen():
  plain, filled = (
    pretrain.get_config(f"base{x}") for x in ("", ",chip=v5p-64")
  )
  records = presets.FILL["base"]["v5p"]
  assert filled.train.batch_size == 32 * records
  assert filled.loss.ring
  seen = [c.train.steps * c.train.batch_size for c in (plain, filled)]
  assert seen[1] == pytest.approx(seen[0], rel=0.001)
  assert plan.get_config("base,topology=v5p-64").train == filled.train
  with pytest.raises(ValueError, match="some presets; preset='demo'"):
    pretrain.get_config("demo,chip=v5e-8")
  with pytest.raises(ValueError, match="unknown slice 'v5e-3'"):
    pretrain.get_config("base,chip=v5e-3")


def test_a_number_of_slices_that_is_none():
  with pytest.raises(ValueError, match="slices='x'; expected a number"):
    plan.get_config("base,topology=v5e-8,slices=x")
