"""Objects of a bucket: listed, copied, compared; errors on one line."""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import hashlib
import logging as python_logging
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from cgdmer_jax import files, paths
from cgdmer_jax.errors import UserError, one_line

WHOLE = 64 << 20  # bytes of a file that is read before it is sent
_CONNECT_SECONDS, _READ_SECONDS = 10, 60  # gcsfs tries six times


# Words of gcsfs, Google's API and TensorStore; `run-403` is a name.
_FORBIDDEN = re.compile(
  r"Forbidden|denied|DENIED|Invalid Credentials|UNAUTHENTICATED"
  r"|(?<![\w/.-])40[13](?![\w/.-])"
)
_MISSING = re.compile(r"NOT_FOUND|(?<![\w/.-])404(?![\w/.-])")


def connect(address: str) -> Any:
  """The file system of an address; `epath` uses the same settings afterwards.

  Raises:
    UserError: the package for it is not installed.
  """
  _use_emulator()
  try:
    return _file_system()
  except ImportError:
    raise UserError(
      f"{address} needs another package: pip install 'cgdmer-jax[gcs]'"
    ) from None


@functools.cache
def _file_system() -> Any:
  # Else gcsfs asks for the kind of every bucket, for minutes where there are no
  # credentials or no network.
  os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
  import aiohttp
  import fsspec

  timeout = aiohttp.ClientTimeout(
    sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS
  )
  # Others write to the same folders: lists of names are never kept.
  fsspec.config.conf.setdefault("gcs", {}).update(
    use_listings_cache=False, session_kwargs={"timeout": timeout}
  )
  # It logs every error with a traceback, and raises it.
  python_logging.getLogger("gcsfs").setLevel(python_logging.CRITICAL)
  return fsspec.filesystem("gcs")


def _use_emulator() -> None:
  """Lets all libraries use the emulator that $STORAGE_EMULATOR_HOST names."""
  host = os.environ.get("STORAGE_EMULATOR_HOST")
  if host:
    host = host if "://" in host else f"http://{host}"
    os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", host)
    os.environ.setdefault("GOOGLE_CLOUD_PROJECT", "emulator")
    os.environ.setdefault("NO_GCE_CHECK", "true")  # it has no accounts
    import fsspec

    fsspec.config.conf.setdefault("gcs", {}).setdefault("token", "anon")


@contextlib.contextmanager
def asking(address: str) -> Iterator[None]:
  """Turns what libraries raise about a bucket into a `UserError`."""
  try:
    yield
  except UserError:
    raise
  except Exception as e:  # aiohttp, gcsfs, google.auth, requests, OSError
    raise UserError(f"{address}: {explain(e)}") from e


def explain(error: BaseException) -> str:
  """What is wrong with a bucket, and what to do, on one line."""
  text = one_line(error)
  if isinstance(error, OSError) and error.filename:
    return (
      f"its copy on this machine cannot be written ({text}); make room or"
      f" set ${paths.BUCKETS_VARIABLE} to another folder"
    )
  if isinstance(error, FileNotFoundError) or _MISSING.search(text):
    return f"no such bucket or object ({text}); create the bucket first"
  if _FORBIDDEN.search(text):
    return (
      f"no permission ({text}); log in (gcloud auth application-default login)"
      " with an account that may read and write objects there"
    )
  if "redential" in text:
    return f"no credentials ({text}); gcloud auth application-default login"
  return f"the bucket cannot be used ({text}); check the network and its name"


class Object(NamedTuple):
  """An object: bytes, time in microseconds, MD5 or nothing."""

  size: int
  time: int
  md5: str


def _object(info: dict[str, Any]) -> Object:
  md5 = base64.b64decode(info.get("md5Hash", "")).hex()
  epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
  age = info["mtime"] - epoch
  return Object(
    int(info["size"]), age // datetime.timedelta(microseconds=1), md5
  )


def list_all(address: str) -> dict[str, Object]:
  """Objects below an address by their names there."""
  file_system = connect(address)
  root = address.removeprefix("gs://")
  with asking(address):
    found = file_system.find(root, detail=True)
  return {
    name.removeprefix(f"{root}/"): _object(info)
    for name, info in found.items()
    if name.startswith(f"{root}/") and not name.endswith("/")
  }


def is_current(path: pathlib.Path, wanted: Object) -> bool:
  """Whether a local file holds what an object does.

  A file that was copied has the time of its object; MD5 decides about others.
  """
  try:
    stat = path.stat()
  except OSError:
    return False
  if stat.st_size != wanted.size:
    return False
  if stat.st_mtime_ns // 1000 == wanted.time:
    return True
  if not wanted.md5 or _md5(path) != wanted.md5:
    return False
  os.utime(path, ns=(stat.st_atime_ns, wanted.time * 1000))
  return True


def _md5(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "md5").hexdigest()


def download(address: str, path: pathlib.Path, wanted: Object) -> None:
  """Copies an object to a file, which gets its name when it is whole.

  Raises:
    UserError: it cannot be read, or differs from its checksum.
  """
  with asking(address), files.replacing(path) as temporary:
    connect(address).get_file(address.removeprefix("gs://"), temporary)
    size = temporary.stat().st_size
    if size != wanted.size or wanted.md5 not in ("", _md5(temporary)):
      raise OSError("it has changed on the way; run the same command again")
    os.utime(temporary, ns=(wanted.time * 1000, wanted.time * 1000))


def send(path: pathlib.Path, address: str) -> None:
  """Copies a file to an object, which is replaced as a whole.

  Raises:
    UserError: the bucket cannot be written to.
  """
  target = address.removeprefix("gs://")
  with asking(address):
    if path.stat().st_size > WHOLE:
      connect(address).put_file(path, target)
    else:  # it may be growing
      connect(address).pipe_file(target, path.read_bytes())


def holds(path: pathlib.Path) -> bool:
  """Whether a bucket holds the file that a local path stands for."""
  address = paths.address(path)
  with asking(address):
    try:
      connect(address).info(address.removeprefix("gs://"))
    except FileNotFoundError:
      return False
  return True


def write(address: str, content: bytes) -> None:
  """Writes an object completely or not at all."""
  with asking(address):
    connect(address).pipe_file(address.removeprefix("gs://"), content)


def read(address: str) -> bytes:
  """Reads an object."""
  with asking(address):
    return connect(address).cat_file(address.removeprefix("gs://"))


def remove(address: str) -> None:
  """Removes an object, if it is there."""
  with asking(address), contextlib.suppress(FileNotFoundError):
    connect(address).rm_file(address.removeprefix("gs://"))
