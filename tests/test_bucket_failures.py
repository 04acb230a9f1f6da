"""Buckets that cannot be used: one line says why, and nothing is written."""

import asyncio
import http.server
import sys
import threading
import types

import pytest

from cgdmer_jax import buckets, objects, paths
from cgdmer_jax.errors import UserError
from cgdmer_jax.train import checkpoint
from tests import emulator


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
  """Nothing has been copied to this machine."""
  monkeypatch.setenv(paths.BUCKETS_VARIABLE, str(tmp_path / "copies"))


def quick(monkeypatch, url):
  """Sends requests elsewhere; libraries do not wait between their attempts."""
  monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
  monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
  objects.connect("gs://some-bucket")  # sets what gcsfs reads when imported
  import gcsfs.retry

  sleep = asyncio.sleep
  monkeypatch.setattr(
    gcsfs.retry,
    "asyncio",
    types.SimpleNamespace(sleep=lambda seconds: sleep(0)),
  )


def test_nobody_answers(monkeypatch):
  quick(monkeypatch, f"http://localhost:{emulator.free_port()}")
  workdir = paths.anywhere("gs://some-bucket/run", "--workdir")
  with (
    pytest.raises(
      UserError, match="^gs://some-bucket/run: the bucket cannot be"
    ),
    buckets.opened(workdir),
  ):
    pass
  with pytest.raises(UserError, match="checkpoints: the bucket cannot be used"):
    checkpoint.steps(workdir)
  assert not workdir.exists()


class ReadOnly(http.server.BaseHTTPRequestHandler):
  """A server with empty buckets that nobody may write to."""

  def do_GET(self):
    is_list = self.path.partition("?")[0].endswith("/o")
    self._answer(200 if is_list else 404)

  def do_POST(self):
    self.rfile.read(int(self.headers["Content-Length"]))
    self._answer(403)

  def _answer(self, status):
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", "2")
    self.end_headers()
    self.wfile.write(b"{}")

  def log_message(self, *_):
    pass


class Closed(ReadOnly):
  """The same, and nobody may see what is there."""

  def do_GET(self):
    self._answer(403)


@pytest.mark.parametrize("handler", [ReadOnly, Closed])
def test_no_permission(handler, monkeypatch):
  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    quick(monkeypatch, f"http://localhost:{server.server_port}")
    workdir = paths.anywhere("gs://some-bucket/run-403", "--workdir")
    refused = pytest.raises(
      UserError,
      match=r"^gs://some-bucket/run-403\S*: no permission \(Forbidden",
    )
    with refused, buckets.opened(workdir):
      assert handler is ReadOnly
      workdir.mkdir(parents=True)
      (workdir / "config.json").touch()
    server.shutdown()
  assert workdir.exists() == (handler is ReadOnly)


@pytest.mark.parametrize(
  "error, words",
  [
    (FileNotFoundError("b/run-403"), "no such bucket or object (b/run-403)"),
    (OSError(28, "No space left", "/a"), "its copy on this machine cannot"),
    (OSError("Forbidden: a\nb"), "no permission (Forbidden: a b); log in"),
    (FileNotFoundError("b/x"), "no such bucket or object (b/x)"),
    (ValueError("Invalid Credentials, 401"), "no permission"),
    (ValueError("Your default credentials were not found"), "no credentials"),
  ],
)
def test_what_is_wrong(error, words):
  with pytest.raises(UserError) as caught, objects.asking("gs://b/x"):
    raise error
  assert str(caught.value).startswith(f"gs://b/x: {words}")


def test_the_extra_is_missing(monkeypatch):
  objects._file_system.cache_clear()
  monkeypatch.setitem(sys.modules, "aiohttp", None)
  with pytest.raises(UserError, match=r"pip install 'cgdmer-jax\[gcs\]'"):
    objects.list_all("gs://some-bucket/run")
