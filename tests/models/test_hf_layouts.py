"""Layouts of Hugging Face checkpoints, and what is refused."""

import functools
import sys

import ml_dtypes
import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_bert
from tests.models import hf_checkpoints


@pytest.fixture
def write(tmp_path):
  return functools.partial(hf_checkpoints.write, tmp_path)


# Layouts of checkpoints ------------------------------------------------------


def pretraining(tensors):
  """As the checkpoints of BertForPreTraining are, old names included."""
  result = {
    f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
      "LayerNorm.bias", "LayerNorm.beta"
    ): x
    for name, x in tensors.items()
  }
  zeros = np.zeros(3, np.float32)
  for name in (
    "bert.pooler.dense.weight",
    "bert.pooler.dense.bias",
    "cls.predictions.bias",
    "cls.predictions.transform.LayerNorm.gamma",
    "cls.seq_relationship.weight",
  ):
    result[name] = zeros
  result["bert.embeddings.position_ids"] = np.arange(20)[None]
  return result


def test_prefix_old_names_and_heads(write):
  hf_checkpoints.equal(
    hf_checkpoints.load(write())[1],
    hf_checkpoints.load(write(pretraining, "other"))[1],
  )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_become_float32(write, dtype):
  def shorten(tensors):
    return {name: x.astype(dtype) for name, x in tensors.items()}

  def back(tensors):
    return {n: x.astype(np.float32) for n, x in shorten(tensors).items()}

  hf_checkpoints.equal(
    hf_checkpoints.load(write(shorten))[1],
    hf_checkpoints.load(write(back, "other"))[1],
  )


def test_fields_that_old_checkpoints_leave_out(write):
  fields = dict.fromkeys(["layer_norm_eps", "type_vocab_size"], "remove")
  config = hf_bert.load_config(write(**fields))
  assert (config.epsilon, config.type_vocab_size) == (1e-12, 2)


def test_sharded_weights(write):
  hf_checkpoints.equal(
    hf_checkpoints.load(write())[1],
    hf_checkpoints.load(hf_checkpoints.split(write(name="other")))[1],
  )


# Bad input -------------------------------------------------------------------


@pytest.mark.parametrize(
  "field, value",
  [
    *(("model_type", x) for x in ("roberta", "deberta-v2", "t5", "remove")),
    ("hidden_act", "gelu_new"),
    ("position_embedding_type", "relative_key"),
    ("is_decoder", True),
    ("add_cross_attention", True),
    ("pruned_heads", {"0": [1]}),
    ("quantization_config", {"bits": 8}),
    *(("hidden_size", x) for x in ("remove", "32", 0, True, 30)),
    ("layer_norm_eps", "1e-12"),
    ("type_vocab_size", None),
  ],
)
def test_config_refuses(write, field, value):
  shown = "" if value == "remove" else repr(value)
  directory = write(**{field: value})
  with pytest.raises(UserError, match=field) as info:
    hf_bert.load_config(directory)
  assert shown in str(info.value)
  assert "\n" not in str(info.value)


def test_unreadable_config(tmp_path, write):
  hf_checkpoints.refused("no config.json", hf_bert.load_config, tmp_path)
  directory = write()
  for text in ("", "{", "[]", "\x00"):
    (directory / "config.json").write_text(text)
    hf_checkpoints.refused("config.json", hf_bert.load_config, directory)


def test_reports_longer_than_the_position_table(write):
  directory = write()
  assert hf_bert.load_config(directory, max_length=20).num_positions == 20
  hf_checkpoints.refused(
    "21 tokens.*max_position_embeddings 20",
    *(hf_bert.load_config, directory),
    max_length=21,
  )


def change(name, x):
  return lambda tensors: tensors | {name: x}


def drop(name):
  return lambda tensors: {k: x for k, x in tensors.items() if k != name}


QUERY = "encoder.layer.1.attention.self.query.weight"
BIAS = "encoder.layer.1.attention.self.query.bias"


@pytest.mark.parametrize(
  "edit, message",
  [
    (drop(QUERY), f"have no {QUERY}"),
    (drop("embeddings.token_type_embeddings.weight"), "have no .*token_type"),
    (change("classifier.weight", np.ones(2)), "have classifier.weight"),
    (
      change("encoder.layer.3.output.dense.bias", np.ones(32)),
      "have encoder.layer.3",
    ),
    (change(f"bert.{BIAS}", np.ones(32)), f"have {BIAS} twice"),
    (change(BIAS, np.ones(31, "f")), rf"{BIAS} .*\(31,\).*\(32,\)"),
    (change(BIAS, np.array(1, "f")), rf"{BIAS} .*\(\)"),
    (change(BIAS, np.ones((4, 8), "f")), rf"{BIAS} .*\(4, 8\)"),
    (change(BIAS, np.ones(32, np.int8)), f"{BIAS} .*int8"),
    (change(BIAS, np.ones(32)), f"{BIAS} .*float64"),
    (change(BIAS, np.full(32, np.nan, "f")), f"{BIAS} .*NaN"),
    (
      change("encoder.layer.1.output.dense.weight", np.ones((48, 32), "f")),
      r"dense.weight .*\(48, 32\).*\(32, 48\)",
    ),
  ],
)
def test_weights_refused(write, edit, message):
  hf_checkpoints.refused(message, hf_checkpoints.load, write(edit))


def test_damaged_weights(write):
  directory = write()
  path = directory / "model.safetensors"
  data = path.read_bytes()
  for bad in (
    *(data[:n] for n in (0, 7, 100, 5000, len(data) - 1)),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
  ):
    path.write_bytes(bad)
    hf_checkpoints.refused(
      "cannot read .*model.safetensors", hf_checkpoints.load, directory
    )
  path.unlink()
  hf_checkpoints.refused("no weights", hf_checkpoints.load, directory)


def test_damaged_parts(write):
  directory = hf_checkpoints.split(write())
  index = directory / "model.safetensors.index.json"
  for text in ("{", "{}", '{"weight_map": {"a": "../b"}}', '{"weight_map": 1}'):
    index.write_text(text)
    hf_checkpoints.refused("index.json", hf_checkpoints.load, directory)
  directory = hf_checkpoints.split(
    write(name="b"), lambda index: index.popitem()
  )
  hf_checkpoints.refused("has .* does not list", hf_checkpoints.load, directory)
  directory = hf_checkpoints.split(
    write(name="c"), lambda index: index.update(x=max(index.values()))
  )
  hf_checkpoints.refused("lacks x", hf_checkpoints.load, directory)
  directory = hf_checkpoints.split(write(name="d"))
  (directory / "model-00002-of-00002.safetensors").unlink()
  hf_checkpoints.refused(
    "00002-of-00002.safetensors, which is missing",
    hf_checkpoints.load,
    directory,
  )


def test_pickles_need_pytorch(write, monkeypatch):
  directory = write()
  (directory / "model.safetensors").unlink()
  (directory / "pytorch_model.bin").write_bytes(b"")
  with monkeypatch.context() as context:
    context.setitem(sys.modules, "torch", None)
    hf_checkpoints.refused(
      r"cgdmer-jax\[convert\]", hf_checkpoints.load, directory
    )
  pytest.importorskip("torch", reason="PyTorch is not installed")
  for data in (b"", b"not a pickle", b"PK\x03\x04"):
    (directory / "pytorch_model.bin").write_bytes(data)
    hf_checkpoints.refused(
      "cannot read .*pytorch_model.bin", hf_checkpoints.load, directory
    )
