"""Runs a model over many files: reads ahead, goes on after a bad file."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.inference.output import FileOutcome
from cgdmer_jax.inference.result import Prepared
from cgdmer_jax.recordings import read, rejected
from cgdmer_jax.recordings.tables import Defaults

_WINDOWS = 32  # encoded at once, if there are so many; then in the caches
_AHEAD = 64  # files that are read before they are needed


@dataclasses.dataclass(frozen=True)
class File:
  """A file to read; `is_named` if it was named itself, not its folder."""

  path: pathlib.Path
  is_named: bool


def list_files(names: Sequence[str]) -> list[File]:
  """Files, and those of folders; each once, in the order given.

  Raises:
    UserError: nothing is named, or a folder is empty.
  """
  found: dict[pathlib.Path, File] = {}
  for name in names:
    path = pathlib.Path(name).expanduser()
    if not path.is_dir():
      found.setdefault(path, File(path, True))
      continue
    inside = [*read.find(path)]
    if not inside:
      raise UserError(f"no file in the folder {path}")
    for file in inside:
      found.setdefault(file, File(file, False))
  if not found:
    raise UserError("no recording is named; give files or folders")
  return [*found.values()]


def run(
  model: EcgModel,
  files: Sequence[File],
  sentences: Sequence[str] = (),
  defaults: Defaults = Defaults(),  # noqa: B008
) -> Iterator[FileOutcome]:
  """Outcome of each file, in their order.

  Files are read by a thread of their own while the model runs.

  Args:
    model: the model.
    files: from `list_files`.
    sentences: to be compared with each recording.
    defaults: what holds where a file does not say it.
  """
  batch: list[Prepared | FileOutcome] = []
  windows = 0
  for item in _read_ahead(model, files, defaults):
    batch.append(item)
    if isinstance(item, Prepared):
      windows += len(item.windows.ecg)
    if windows >= _WINDOWS:
      yield from _finish(model, batch, sentences)
      batch, windows = [], 0
  yield from _finish(model, batch, sentences)


def _read_ahead(model, files, defaults) -> Iterable[Prepared | FileOutcome]:
  waiting: collections.deque = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    for file in files:
      waiting.append(pool.submit(_prepare, model, file, defaults))
      if len(waiting) >= _AHEAD:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()


def _prepare(model, file: File, defaults) -> Prepared | FileOutcome:
  name = str(file.path)
  try:
    return model.prepare(read.read(file.path, defaults))
  except rejected.Rejected as e:
    unknown = isinstance(e, read.Unknown) and not file.is_named
    status = "skipped" if unknown else "failed"
    return FileOutcome(name, status, one_line(e))
  # A mistake in a reader must not cost the results of all other files.
  except Exception as e:
    what = f"{type(e).__name__}: {one_line(e)}"
    return FileOutcome(name, "failed", f"cannot be read ({what})")


def _finish(model, batch, sentences) -> Iterator[FileOutcome]:
  prepared = [x for x in batch if isinstance(x, Prepared)]
  results = iter(model.analyse(prepared, sentences) if prepared else ())
  for item in batch:
    if isinstance(item, Prepared):
      yield FileOutcome(item.file, "ok", "", next(results))
    else:
      yield item
