"""Settings that are refused before anything is made."""

import re

import pytest

from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checks
from tests import small


def check(field, value):
  config = small.config()
  with config.unlocked():
    config.update_from_flattened_dict({field: value})
  checks.check(config, small.NUM_SAMPLES)


@pytest.mark.parametrize("value", [-0.1, 1.0, 2.0, float("nan")])
def test_warm_up_leaves_steps_for_the_decay(value):
  message = f"optim.warmup_ratio={value}; expected a share of the steps"
  with pytest.raises(UserError, match=re.escape(message)) as e:
    check("optim.warmup_ratio", value)
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("value", [0.0, 0.999])
def test_every_other_warm_up_is_allowed(value):
  check("optim.warmup_ratio", value)


@pytest.mark.parametrize("name", ["lead_ratio", "time_ratio", "token_ratio"])
@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_ratios_of_masks_are_shares(name, value):
  message = f"mask.{name}={value}; expected a share from 0 to 1"
  with pytest.raises(UserError, match=re.escape(message)):
    check(f"mask.{name}", value)


@pytest.mark.parametrize(
  ("field", "value"),
  [
    ("gain", -0.1),
    ("noise", float("nan")),
    ("rotation", -1.0),
    ("lowpass", (40.0, 20.0)),
    ("lowpass", (0.0, 20.0)),
    ("lowpass", (20.0, 0.0)),
  ],
)
def test_ranges_of_augmentation(field, value):
  message = f"augment.{field}={value}; expected "
  with pytest.raises(UserError, match=re.escape(message)):
    check(f"augment.{field}", value)


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
