"""Checkpoints from a hub on this machine, and from its cache."""

import functools
import http.server
import json
import socket
import threading
import time

import huggingface_hub
import pytest

from cgdmer_jax.models import hf_bert, hf_files
from tests.models import hf_checkpoints


@pytest.fixture
def write(tmp_path):
  return functools.partial(hf_checkpoints.write, tmp_path)


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
    hf_checkpoints.refused(
      "nobody/nothing is not a local", hf_bert.resolve, "nobody/nothing"
    )
    assert time.monotonic() - start < 10
  hf_checkpoints.refused(
    "local directory with config.json", hf_bert.resolve, "nobody/nothing"
  )


def test_neither_directory_nor_id(tmp_path):
  for name in (tmp_path / "no", "bert-base", "gs://a/b", "a/b/c", "../a"):
    hf_checkpoints.refused("no directory", hf_bert.resolve, name)
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
    hf_checkpoints.split(directory)
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
  hf_checkpoints.equal(
    hf_checkpoints.load(found)[1], hf_checkpoints.load(directory)[1]
  )
  assert hf_bert.resolve("owner/name") == found  # the server is gone
  (found / "vocab.txt").unlink()
  hf_checkpoints.refused("cannot be downloaded", hf_bert.resolve, "owner/name")
