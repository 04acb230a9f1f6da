"""Checkpoints of the layout of Hugging Face, written without PyTorch.

bert_reference.npz is written by make_bert_reference.py, which says what is in
it.
"""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_bert, report_encoder

TEXTS = ["sinus rhythm, normal ecg", "atrial fibrillation; left axis"]


def reference():
  """What `make_bert_reference.py` has written, by name."""
  path = pathlib.Path(__file__).with_name("bert_reference.npz")
  with np.load(path) as file:
    return dict(file)


def write(folder, change=lambda tensors: tensors, name="checkpoint", **fields):
  """Writes the reference checkpoint, changed, and returns its directory."""
  arrays = reference()
  weights = {
    name.removeprefix("weights/"): x
    for name, x in arrays.items()
    if name.startswith("weights/")
  }
  directory = folder / name
  directory.mkdir()
  config = json.loads(str(arrays["config"])) | fields
  config = {k: v for k, v in config.items() if v != "remove"}
  (directory / "config.json").write_text(json.dumps(config))
  safetensors.numpy.save_file(change(weights), directory / "model.safetensors")
  return directory


def tokenizer():
  return reports.train_tokenizer(TEXTS, 60)


def load(directory):
  config = hf_bert.load_config(directory)
  return config, hf_bert.load_params(directory, config)


def hidden_states(config, params, tokens, valid):
  """Embeddings and the output of every block, as PyTorch orders them."""

  def is_layer(module, _):
    blocks = isinstance(module, report_encoder.BertBlock)
    return blocks or module.name == "norm"

  @jax.jit
  def run(params):
    return config.build().apply(
      {"params": params},
      tokens,
      valid,
      capture_intermediates=is_layer,
      mutable="intermediates",
    )

  with jax.default_matmul_precision("highest"):
    out, state = run(params)
  captured = state["intermediates"]
  names = ["norm", *(f"blocks_{i}" for i in range(config.depth))]
  layers = np.stack([captured[name]["__call__"][0] for name in names])
  np.testing.assert_array_equal(layers[-1], out)
  return layers


def distance(directory, reference):
  """Largest difference from PyTorch over all layers."""
  config, params = load(directory)
  layers = hidden_states(
    config, params, reference["tokens"], reference["valid"]
  )
  return np.abs(layers - reference["hidden"]).max()


def equal(a, b):
  a, b = (traverse_util.flatten_dict(tree, sep="/") for tree in (a, b))
  assert a.keys() == b.keys()
  for name in a:
    assert a[name].dtype == b[name].dtype == np.float32
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def refused(message, function, *args, **kwargs):
  with pytest.raises(UserError, match=message) as info:
    function(*args, **kwargs)
  assert "\n" not in str(info.value)


def split(directory, change=lambda index: None):
  """Cuts the weights into two files and an index."""
  path = directory / "model.safetensors"
  tensors = safetensors.numpy.load_file(path)
  index = {}
  for i in range(2):
    file = f"model-0000{i + 1}-of-00002.safetensors"
    part = dict(list(tensors.items())[i::2])
    safetensors.numpy.save_file(part, directory / file)
    index |= dict.fromkeys(part, file)
  path.unlink()
  change(index)
  path = directory / "model.safetensors.index.json"
  path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
  return directory
