"""Traces of steps; tests/test_buckets.py has one of a training."""

import itertools

import jax
import jax.numpy as jnp
import pytest
from absl import flags
from absl.testing import flagsaver

from cgdmer_jax import command, profiling
from cgdmer_jax.errors import UserError
from tests import traces


@pytest.mark.parametrize(
  "value", ["3", "0:2", "3:0", "a:b", "-1:2", "3:2:1", ""]
)
def test_other_values_are_refused(value, capsys):
  with pytest.raises(SystemExit) as end, flagsaver.flagsaver():
    command.parse_flags(["main", f"--profile={value}"])
  assert end.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert "expected START:STEPS" in line
  assert "20:5; see --help" in line


def test_only_pretraining_has_a_profile():
  profiling.check_task("evaluate")
  with flagsaver.as_parsed(profile="3:2"):
    profiling.check_task("pretrain")
    with pytest.raises(
      UserError, match="^--profile=3:2 is for pretraining, no"
    ):
      profiling.check_task("evaluate")


def test_the_run_must_be_long_enough():
  profiling.check(1)
  with flagsaver.as_parsed(profile="3:2"):
    assert profiling.PROFILE.value == (3, 4)
    profiling.check(4)
    with pytest.raises(
      UserError, match="^--profile=3:2 ends at step 4, the run"
    ):
      profiling.check(3)


def train(workdir, start=0, fails_at=None):
  step = jax.jit(lambda x, y: (x @ x + y, {"loss": x.sum()}))
  state = jnp.eye(8)
  with profiling.Profile(workdir, start) as profile:
    for number in range(start + 1, 7):
      state, values = profile.step(number, step, state, itertools.repeat(1.0))
      assert number != fails_at
  return float(values["loss"])


def test_a_trace_has_the_steps_that_were_asked_for(tmp_path):
  plain = train(tmp_path)
  assert not [*tmp_path.iterdir()]
  with flagsaver.as_parsed(profile="3:2"):
    assert train(tmp_path) == plain
    (file,) = tmp_path.glob("profile/steps-3-4/plugins/profile/*/*.xplane.pb")
    assert traces.steps(file.read_bytes()) == [3, 4]
    with pytest.raises(UserError, match="steps-3-4 exists; remove it"):
      train(tmp_path)
    train(tmp_path / "resumed", start=3)  # logs that it has none
    assert not (tmp_path / "resumed").exists()
  assert flags.FLAGS.profile is None


def test_an_error_leaves_no_trace(tmp_path):
  with flagsaver.as_parsed(profile="3:2"):
    with pytest.raises(AssertionError):
      train(tmp_path, fails_at=3)
    assert not [*tmp_path.glob("profile/*")]
    assert not [*tmp_path.glob("profile/.*")]
  train(tmp_path)  # tracing has ended
