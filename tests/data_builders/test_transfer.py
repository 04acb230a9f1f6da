"""Downloads from a server of this machine whose connections break."""

import collections
import gzip
import hashlib
import http.server
import random
import shutil
import socket
import struct
import threading

import pytest
import requests

from cgdmer_jax.errors import UserError
from data_builders import transfer

DATA = random.Random(0).randbytes(5_000_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
  """Serves `DATA` under every name, and breaks as it is told.

  `replies` says what happens to the next requests: bytes to send before the
  connection breaks (-1: all but one, without the first), or a status
  ("503") or kind of page ("html", "gzip") instead.
  """

  def __init__(self):
    super().__init__(("127.0.0.1", 0), Handler)
    self.url = f"http://127.0.0.1:{self.server_port}/file.zip"
    self.data, self.ranges, self.reset = DATA, True, False
    self.replies = collections.deque()
    self.asked, self.sent = [], 0

  def handle_error(self, *_):
    pass


class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *_):
    pass

  def do_GET(self):
    server, data = self.server, self.server.data
    server.asked.append(self.headers["Range"])
    reply = server.replies.popleft() if server.replies else len(data)
    if reply == "html":
      return self.answer(200, b"<html>", {"Content-Type": "text/html"})
    if reply == "gzip":  # though nobody asked for it
      packed = gzip.compress(data, 1)
      return self.answer(200, packed, {"Content-Encoding": "gzip"})
    if isinstance(reply, str):
      return self.answer(int(reply), b"")
    if not (server.ranges and server.asked[-1]):
      return self.answer(200, data, {}, reply)
    start = int(server.asked[-1].removeprefix("bytes=").removesuffix("-"))
    if start >= len(data):
      return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
    if reply == -1:
      start += 1
    extent = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return self.answer(206, data[start:], {"Content-Range": extent}, reply)

  def answer(self, status, body, headers=(), stop=None):
    self.send_response(status)
    for name, value in dict(headers).items():
      self.send_header(name, value)
    self.send_header("Content-Length", str(len(body)))
    self.end_headers()
    self.wfile.write(body[:stop])
    self.server.sent += len(body[:stop])
    if stop is not None and stop < len(body) and self.server.reset:
      linger = struct.pack("ii", 1, 0)
      self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
      self.connection.close()


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setattr(transfer, "_WAIT_SECONDS", 0.01)
  with Server() as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture
def fetch(server, tmp_path):
  """Fetches the file; nothing else may lie beside it."""

  def run(sha256=SHA256):
    path = tmp_path / "file.zip"
    with requests.Session() as session:
      transfer.fetch(session, server.url, path, sha256)
    assert [p.name for p in tmp_path.iterdir()] == ["file.zip"]
    return path.read_bytes()

  return run


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reset", [False, True])
def test_five_breaks_cost_next_to_nothing(server, fetch, seed, reset):
  server.reset = reset
  rng = random.Random(seed)
  server.replies.extend(rng.randrange(1_000_000) for _ in range(5))
  assert fetch() == DATA
  assert len(server.asked) == 6 and server.asked[0] is None
  print(f"sent {server.sent} of {len(DATA)} bytes")
  if not reset:  # which also takes what has come but was not yet read
    assert server.sent <= len(DATA) + 5 * transfer._CHUNK


def test_the_next_command_goes_on(server, fetch, tmp_path):
  server.replies.extend([2_000_000, *["503"] * 20])
  with pytest.raises(UserError, match="cannot download .*file.zip: 503"):
    fetch()
  assert len(server.asked) == 1 + transfer._ATTEMPTS - 1
  (partial,) = tmp_path.iterdir()
  assert partial.name == "file.zip.partial"
  assert 0 <= 2_000_000 - partial.stat().st_size < transfer._CHUNK
  server.replies.clear()
  assert fetch() == DATA
  assert server.sent < len(DATA) + transfer._CHUNK
  number = len(server.asked)
  assert fetch() == DATA
  assert len(server.asked) == number  # what is there is not asked for


def test_progress_counts_attempts_anew(server, fetch):
  for _ in range(3):
    server.replies.extend([100_000, *["429"] * (transfer._ATTEMPTS - 2)])
  assert fetch() == DATA


def test_servers_without_ranges_start_over(server, fetch):
  server.ranges = False
  server.replies.extend([2_000_000, 1_000_000])
  assert fetch() == DATA
  assert server.sent == len(DATA) + 3_000_000


def test_killed_before_the_file_had_its_name(server, fetch, tmp_path):
  (tmp_path / "file.zip.partial").write_bytes(DATA)
  assert fetch() == DATA
  assert server.sent == 0


def test_more_than_there_is(server, fetch, tmp_path):
  (tmp_path / "file.zip.partial").write_bytes(DATA + b"more")
  assert fetch() == DATA


def test_web_pages_are_no_files(server, fetch):
  server.replies.extend([1_000_000, "html", "503", "html"])
  assert fetch() == DATA
  assert server.sent < len(DATA) + 2 * transfer._CHUNK


def test_packed_on_the_way(server, fetch):
  server.replies.extend([1_000_000, "gzip"])
  assert fetch() == DATA
  assert len(server.asked) == 2


def test_other_parts_than_the_rest(server, fetch):
  server.replies.extend([1_000_000, -1])
  assert fetch() == DATA


def test_other_files_than_the_published(server, fetch, tmp_path):
  (tmp_path / "file.zip.partial").write_bytes(b"else")
  with pytest.raises(transfer.NotPublished, match="it was removed"):
    fetch()
  assert list(tmp_path.iterdir()) == []
  assert fetch() == DATA


def test_refused_at_once(server, fetch, tmp_path):
  server.replies.extend(["404"])
  with pytest.raises(transfer.DownloadFailed, match="cannot download .*404"):
    fetch()
  assert server.asked == [None]
  assert list(tmp_path.iterdir()) == []


def test_no_room(server, fetch, tmp_path, monkeypatch):
  usage = collections.namedtuple("usage", "free")
  monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(len(DATA) - 1))
  with pytest.raises(UserError, match="file.zip needs 0.0 GB in .*make room"):
    fetch()
  assert list(tmp_path.iterdir()) == []
  # Half of it is there: the rest has room.
  monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(len(DATA) // 2))
  (tmp_path / "file.zip.partial").write_bytes(DATA[: len(DATA) // 2])
  assert fetch() == DATA
