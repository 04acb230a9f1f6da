"""Pretrained report encoders: settings, and a run from one to another."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import pytest

from cgdmer_jax import pretrain
from cgdmer_jax.data import batch as batch_lib
from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.exchange import directory
from cgdmer_jax.models import hf_bert
from cgdmer_jax.train import (
  checkpoint,
  checks,
  report_checkpoint,
  setup,
  train_step,
)
from configs import pretrain as pretrain_config
from data_builders import build
from tests import small, toy
from tests.tiny_bert import SIZES, config_of, named, random_params


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"report.train": "last_4"}, "expected frozen, full, or last_1 to last_3"),
    ({"report.train": "last_0"}, "expected frozen, full, or last_1 to last_3"),
    ({"report.train": "half"}, "report.train='half'"),
    ({"loss.mlm": 0.1}, "set loss.mlm=0, or report.train='full'"),
    ({"report.max_length": 17}, "expected 3 to 16, the positions"),
    ({"report.max_length": 2}, "report.max_length=2"),
    ({"report.lr": -1.0}, "report.lr=-1.0"),
    ({"report.layer_decay": 0.0, "report.lr": 1.0}, "report.layer_decay=0.0"),
    ({"report.layer_decay": 0.9}, "applies to report.lr, which is 0"),
  ],
)
def test_impossible_settings(changes, message):
  config = config_of("last_1")
  with config.unlocked():
    config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message) as e:
    checks.check(config, small.NUM_SAMPLES)
  assert "\n" not in str(e.value)


def test_nobody_freezes_random_weights(tmp_path):
  config = config_of("last_1")
  with config.unlocked():
    config.report.checkpoint = ""
  with pytest.raises(UserError, match="would freeze random weights; give "):
    report_checkpoint.resolve(config, None)


def test_recipes_without_reports_need_no_checkpoint(tmp_path):
  config = pretrain_config.get_config("base,recipe=mae")
  config = report_checkpoint.resolve(config, None)  # nothing is downloaded
  vocabulary = reports.Vocabulary(50, 0, 1, 4, (0, 1, 2, 3, 4))
  model = setup.build_model(config, vocabulary)
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  assert "report_encoder" not in params
  jax.eval_shape(small.optimizer(config, 10).init, params)


def test_the_base_configuration_is_whole(tmp_path):
  """Its losses in bf16, traced with a small report encoder for MedCPT."""
  config = pretrain_config.get_config("base")
  assert config.report.checkpoint == "ncbi/MedCPT-Query-Encoder"
  tokenizer = reports.train_tokenizer(["sinus rhythm"], 50)
  sizes = dataclasses.replace(SIZES, num_positions=512)
  hf_bert.save(tmp_path / "bert", random_params(sizes), sizes, tokenizer)
  with config.unlocked():
    config.report.checkpoint = str(tmp_path / "bert")
  config = report_checkpoint.resolve(config, None)
  assert config.model.report.width == sizes.width
  checks.check(config, 1000)
  model = setup.build_model(config, reports.vocabulary(tokenizer))
  batch = batch_lib.zeros(1000, 8)
  params = jax.eval_shape(lambda: train_step.init_params(model, config.seed))
  terms = jax.eval_shape(
    lambda params: setup.make_objective(config, model.vocabulary).terms(
      params, batch, jax.random.key(0)
    ),
    params,
  )
  assert {"ecg", "mlm", "align", "disentangle"} < terms.keys()
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((params, terms)))
  with pytest.raises(UserError, match="expected 3 to 512, the positions"):
    with config.unlocked():
      config.report.max_length = 600
    checks.check(config, 1000)
  with pytest.raises(UserError, match="max_position_embeddings 512"):
    report_checkpoint.resolve(config, None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp("data")
  build.build("synthetic_ecg/tiny", data_dir=path)
  return path


def toy_config(directory, **report):
  c = toy.get_config("recipe=clip").unlock()
  c.report.update(checkpoint=str(directory), max_length=40, **report)
  c.data.statements = (0,)
  c.train.update(steps=4, validate_every=4, checkpoint_every=2)
  c.evaluation.update(tasks=("zero_shot",), label_sets=("superclass",))
  return c.lock()


def test_a_run_from_a_checkpoint_to_a_checkpoint(corpus, tmp_path, caplog):
  caplog.set_level("INFO", logger="absl")  # commands in other tests lower it
  source = pretrain.EcgSource("synthetic_ecg/tiny", "train", corpus)
  texts = [source[i]["report"] for i in range(200)]
  tokenizer = reports.train_tokenizer(texts, 290)
  sizes = dataclasses.replace(SIZES, vocab_size=300, num_positions=64)
  weights = random_params(sizes)
  start = tmp_path / "bert"
  hf_bert.save(start, weights, sizes, tokenizer)
  workdir = tmp_path / "run"
  config = toy_config(start, train="last_1", lr=1e-3)
  caplog.set_level("INFO")
  pretrain.run(config, workdir, corpus)
  assert "running the frozen layers of the report encoder once" in caplog.text
  assert "of the records longer than 40 tokens" in caplog.text
  assert "parameters train" in caplog.text and "are frozen" in caplog.text
  assert (workdir / "results" / "tables.md").exists()
  row = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
  assert 0 < row["validation/padding"] < 1
  # Exported: what was frozen is bit-identical, the last block has moved.
  directory.export_report_encoder(str(workdir), tmp_path / "out")
  assert hf_bert.load_config(tmp_path / "out") == sizes
  trained = named(hf_bert.load_params(tmp_path / "out", sizes))
  for name, x in named(weights).items():
    assert (trained[name] != x).any() == name.startswith("blocks_2"), name
  exported = reports.load_tokenizer(tmp_path / "out")
  assert exported("af")["input_ids"] == tokenizer("af")["input_ids"]
  # The run has all that it needs: to resume, it reads the checkpoint no more.
  shutil.rmtree(start)
  shutil.rmtree(workdir / "checkpoints" / "4")
  caplog.clear()
  pretrain.run(config, workdir, corpus)
  assert "at step 2" in caplog.text
  assert "running the frozen layers" not in caplog.text
  assert checkpoint.steps(workdir)[-1] == 4
  again = json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])
  assert again == row
  with pytest.raises(UserError, match="no directory .*bert"):
    pretrain.run(config, tmp_path / "new", corpus)
  assert not (tmp_path / "new").exists()
