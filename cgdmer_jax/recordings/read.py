"""Reads a file of any known format, which its content decides."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator

from cgdmer_jax.recordings import (
  clinical,
  codec,
  rejected,
  signals,
  tables,
  wfdb_io,
)
from cgdmer_jax.recordings.tables import Defaults

_HEAD_BYTES = 4096
_WFDB_HEADER = re.compile(
  rb"(?:\s*#[^\n]*\n|\s*\n)*[^\s#]+[ \t]+\d+[ \t]+[\d.]+\S*[ \t]+\d+"
)
PARTS_OF_WFDB = (".dat", ".mat", ".atr")


@dataclasses.dataclass(frozen=True)
class FileRecording:
  """A recording with where it came from.

  Attributes:
    file: the file, as it was named.
    format: such as "WFDB".
    recording: what it holds, in microvolt.
    warnings: what the reader wants known.
  """

  file: str
  format: str
  recording: codec.Recording
  warnings: tuple[str, ...] = ()


class Unknown(rejected.Unreadable):
  """The content is of no format that is read here."""

  reason = "unknown_format"


def read(
  path: str | os.PathLike[str],
  defaults: Defaults = Defaults(),  # noqa: B008
) -> FileRecording:
  """Reads one recording.

  Args:
    path: a file; of a WFDB record any of its files, or its name without suffix.
    defaults: what holds where the file does not say it.

  Raises:
    rejected.Rejected: it cannot be read, or is not complete and consistent.
  """
  path = pathlib.Path(path)
  try:
    return _read(_whole(path), str(path), defaults)
  except OSError as e:
    raise rejected.Unreadable(f"{e.strerror or e}") from e
  except MemoryError as e:
    raise rejected.WrongLength("more than fits into the memory") from e


def _whole(path: pathlib.Path) -> pathlib.Path:
  """The header, for any file of a WFDB record."""
  header = path.with_name(path.name + ".hea")
  if not path.is_file() and header.is_file():
    return header
  if path.suffix.lower() in PARTS_OF_WFDB:
    header = path.with_suffix(".hea")
    return header if header.is_file() else path
  return path


def is_known(path: pathlib.Path) -> bool:
  """Whether the content of a file is of a format that is read here."""
  try:
    _recognise(path)
  except (rejected.Rejected, OSError):
    return False
  return True


def _recognise(path: pathlib.Path) -> str:
  """Format of a file, from its beginning."""
  if not path.is_file():
    raise rejected.MissingFile("no such file")
  with path.open("rb") as file:
    head = file.read(_HEAD_BYTES)
  if not head:
    raise rejected.Unreadable("empty file")
  if path.suffix.lower() == ".hea" or _WFDB_HEADER.match(head):
    return "WFDB"
  if head.startswith(b"\x93NUMPY"):
    return "NPY"
  if head.startswith(b"PK\x03\x04"):
    return "NPZ"
  format_ = clinical.recognise(path, head)
  if format_:
    return format_
  if b"\0" in head or not _looks_like_table(head):
    raise Unknown("not a recording of a format that is read here")
  return "CSV"


def _read(path: pathlib.Path, name: str, defaults: Defaults) -> FileRecording:
  format_ = _recognise(path)
  if format_ == "WFDB":
    return FileRecording(name, format_, _read_wfdb(path))
  if format_ in ("NPY", "NPZ"):
    return FileRecording(name, format_, tables.read_numpy(path, defaults))
  if format_ == "CSV":
    return FileRecording(name, format_, tables.read_csv(path, defaults))
  return FileRecording(name, format_, *clinical.read(path, format_))


def _looks_like_table(head: bytes) -> bool:
  """Whether some line has several fields, one a lead, or numbers only."""
  for line in head.decode("utf-8-sig", "replace").splitlines()[:50]:
    fields = [x.strip(" \t\"'") for x in re.split("[,;\t]", line)]
    names = [re.split(r"[(\[]", x)[0] for x in fields]
    if any(signals.lead_index(x) is not None for x in names) and (
      len(fields) > 1 or fields[0] == line.strip()
    ):
      return True
    if len(fields) > 1 and all(re.fullmatch(r"[-+\d.eE]+", x) for x in fields):
      return True
  return False


def _read_wfdb(path: pathlib.Path) -> codec.Recording:
  if path.suffix.lower() != ".hea":
    raise rejected.Unreadable("a WFDB header whose name does not end with .hea")
  text = wfdb_io.read_text(path)
  header = wfdb_io.parse_header(text, path.stem)
  signals.check_size(header.num_samples * len(header.signals))
  signals.check_rate(header.sampling_rate)
  return wfdb_io.read(path.with_suffix(""))


def find(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """Files of a folder and those below it that may be recordings, sorted.

  A WFDB record is its header; hidden files are left out.
  """
  for directory, folders, names in os.walk(folder):
    folders[:] = sorted(x for x in folders if not x.startswith("."))
    headers = {x[:-4] for x in names if x.endswith(".hea")}
    for name in sorted(names):
      stem, suffix = os.path.splitext(name)
      part = suffix.lower() in PARTS_OF_WFDB and stem in headers
      if not name.startswith(".") and not part:
        yield pathlib.Path(directory, name)
