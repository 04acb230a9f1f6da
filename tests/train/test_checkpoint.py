import pathlib
import resource
import shutil

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checksums
from cgdmer_jax.train.checkpoint import (
  Checkpointer,
  find_checkpoint,
  load_params,
)


@flax.struct.dataclass
class State:
  step: jax.Array
  params: dict
  opt_state: optax.OptState


def init(width: int = 8) -> State:
  key = jax.random.key(0)
  params = {
    "encoder": {
      "kernel": jax.random.normal(key, (width, 4)),
      "bias": jnp.full((4,), 0.1, jnp.bfloat16),
    },
    "scale": jnp.float32(jnp.log(10.0)),
  }
  return State(jnp.int32(0), params, optax.adamw(1e-3).init(params))


@jax.jit
def noisy(state: State) -> State:
  """Every float gets bits of its own, so that equality means something."""
  leaves, tree = jax.tree.flatten(state)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return tree.unflatten(
    x + jax.random.normal(k, x.shape, x.dtype)
    if jnp.issubdtype(x.dtype, jnp.floating)
    else x + 3
    for x, k in zip(leaves, keys, strict=True)
  )


add_one = jax.jit(
  lambda state: jax.tree.map(lambda x: x + jnp.ones_like(x), state),
  donate_argnums=0,
)


def abstract(devices: int, width: int = 8) -> State:
  """Shapes and shardings of a state on a mesh of `devices` devices."""
  mesh = jax.make_mesh(
    (devices,),
    ("data",),
    axis_types=(AxisType.Auto,),
    devices=jax.devices()[:devices],
  )

  def leaf(x):
    split = x.ndim == 2 and x.shape[0] % devices == 0
    spec = PartitionSpec("data") if split else PartitionSpec()
    return jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
    )

  return jax.tree.map(leaf, jax.eval_shape(lambda: init(width)))


def make_state(devices: int = 1) -> State:
  state = noisy(init())
  return jax.device_put(
    state, jax.tree.map(lambda x: x.sharding, abstract(devices))
  )


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    x, y = np.asarray(x), np.asarray(y)
    assert x.dtype == y.dtype
    assert x.tobytes() == y.tobytes()


def checkpointer(workdir, keep=3):
  return Checkpointer(workdir, keep=keep)


def names(workdir) -> set[str]:
  return {p.name for p in (workdir / "checkpoints").iterdir()}


@pytest.mark.parametrize(
  ("saved_on", "restored_on"), [(4, 4), (4, 1), (1, 4), (2, 4)]
)
def test_restores_bit_by_bit_on_any_mesh(tmp_path, saved_on, restored_on):
  state = make_state(saved_on)
  with checkpointer(tmp_path) as c:
    assert c.save(7, state)
  target = abstract(restored_on)
  with checkpointer(tmp_path) as c:
    step, restored = c.restore_latest(target)
  assert step == 7
  assert_same(restored, state)
  for x, want in zip(
    jax.tree.leaves(restored), jax.tree.leaves(target), strict=True
  ):
    assert x.sharding == want.sharding


def test_nothing_to_restore(tmp_path):
  with checkpointer(tmp_path) as c:
    assert c.restore_latest(abstract(1)) is None
    assert c.latest_step is None


def test_saving_survives_donation(tmp_path):
  """The next step overwrites the buffers while the files are being written."""
  state = make_state()
  want = {}
  with checkpointer(tmp_path, keep=10) as c:
    for step in range(1, 7):
      state = add_one(state)
      want[step] = jax.tree.map(lambda x: np.array(x, copy=True), state.params)
      assert c.save(step, state)
  for step, params in want.items():
    path = tmp_path / "checkpoints" / str(step)
    assert_same(load_params(path, abstract(1).params), params)


def test_restored_state_can_be_donated(tmp_path):
  with checkpointer(tmp_path) as c:
    c.save(1, make_state())
    _, state = c.restore_latest(abstract(1))
    add_one(state)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))


def test_it_saves_a_step_once_and_keeps_the_newest(tmp_path):
  state = make_state()
  with checkpointer(tmp_path, keep=2) as c:
    assert all(c.save(step, state) for step in (3, 6, 9, 11))
    assert not c.save(11, state)
    assert c.latest_step == 11
    c.wait()
    assert names(tmp_path) == {"9", "11"}
    assert not c.reached_preemption(11)


def test_incomplete_checkpoint_is_ignored(tmp_path):
  state = make_state()
  with checkpointer(tmp_path) as c:
    c.save(1, state)
  # What a killed process leaves: the directory before it is renamed.
  complete = tmp_path / "checkpoints" / "1"
  torn = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  shutil.copytree(complete, torn)
  (torn / "default" / "_METADATA").unlink()
  assert find_checkpoint(tmp_path).name == "1"
  with checkpointer(tmp_path) as c:
    assert c.latest_step == 1
    step, restored = c.restore_latest(abstract(1))
    assert step == 1
    assert_same(restored, state)
    assert c.save(2, add_one(restored))
    c.wait()
  assert names(tmp_path) == {"1", "2"}
  assert load_params(tmp_path, abstract(1).params)


@pytest.mark.parametrize("where", ["", "checkpoints", "checkpoints/5"])
def test_load_params(tmp_path, where, monkeypatch):
  state = make_state(4)
  with checkpointer(tmp_path) as c:
    c.save(5, state)
  params = load_params(tmp_path / where, abstract(2).params)
  assert_same(params, state.params)
  assert params["encoder"]["kernel"].sharding.num_devices == 2
  monkeypatch.chdir(tmp_path.parent)
  relative = pathlib.Path(tmp_path.name) / where
  bare = jax.eval_shape(init).params  # names no sharding: one device
  params = load_params(str(relative), bare)
  assert_same(params, state.params)
  assert params["encoder"]["kernel"].sharding.num_devices == 1


