"""Folders in a bucket (`gs://`), through local folders that stand for them.

Libraries write files that grow, are renamed and mapped into memory; a bucket
has none of that. So a program works in a local folder, see `paths.anywhere`,
and this module makes the two the same: `fetch` and `opened` at the beginning,
`upload` at certain steps. An object is there completely or not at all, and what
makes a set of objects valid is uploaded last. Checkpoints do not pass through
here, see `train/checkpoint_folder.py`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import json
import os
import pathlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator

import filelock
from absl import logging

from cgdmer_jax import disk, objects, paths
from cgdmer_jax.errors import UserError

_PARALLEL = 8  # files that are copied at once
_UPLOAD_SECONDS = 60  # between two uploads of a run
_OWNER = "owner.json"
_COMPLETE = "complete"  # of a workdir; uploaded last and removed first
_CHECKPOINTS = ("checkpoints/", "damaged-checkpoint-")


def fetch(
  folder: pathlib.Path, is_wanted: Callable[[str], bool] = lambda name: True
) -> None:
  """Copies what a bucket holds into the folder that stands for it.

  Files that are there already stay, so a copy that was stopped goes on; each is
  compared with its checksum before it gets its name. Several processes of a
  machine take turns. Does nothing for other folders.

  Args:
    folder: see `paths.anywhere`.
    is_wanted: which names below it.

  Raises:
    UserError: the bucket cannot be read, or the disk has no room.
  """
  address = paths.address(folder)
  if not address:
    return
  there = {k: x for k, x in objects.list_all(address).items() if is_wanted(k)}
  if not there:
    return
  lock = folder.parent / f".{folder.name[:200]}.lock"
  with objects.asking(address):
    lock.parent.mkdir(parents=True, exist_ok=True)
  with objects.asking(address), filelock.FileLock(lock):
    missing = {
      name: wanted
      for name, wanted in there.items()
      if not objects.is_current(folder / name, wanted)
    }
    size = sum(wanted.size for wanted in missing.values())
    disk.check_free(folder, size, f"files of {address}")
    if size > objects.WHOLE:
      logging.info("copying %.1f GB of %s to %s", size / 1e9, address, folder)
    with concurrent.futures.ThreadPoolExecutor(_PARALLEL) as pool:
      copies = [
        pool.submit(
          objects.download, f"{address}/{name}", folder / name, wanted
        )
        for name, wanted in missing.items()
      ]
      for copy in copies:
        copy.result()


@functools.cache
def fetch_run(path: pathlib.Path) -> None:
  """Fetches what `trained_model.load` reads of a run, but for its checkpoints.

  Once for each path; not for a run that this program has opened.

  Args:
    path: workdir or checkpoint; nothing is done for one that is not in a
      bucket.
  """
  folders = (path, *path.parents[:2])
  if not paths.address(path) or any(folder in _OPEN for folder in folders):
    return
  for folder in folders:
    if paths.address(folder) and objects.holds(folder / "config.json"):
      fetch(folder, _is_of_model)
      return


def _is_of_model(name: str) -> bool:
  return name == "config.json" or name.startswith("tokenizer/")


def fetch_data_set(data_dir: pathlib.Path, name: str) -> None:
  """Fetches a data set, `name`, `name/config` or either with `:version`.

  Raises:
    UserError: see `fetch`.
  """
  if paths.address(data_dir):
    fetch(data_dir / name.partition(":")[0])


def fetch_names(data_dir: pathlib.Path) -> None:
  """Fetches what tells which data sets there are."""
  fetch(data_dir, lambda name: name.count("/") == 3 and name.endswith(".json"))


def send_data_set(folder: pathlib.Path) -> None:
  """Uploads a version of a data set; does nothing for other folders.

  Nobody finds it before its last file, `dataset_info.json`, is there.

  Raises:
    UserError: the bucket cannot be written to.
  """
  address, last = paths.address(folder), "dataset_info.json"
  if not address:
    return
  there = objects.list_all(address)
  names = [str(p.relative_to(folder)) for p in sorted(folder.rglob("*"))]
  changed = [
    name
    for name in names
    if (folder / name).is_file()
    and not (name in there and objects.is_current(folder / name, there[name]))
  ]
  if last in there and changed:
    objects.remove(f"{address}/{last}")
  for name in sorted({*changed, last} if changed else (), key=last.__eq__):
    objects.send(folder / name, f"{address}/{name}")


class Superseded(UserError):
  """Another program has begun to write to the same workdir."""


class _Run:
  """A workdir in a bucket that this program writes to."""

  def __init__(self, workdir: pathlib.Path):
    """Notes what is there."""
    self._workdir, self._address = workdir, paths.address(workdir)
    self._id = uuid.uuid4().hex
    self.is_owner = False
    self._lock = threading.Lock()
    self._sent = self._states()
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._repeat, daemon=True)
    self._thread.start()

  def _states(self) -> dict[str, tuple[int, int]]:
    """Name -> size and time of all files; not of those that are not whole."""
    states = {}
    for path in self._workdir.rglob("*"):
      name = path.relative_to(self._workdir).as_posix()
      if not any(part.startswith(".") for part in name.split("/")):
        with contextlib.suppress(OSError):  # replaced in this moment
          stat = path.stat()
          if path.is_file():
            states[name] = stat.st_size, stat.st_mtime_ns
    return states

  def upload(self) -> None:
    """Uploads what has changed, `complete` last.

    Raises:
      Superseded: another program has begun to write there.
      UserError: the bucket cannot be written to.
    """
    with self._lock:
      states = self._states()
      if not states:  # nothing before the configuration is accepted
        return
      self._check_owner()
      gone = self._sent.keys() - states.keys()
      self._remove(gone & {_COMPLETE})
      for name in sorted(states, key=_COMPLETE.__eq__):
        if self._sent.get(name) != states[name]:
          objects.send(self._workdir / name, f"{self._address}/{name}")
          self._sent[name] = states[name]
      self._remove(gone - {_COMPLETE})

  def _remove(self, names: set[str]) -> None:
    for name in sorted(names):
      objects.remove(f"{self._address}/{name}")
      del self._sent[name]

  def _check_owner(self) -> None:
    """A bucket has no locks: the last program that has begun may write."""
    address = f"{self._address}/{_OWNER}"
    if not self.is_owner:
      owner = {"id": self._id, "host": socket.gethostname(), "pid": os.getpid()}
      objects.write(address, json.dumps(owner).encode())
      self.is_owner = True
      return
    with objects.asking(address):
      owner = json.loads(objects.read(address))
    if owner["id"] != self._id:
      raise Superseded(
        f"another program has begun to write to {self._address} (host"
        f" {owner['host']}, process {owner['pid']}); this one stops"
      )

  def _repeat(self) -> None:
    while not self._ended.wait(_UPLOAD_SECONDS):
      if not self.is_owner:
        continue
      try:
        self.upload()
      except UserError as error:  # raised by the next call of the program
        logging.warning("not uploaded: %s", error)

  def close(self) -> None:
    """Ends the repeated uploads."""
    self._ended.set()
    self._thread.join()


_OPEN: dict[pathlib.Path, _Run | None] = {}


@contextlib.contextmanager
def opened(workdir: pathlib.Path, writes: bool = True) -> Iterator[None]:
  """Works in a folder that may stand for one in a bucket.

  At the beginning the folder becomes what the bucket holds, without its
  checkpoints. From the first `upload` of the body on it is uploaded every
  minute, and once more at the end. A body that fails before its first `upload`
  changes nothing in the bucket: another program may be writing there. Does
  nothing for other folders.

  Args:
    workdir: see `paths.anywhere`.
    writes: whether this process uploads; one of several does.

  Raises:
    UserError: the bucket cannot be used. What could not be uploaded stays in
      the folder until the next run begins.
  """
  if not paths.address(workdir):
    yield
    return
  fetch(workdir, lambda name: not name.startswith((*_CHECKPOINTS, _OWNER)))
  if writes:
    _remove_others(workdir)
  run = _OPEN[workdir] = _Run(workdir) if writes else None
  try:
    yield
  except BaseException:
    if run and run.is_owner:
      with contextlib.suppress(UserError):
        run.upload()
    raise
  else:
    upload(workdir)
  finally:
    del _OPEN[workdir]
    if run:
      run.close()


def _remove_others(workdir: pathlib.Path) -> None:
  """Removes local files that the bucket does not hold."""
  there = objects.list_all(paths.address(workdir))
  for path in sorted(workdir.rglob("*"), reverse=True):
    if path.is_dir():
      with contextlib.suppress(OSError):
        path.rmdir()
    elif path.relative_to(workdir).as_posix() not in there:
      path.unlink()
  if workdir.is_dir() and not any(workdir.iterdir()):
    workdir.rmdir()


def upload(workdir: pathlib.Path) -> None:
  """Uploads what has changed in an opened workdir.

  Does nothing for other folders, and in processes that do not write.

  Raises:
    UserError: the bucket cannot be written to, or another program does so.
  """
  run = _OPEN.get(workdir)
  if run:
    run.upload()


def follow(workdir: pathlib.Path) -> None:
  """Fetches configuration and tokenizer that another process has uploaded."""
  if workdir in _OPEN and _OPEN[workdir] is None:
    fetch(workdir, _is_of_model)
