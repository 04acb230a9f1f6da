"""Folders with odd names, and checkpoints that only seem to be complete."""

import shutil
import string

import jax
import numpy as np
import pytest
from etils import epath

from cgdmer_jax import paths
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checkpoint, restorable

STATE = {"params": {"a": np.arange(6.0, dtype=np.float32), "z": np.zeros(3)}}
NAMES = (
  *("lr=[1e-3]", "[baseline]", "[", "a]b", "*", "?", "%41", "#1", "~", "a b"),
  *("größe", "心電図", "x" * 200, "$HOME", "'\"", "a&b;c", "-x", " lead"),
)


def abstract():
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, np.float32), STATE
  )


def save(workdir, steps=(1,)):
  state = jax.tree.map(lambda x: jax.numpy.asarray(x, np.float32), STATE)
  with checkpoint.Checkpointer(workdir, keep=3) as checkpointer:
    for step in steps:
      assert checkpointer.save(step, state)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_folder(name, tmp_path):
  workdir = tmp_path / name / "run"
  save(workdir)
  assert checkpoint.steps(workdir) == [1]
  params = checkpoint.load_params(workdir, abstract()["params"])
  np.testing.assert_array_equal(params["a"], STATE["params"]["a"])
  with checkpoint.Checkpointer(workdir, keep=3) as checkpointer:
    step, state = checkpointer.restore_latest(abstract())
  assert step == 1
  jax.tree.map(np.testing.assert_array_equal, state, STATE)


def test_all_ascii_punctuation_in_random_order(tmp_path):
  rng = np.random.default_rng(0)
  allowed = [c for c in string.punctuation if c not in "/\\"]
  for _ in range(3):
    name = "".join(rng.permutation(allowed))
    save(tmp_path / name)
    assert checkpoint.load_params(tmp_path / name, abstract()["params"])


def test_a_backslash_is_refused_before_anything_is_made(tmp_path):
  with pytest.raises(UserError, match="backslash in its name"):
    checkpoint.Checkpointer(tmp_path / "a\\b", keep=1)
  assert not [*tmp_path.iterdir()]


def test_a_checkpoint_that_cannot_be_restored_is_not_called_saved(
  tmp_path, monkeypatch
):
  """As it was where a library took brackets for a pattern."""
  monkeypatch.setattr(paths.LiteralPath, "glob", lambda *_: iter(()))
  with pytest.raises(UserError, match="cannot be written .*checksums"):
    save(tmp_path / "single")
  with pytest.raises(UserError, match="cannot be written .*checksums"):
    save(tmp_path / "many", steps=(1, 2))  # the second is not begun
  assert checkpoint.steps(tmp_path / "many") == [1]


def test_the_error_of_a_run_that_was_lost_says_how_to_rescue_it(
  tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(paths.LiteralPath, "glob", lambda *_: iter(()))
    with pytest.raises(UserError):
      save(tmp_path)
  with pytest.raises(UserError, match="cp -r .*ocdbt.process_0") as e:
    checkpoint.load_params(tmp_path, abstract()["params"])
  command = str(e.value).partition("cp -r ")[2].split()[:2]
  source, target = (word.strip(").;") for word in command)
  shutil.copytree(source, target, dirs_exist_ok=True)
  params = checkpoint.load_params(tmp_path, abstract()["params"])
  np.testing.assert_array_equal(params["a"], STATE["params"]["a"])


def test_looking_costs_little(tmp_path):
  save(tmp_path)
  item = epath.Path(tmp_path) / "checkpoints/1/default"
  names = ["state/params/a", "state/params/z", "checksums"]
  assert restorable.missing_array(item, names) is None
  assert restorable.missing_array(item, [*names, "state/b"]) == "state/b"
