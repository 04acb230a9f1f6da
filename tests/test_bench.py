"""The benchmark measures, and says what it measured."""

import json

import jax
import pytest

from cgdmer_jax import bench
from cgdmer_jax.config import fields, presets
from cgdmer_jax.train import flops, setup, train_step
from configs import bench as bench_config
from data_builders import build


def shrink(config):
  with config.unlocked():
    for part in ("ecg", "report", "disentangle", "ecg_decoder"):
      config.model[part].update(fields.transformer(16, 1, 2, 24))
    config.optim.muon_lr = 0.0
    config.train.batch_size = 16
    config.bench.update(steps=4, repeats=2)
    config.mesh = (2, 2, 1)
  return config


def read(workdir, name):
  return json.loads((workdir / f"bench-{name}.json").read_text())


def test_step_input_and_both(tmp_path, capsys, monkeypatch):
  monkeypatch.setitem(flops._PEAK, "cpu", 1e12)
  build.build("synthetic_ecg/tiny", data_dir=tmp_path / "data")
  config = shrink(bench_config.get_config("recipe=clip"))
  with config.unlocked():
    config.data.dataset = "synthetic_ecg/tiny"
    config.data.vocab_size = 300
    config.compute.dtype = "bfloat16"
  bench.run(config, tmp_path, tmp_path / "data")
  found = read(tmp_path, "demo")
  assert found["dataset"] == "synthetic_ecg/tiny" and found["devices"] == 4
  assert found["mesh"] == {"data": 2, "fsdp": 2, "tensor": 1}
  assert len(found["step_ms_of_each_repeat"]) == 2
  rate = found["step_examples_per_second"]
  assert rate == pytest.approx(16e3 / found["step_ms"])
  assert found["input_examples_per_second_and_process"] > 16
  assert found["loop_examples_per_second"] > 1
  assert 0 <= found["share_of_time_waiting_for_data"] < 1
  needed = found["flops_per_example"] * rate
  assert found["flops_per_second"] == pytest.approx(needed)
  assert found["mfu"] == pytest.approx(needed / 4e12)
  assert found["memory_bytes"]["activations"] > 0
  assert found["versions"]["jax"] == jax.__version__
  shown = capsys.readouterr().out
  assert "MFU" in shown and "waiting for data" in shown
  assert "bench-demo.json" in shown


def test_noise_where_nobody_has_the_data(tmp_path, capsys):
  config = shrink(bench_config.get_config("merl"))
  with config.unlocked():
    config.model.report.update(vocab_size=60, num_positions=32)
    config.report.max_length = 32
    config.bench.num_samples = 1000
  bench.run(config, tmp_path / "new", tmp_path)
  found = read(tmp_path / "new", "merl")
  assert found["samples"] == 1000 and "loop_examples_per_second" not in found
  assert "mfu" not in found  # nobody knows what a CPU can do
  assert "MFU" not in capsys.readouterr().out


@pytest.mark.parametrize("size", presets.SIZES)
def test_sizes_are_those_of_vision_transformers(size):
  config = bench_config.get_config(size)
  model = setup.build_model(
    config, bench.Vocabulary(2000, 0, 1, 4, (0, 1, 2, 3, 4))
  )
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  blocks = params["ecg_encoder"]["blocks"]["layers"]
  count = sum(x.size for x in jax.tree.leaves(blocks)) / 1e6
  # Dosovitskiy et al. 2021, table 1, and Touvron et al. 2021, table 1, without
  # embeddings and head.
  expected = {"tiny": 5.3, "small": 21.3, "base": 85.1, "large": 302.3}
  assert count == pytest.approx(expected[size], rel=0.01)


def test_st_mem_is_as_large_as_theirs():
  config = bench_config.get_config("st_mem_base")
  model = setup.build_model(
    config, bench.Vocabulary(2000, 0, 1, 4, (0, 1, 2, 3, 4))
  )
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  blocks = [params["ecg_encoder"]["blocks"], params["shared_encoder"]]
  count = sum(x.size for x in jax.tree.leaves(blocks)) / 1e6
  assert count == pytest.approx(85.1, rel=0.01)  # 12 blocks of ViT-base
