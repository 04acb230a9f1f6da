"""Settings that are refused before anything is made."""

import re

import pytest

from cgdmer_jax.config import fields, ranges
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checks
from tests import small


def check(field, value):
  config = small.config()
  with config.unlocked():
    config.update_from_flattened_dict({field: value})
  checks.check(config, small.NUM_SAMPLES)


@pytest.mark.parametrize(
  ("field", "value", "expected"),
  [
    *(
      ("optim.warmup_ratio", value, "at least 0 and below 1")
      for value in (-0.1, 1.0, 2.0, float("nan"))
    ),
    *(
      (f"mask.{name}_ratio", value, "at least 0 and at most 1")
      for name in ("lead", "time", "token")
      for value in (-0.01, 1.01)
    ),
    ("optim.clip_norm", 0.0, "above 0"),
    ("report.layer_decay", 1.5, "above 0 and at most 1"),
    ("evaluation.finetune.fractions", (0.1, 1.1), "above 0 and at most 1"),
    ("data.statements", (-1,), "at least 0"),
    ("train.steps", -1, "at least 0"),
  ],
)
def test_numbers_out_of_range_are_refused(field, value, expected):
  with pytest.raises(UserError) as e:
    check(field, value)
  assert str(e.value) == f"{field}={value}; expected {expected}"


@pytest.mark.parametrize("value", [0.0, 0.999])
def test_a_warm_up_leaves_steps_for_the_decay(value):
  config = small.config()
  with config.unlocked():
    config.optim.warmup_ratio = value
    config.train.steps = 7
  if value:
    with pytest.raises(UserError, match="=0.999 of train.steps=7 are all"):
      checks.check(config, small.NUM_SAMPLES)
  else:
    checks.check(config, small.NUM_SAMPLES)


def test_every_number_has_a_range():
  def numbers(tree, name=""):
    for key, value in tree.items():
      if isinstance(value, dict):
        yield from numbers(value, f"{name}{key}.")
      elif isinstance(value, tuple):
        if value and isinstance(value[0], int | float):
          yield name + key
      elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name + key

  declared = fields.pretraining().to_dict()
  declared["model"]["ecg"]["stem"] = (1,)  # none by default
  assert set(numbers(declared)) == set(ranges.RANGES)


@pytest.mark.parametrize("corners", [(40.0, 20.0), (0.0, 20.0), (20.0, 0.0)])
def test_corners_that_are_refused(corners):
  message = f"augment.lowpass={corners}; expected two corners"
  with pytest.raises(UserError, match=re.escape(message)):
    check("augment.lowpass", corners)


@pytest.mark.parametrize("corners", [(20.0, 20.0), (20, 150), (0.0, 0.0)])
def test_corners_that_are_allowed(corners):
  check("augment.lowpass", corners)


@pytest.mark.parametrize(
  ("field", "choices"),
  [
    ("disentangle_form", "cross_correlation, hsic, club"),
    ("positives", "report, statement"),
  ],
)
def test_forms_of_the_loss(field, choices):
  message = f"loss.{field}='other'; expected one of {choices}"
  with pytest.raises(UserError, match=message):
    check(f"loss.{field}", "other")
