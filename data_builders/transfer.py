"""Fetches files over HTTP, on lines that are slow and break.

Not with pooch, which has retries, hashes and unpacking: it begins each attempt
at byte 0 (1.9), and so does the manager of TFDS. 33.8 GB on a line that breaks
once a day would never arrive.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import time

import requests
import tqdm

from cgdmer_jax.errors import UserError, one_line

_ATTEMPTS = 7  # one after the other that bring nothing
_WAIT_SECONDS = 1.0  # before the second one, then twice as long each time
_TIMEOUT_SECONDS = 60  # without a byte
_CHUNK = 1 << 13  # bytes; what a broken connection may lose
_PASSING = (408, 429)  # and all from 500 on: later the server may answer


class DownloadFailed(UserError):
  """Files could not be downloaded."""


class NotPublished(DownloadFailed):
  """Files were downloaded, but are not the published ones."""


def fetch(
  session: requests.Session,
  url: str,
  path: pathlib.Path,
  sha256: str | None = None,
) -> None:
  """Fetches a file unless it is there.

  What has come lies in a file beside it, `path` with `.partial` appended, which
  outlives the process, unlike those of `cgdmer_jax.files`. After a broken
  connection, and when this is called again, only the rest is asked for.

  Args:
    session: keeps connections open from one file to the next.
    url: address of the file.
    path: where to keep it; it exists only when it is whole.
    sha256: what it must be, in hexadecimal digits; None: anything.

  Raises:
    DownloadFailed: the server refuses it, or nothing more comes for a minute.
    NotPublished: it has another SHA-256; it is removed.
    UserError: the disk has no room for it.
    OSError: it cannot be written.
  """
  if path.exists():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f"{path.name}.partial")
  failures = 0
  while True:
    before = _size(partial)
    try:
      _fetch_rest(session, url, partial)
      break
    except requests.RequestException as e:
      failures = 1 if _size(partial) > before else failures + 1
      status = e.response.status_code if e.response is not None else 500
      if failures == _ATTEMPTS or (status < 500 and status not in _PASSING):
        raise DownloadFailed(f"cannot download {url}: {one_line(e)}") from e
      time.sleep(_WAIT_SECONDS * 2 ** (failures - 1))
  if sha256:
    with partial.open("rb") as file:
      found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
      partial.unlink()
      raise NotPublished(f"{url} is not the published file; it was removed")
  partial.replace(path)


def check_room(folder: pathlib.Path, needed: int, what: str) -> None:
  """Raises `UserError` if `what`, of so many bytes, does not fit."""
  free = shutil.disk_usage(folder).free
  if needed > free:
    raise UserError(
      f"{what} needs {needed / 1e9:.1f} GB in {folder}, where"
      f" {free / 1e9:.1f} GB are free; make room and give the same command"
    )


def _size(path: pathlib.Path) -> int:
  return path.stat().st_size if path.exists() else 0


def _fetch_rest(
  session: requests.Session, url: str, partial: pathlib.Path
) -> None:
  """Appends what is missing; from byte 0 on if the server knows no ranges."""
  start = _size(partial)
  headers = {"Accept-Encoding": "identity"}  # else positions mean nothing
  if start:
    headers["Range"] = f"bytes={start}-"
  with session.get(
    url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS
  ) as response:
    if start and response.status_code == 416:  # nothing is behind `start`
      if response.headers.get("Content-Range", "") == f"bytes */{start}":
        return
      partial.unlink()
      raise requests.ConnectionError("another file than before")
    response.raise_for_status()
    # Of a proxy, or of a server that is being repaired; no data set has one.
    if "text/html" in response.headers.get("Content-Type", ""):
      raise requests.ConnectionError("a web page came instead of the file")
    extent = response.headers.get("Content-Range", "")
    packed = response.headers.get("Content-Encoding", "identity") != "identity"
    if response.status_code != 206:
      start = 0
    elif packed or not extent.startswith(f"bytes {start}-"):
      raise requests.ConnectionError("another part came than was asked for")
    length = response.headers.get("Content-Length")
    # The length of what was packed on the way is not that of the file.
    total = start + int(length) if length and not packed else None
    check_room(partial.parent, int(length or 0), url)
    with (
      partial.open("ab" if start else "wb") as file,
      tqdm.tqdm(
        desc=partial.stem, total=total, initial=start, unit="B",
        unit_scale=True, delay=5, mininterval=10, leave=False,
      ) as bar,
    ):  # fmt: skip
      for chunk in response.iter_content(_CHUNK):
        bar.update(file.write(chunk))
      file.flush()
      os.fsync(file.fileno())
  if total not in (None, _size(partial)):
    raise requests.ConnectionError(f"{_size(partial)} of {total} bytes came")
