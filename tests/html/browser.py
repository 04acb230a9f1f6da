"""Headless Chromium by its debugging protocol, over two pipes."""

import base64
import contextlib
import json
import os
import pathlib
import select
import shutil
import subprocess
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find():
  """Path of a Chromium; None without."""
  return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
  """One page; what it asks for and complains about is kept.

  Attributes:
    requests: addresses that the page has asked for.
    complaints: errors and warnings of the console, exceptions.
  """

  def __init__(self, process, write, read):
    self._process, self._write, self._read = process, write, read
    self._number, self._text, self._session = 0, b"", None
    self.requests, self.complaints, self._events = [], [], []
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
    self._session = attached["sessionId"]
    for domain in ("Page", "Runtime", "Network", "Log"):
      self.call(f"{domain}.enable")

  def call(self, method, **parameters):
    self._number += 1
    message = {"id": self._number, "method": method, "params": parameters}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._write, json.dumps(message).encode() + b"\0")
    while True:
      answer = self._next()
      if answer.get("id") == self._number:
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

  def open(self, path):
    """Loads a file, and waits until it is there."""
    self._events.clear()
    self.requests.clear()
    self.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri())
    while "Page.loadEventFired" not in self._events:
      self._next()

  def evaluate(self, expression):
    """The value of a JavaScript expression."""
    answer = self.call(
      "Runtime.evaluate", expression=expression, returnByValue=True
    )
    assert "exceptionDetails" not in answer, answer
    return answer["result"].get("value")

  def look(self, width=1200, *, dark=False, media="", mobile=False):
    """Shows the page on another screen."""
    self.call(
      "Emulation.setDeviceMetricsOverride",
      **{"width": width, "height": 800, "mobile": mobile},
      deviceScaleFactor=1,
    )
    scheme = {
      "name": "prefers-color-scheme",
      "value": "dark" if dark else "light",
    }
    self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

  def screenshot(self, path):
    """The whole page as PNG."""
    answer = self.call("Page.captureScreenshot", captureBeyondViewport=True)
    pathlib.Path(path).write_bytes(base64.b64decode(answer["data"]))

  def pdf(self, path):
    """The page as it is printed."""
    answer = self.call(
      "Page.printToPDF", preferCSSPageSize=True, printBackground=True
    )
    pathlib.Path(path).write_bytes(base64.b64decode(answer["data"]))

  def _next(self):
    """The next message; events are kept."""
    deadline = time.monotonic() + 60
    while b"\0" not in self._text:
      assert self._process.poll() is None, "the browser has ended"
      assert time.monotonic() < deadline, "the browser does not answer"
      if select.select([self._read], [], [], 1)[0]:
        self._text += os.read(self._read, 1 << 20)
    text, _, self._text = self._text.partition(b"\0")
    message = json.loads(text)
    method, given = message.get("method", ""), message.get("params", {})
    self._events.append(method)
    if method == "Network.requestWillBeSent":
      self.requests.append(given["request"]["url"])
    if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
      self.complaints.append(given)
    if method == "Log.entryAdded":
      self.complaints.append(given["entry"])
    return message


@contextlib.contextmanager
def start(profile):
  """A browser whose files are in `profile`."""
  read, write_end = os.pipe()
  read_end, write = os.pipe()

  def connect():  # it reads from 3 and writes to 4
    source, sink = os.dup(read_end), os.dup(write_end)
    os.dup2(source, 3)
    os.dup2(sink, 4)

  process = subprocess.Popen(
    [
      *(find(), "--headless=new", "--remote-debugging-pipe", "--no-sandbox"),
      *("--disable-gpu", "--disable-background-networking", "--no-first-run"),
      *("--hide-scrollbars", f"--user-data-dir={profile}", "about:blank"),
    ],
    preexec_fn=connect,
    close_fds=False,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  try:
    yield Browser(process, write, read)
  finally:
    process.terminate()
    process.wait(30)
    for pipe in (read, write, read_end, write_end):
      os.close(pipe)
