"""What is copied or touched stays what it is; see also test_evaluate.py."""

import os
import shutil

import jax
import numpy as np
import pytest

from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.train import checkpoint
from data_builders import build


def touch(folder):
  for path in [folder, *folder.rglob("*")]:
    os.utime(path, (1e9, 1e9))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  sizes = {"train": 6, "validation": 2, "test": 2}
  build.build("synthetic_ecg/tiny", data_dir=path, sizes=sizes)
  return path


def source(data_dir):
  (folder,) = (data_dir / "synthetic_ecg").iterdir()
  return EcgSource(f"synthetic_ecg/{folder.name}", "train", data_dir)


def test_a_copied_data_set_is_the_same(data_dir, tmp_path):
  copy = tmp_path / "elsewhere"
  shutil.copytree(data_dir, copy)
  touch(copy)
  before = source(data_dir).fingerprint
  assert source(copy).fingerprint == before
  # One byte that has changed is another data set.
  (shard,) = copy.rglob("*train*array_record*")
  content = bytearray(shard.read_bytes())
  content[70] ^= 1
  shard.write_bytes(content)
  assert source(copy).fingerprint != before


def test_a_copied_checkpoint_is_the_same(
  tmp_path,
):
  run = tmp_path / "run"
  state = {"params": {"a": np.arange(3.0, dtype=np.float32)}}
  with checkpoint.Checkpointer(run, keep=1) as checkpointer:
    checkpointer.save(2, jax.device_put(state))
  shutil.copytree(run, tmp_path / "copy")
  touch(tmp_path / "copy")
  first, second = (
    checkpoint.content(tmp_path / name / "checkpoints/2")
    for name in ("run", "copy")
  )
  assert first == second
  state["params"]["a"][1] += 1
  with checkpoint.Checkpointer(tmp_path / "other", keep=1) as checkpointer:
    checkpointer.save(2, jax.device_put(state))
  assert checkpoint.content(tmp_path / "other/checkpoints/2") != first
