"""What a user names on the command line: one rule for every program."""

from __future__ import annotations

import glob
import os
import pathlib
import re
from collections.abc import Iterator

from absl import flags
from etils.epath import gpath

from cgdmer_jax.errors import UserError

_LONGEST_NAME = 255  # bytes, of every file system that is in use
ENVIRONMENT_VARIABLE = "CGDMER_DATA_DIR"
BUCKETS_VARIABLE = "CGDMER_BUCKETS"

DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  f"Folder of the built data sets. Default: ${ENVIRONMENT_VARIABLE}, else"
  " `data` in the current folder.",
)

# `gs:/` too: what `pathlib` makes of `gs://`.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|(?:gs|s3|hdfs|https?|file):/")


def local(text: str | os.PathLike[str], flag: str) -> pathlib.Path:
  """Path of a file or folder that a user names; no program has another rule.

  A tilde at the beginning is the home folder: shells do not expand it behind
  `=`. Nothing is looked up on the disk, and `$` and wildcards are ordinary
  characters.

  Args:
    text: what the user wrote.
    flag: the flag, field or variable it was written to, for messages.

  Raises:
    UserError: it is empty, has a zero byte or a name that is too long, is an
      address of a bucket or a server, or its tilde means nobody's home.
  """
  text = os.fspath(text)
  if _URL.match(text):
    raise UserError(f"{flag}={text} is no path; mount it and give its path")
  if not text or "\0" in text:
    raise UserError(f"{flag}={text!r} is no path")
  longest = max(len(os.fsencode(name)) for name in text.split("/"))
  if longest > _LONGEST_NAME:
    raise UserError(
      f"{flag}={text}: a name in it has {longest} bytes; file systems take"
      f" {_LONGEST_NAME} at most"
    )
  if not text.startswith("~"):
    path = pathlib.Path(text)
    # `./~` has lost its dot; nobody must take it for the home folder now.
    return path.absolute() if str(path).startswith("~") else path
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError:  # $HOME is not set, or there is no such user
    raise UserError(
      f"{flag}={text}: there is no home folder; give the whole path"
    ) from None


_BUCKET = re.compile(
  r"gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[\w.+=@-]+)*", re.ASCII
)


def anywhere(text: str | os.PathLike[str], flag: str) -> pathlib.Path:
  """A path as `local` reads it, or the one that stands for gs://BUCKET/FOLDER.

  That one is below $CGDMER_BUCKETS, by default ~/.cache/cgdmer_jax/buckets;
  `buckets.py` makes the two the same. `address` is the way back.

  Args:
    text: see `local`.
    flag: see `local`.

  Raises:
    UserError: see `local`; or a name in the bucket has other characters.
  """
  text = os.fspath(text)
  if not text.startswith("gs:/"):
    return local(text, flag)
  text = f"gs://{text.removeprefix('gs:').strip('/')}"
  names = text.removeprefix("gs://").split("/")
  if not _BUCKET.fullmatch(text) or {".", ".."} & set(names):
    raise UserError(
      f"{flag}={text}: expected gs://BUCKET/FOLDER, with letters, digits and"
      " ._+=@- only"
    )
  return _buckets().joinpath(*names)


def address(path: str | os.PathLike[str]) -> str:
  """The gs:// address that a path stands for; empty for other paths."""
  text = os.fspath(path)
  if text.startswith("gs:/"):
    return f"gs://{text.removeprefix('gs:').lstrip('/')}"
  try:
    inner = pathlib.Path(text).absolute().relative_to(_buckets())
  except ValueError:
    return ""
  return f"gs://{inner.as_posix()}"


def with_addresses(text: str) -> str:
  """Shows addresses in place of the local paths that stand for them."""
  return text.replace(f"{_buckets()}/", "gs://")


def _buckets() -> pathlib.Path:
  """Folder of the folders that stand for buckets."""
  cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  root = os.environ.get(BUCKETS_VARIABLE) or f"{cache}/cgdmer_jax/buckets"
  return pathlib.Path(os.path.expanduser(root)).absolute() / "gs"


def check_text(path: str | os.PathLike[str]) -> None:
  """Checks a path for libraries that know text only, no other bytes.

  Raises:
    UserError: its name is not UTF-8, or this program was told not to take file
      names as such.
  """
  try:
    os.fspath(path).encode()
  except UnicodeEncodeError:
    raise UserError(
      f"the name of {os.fspath(path)!r} is not read as UTF-8; rename the"
      " folder, or set PYTHONUTF8=1 if it is UTF-8"
    ) from None


def data_dir(value: str | os.PathLike[str] | None = None) -> pathlib.Path:
  """Folder of the built data sets.

  Args:
    value: what the user asked for, usually `DATA_DIR.value`; None or empty for
      the default.

  Returns:
    `value`, else the environment variable CGDMER_DATA_DIR, else `data`.

  Raises:
    UserError: it is no path; see `anywhere`.
  """
  if value:
    return anywhere(value, "--data_dir")
  default = os.environ.get(ENVIRONMENT_VARIABLE)
  return anywhere(default or "data", f"${ENVIRONMENT_VARIABLE}")


class LiteralPath(gpath.PosixGPath):
  """A path without special characters, for libraries that look for files.

  Orbax looks for the parts of a checkpoint with `path.glob("ocdbt.process_*")`,
  TFDS for the rests of a build, and epath reads brackets and stars in the path
  itself as a pattern. Orbax then finds no parts, merges nothing, and calls the
  checkpoint complete.
  """

  def glob(self, pattern: str) -> Iterator[LiteralPath]:
    """Finds the paths below this one that match a pattern."""
    pattern = self._PATH.join(glob.escape(self._path_str), pattern)
    return (self._new(path) for path in self._backend.glob(pattern))