def test_older_checkpoint_by_its_own_path(tmp_path):
  state = make_state()
  older = jax.tree.map(np.asarray, state.params)
  with checkpointer(tmp_path) as c:
    c.save(9, state)
    c.save(10, jax.tree.map(lambda x: x * 2, state))
  bare = jax.eval_shape(init).params
  path = tmp_path / "checkpoints" / "9"
  assert_same(load_params(path, bare), older)
  newest = load_params(tmp_path, bare)
  assert (newest["encoder"]["kernel"] == 2 * older["encoder"]["kernel"]).all()


def test_another_architecture_is_refused(tmp_path):
  with checkpointer(tmp_path) as c:
    c.save(3, make_state())
  right = abstract(1).params
  wider = abstract(1, width=6).params
  more = {**right, "extra": right["scale"]}
  fewer = {"encoder": right["encoder"]}
  other_type = {
    **right,
    "scale": jax.ShapeDtypeStruct((), jnp.bfloat16),
  }
  for params, message in [
    (wider, r"encoder/kernel is float32 \(8, 4\) in .*, float32 \(6, 4\) in"),
    (more, r"extra is missing in the checkpoint, float32 \(\) in this config"),
    (fewer, r"scale is float32 \(\) in the checkpoint, missing in this"),
    (other_type, r"scale is float32 \(\) in .*, bfloat16 \(\) in"),
  ]:
    with pytest.raises(UserError, match=message) as e:
      load_params(tmp_path, params)
    assert "another architecture" in str(e.value)
    assert "\n" not in str(e.value)
  with (
    checkpointer(tmp_path) as c,
    pytest.raises(UserError, match="another architecture"),
  ):
    c.restore_latest(abstract(1, width=6))


@pytest.mark.parametrize("where", ["", "missing", "checkpoints/4"])
def test_missing_checkpoint(tmp_path, where):
  with pytest.raises(UserError, match=f"no checkpoint in .*{where}") as e:
    load_params(tmp_path / where, abstract(1).params)
  assert "\n" not in str(e.value)


def test_partly_deleted_checkpoint(tmp_path):
  with checkpointer(tmp_path) as c:
    c.save(4, make_state())
  (tmp_path / "checkpoints" / "4" / "default" / "_METADATA").unlink()
  with pytest.raises(UserError, match="checkpoints/4 is damaged .*_METADATA"):
    load_params(tmp_path / "checkpoints" / "4", abstract(1).params)


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 0x10
  path.write_bytes(bytes(data))


def cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_two(workdir):
  state = make_state()
  with checkpointer(workdir) as c:
    c.save(3, state)
    c.save(4, add_one(jax.tree.map(jnp.copy, state)))
  return state


def largest_file(directory):
  files = [p for p in directory.rglob("*") if p.is_file()]
  return max(files, key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
  ("damage", "where"),
  [
    (flip, None),  # of the arrays: Orbax would not notice
    (cut, None),
    (pathlib.Path.unlink, None),
    (flip, "default/_METADATA"),
    (cut, "default/manifest.ocdbt"),
    (pathlib.Path.unlink, "default/_METADATA"),
  ],
)
def test_damaged_checkpoints_are_set_aside(tmp_path, damage, where, caplog):
  state = save_two(tmp_path)
  newest = tmp_path / "checkpoints" / "4"
  damage(newest / where if where else largest_file(newest / "default"))
  with pytest.raises(UserError, match="checkpoints/4 is damaged"):
    load_params(newest, abstract(1).params)
  with checkpointer(tmp_path) as c:
    step, restored = c.restore_latest(abstract(1))
    assert step == 3
    assert_same(restored, state)
    assert "checkpoint 4 is damaged" in caplog.text
    assert (tmp_path / "damaged-checkpoint-4" / "default").is_dir()
    assert c.save(4, restored)  # its name is free
  with checkpointer(tmp_path) as c:
    assert c.restore_latest(abstract(1))[0] == 4


def test_damaged_checkpoints_alone_begin_nothing_anew(tmp_path):
  save_two(tmp_path)
  for step in "34":
    flip(largest_file(tmp_path / "checkpoints" / step / "default"))
  with (
    checkpointer(tmp_path) as c,
    pytest.raises(UserError, match="every checkpoint in .* is damaged"),
  ):
    c.restore_latest(abstract(1))
  assert names(tmp_path) == {"3", "4"}


def test_checksums_do_not_depend_on_the_mesh():
  four, one = (
    np.asarray(checksums.checksums(make_state(devices))) for devices in (4, 1)
  )
  np.testing.assert_array_equal(four, one)
  leaves = jax.tree.leaves(make_state())
  assert len(four) == len(leaves) and len(set(four.tolist())) > 5


def test_full_disk(tmp_path):
  state = make_state()
  c = checkpointer(tmp_path)
  c.save(1, state)
  c.wait()
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
  try:
    with pytest.raises(UserError, match="cannot be written") as e:
      c.save(2, state)
      c.wait()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert "\n" not in str(e.value) and "the newest is 1" in str(e.value)
  with checkpointer(tmp_path) as c:
    step, restored = c.restore_latest(abstract(1))
    assert step == 1
    assert_same(restored, state)
  assert names(tmp_path) == {"1"}
