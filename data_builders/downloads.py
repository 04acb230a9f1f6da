"""Fetches open data sets from PhysioNet and checks every file.

PhysioNet publishes the SHA-256 of every file of a project beside the files
(`SHA256SUMS.txt`). What was downloaded is compared with that list, so an
archive that was cut, changed or is of another version never becomes a data set.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import shutil
import zipfile
import zlib
from collections.abc import Mapping

import requests
import tqdm

from cgdmer_jax.errors import UserError, one_line
from data_builders import locks, transfer

HOST = "https://physionet.org"
_SUMS = "SHA256SUMS.txt"
_PROBE_SECONDS = 10
_THREADS = 4  # single files are small, and each takes a request


@dataclasses.dataclass(frozen=True)
class PhysioNet:
  """Open files of a PhysioNet project.

  Attributes:
    project: short name of the project, for instance `ptb-xl`.
    version: version of the project, for instance `1.0.3`.
    size: how much there is to download, for people, for instance `1.7 GB`.
    archive: name of its zip archive without suffix and version; None: the
      files are fetched one by one.
    folder: only the files below it are needed; "" for all.
  """

  project: str
  version: str
  size: str
  archive: str | None = None
  folder: str = ""

  @property
  def files_url(self) -> str:
    """Address of the files."""
    return f"{HOST}/files/{self.project}/{self.version}/"

  @property
  def archive_url(self) -> str:
    """Address of the archive."""
    name = f"{self.archive}-{self.version}.zip"
    return f"{HOST}/static/published-projects/{self.project}/{name}"


def fetch(source: PhysioNet, parent: pathlib.Path) -> pathlib.Path:
  """Downloads a project, unless that was done before, and checks it.

  Args:
    source: what to download.
    parent: the folder to keep it in.

  Returns:
    Folder of the files; it exists only when all of them were checked.

  Raises:
    transfer.DownloadFailed: a file cannot be downloaded or is not the published
      one.
    UserError: the files cannot be kept.
  """
  folder = parent / f"{source.project}-{source.version}"
  if folder.exists():
    return folder
  try:
    parent.mkdir(parents=True, exist_ok=True)
    # Two configs of a data set have the same files.
    lock = folder.with_name(f"{folder.name}.lock")
    waiting = f"another build is downloading {folder}; waiting for it"
    with locks.hold(lock, waiting), requests.Session() as session:
      if not folder.exists():
        _fetch(source, session, folder)
  except OSError as e:
    raise UserError(
      f"cannot keep the files of {source.project} in {folder}: {one_line(e)}"
      " (is the disk full?); once that is fixed, give the same command"
    ) from e
  return folder


def _fetch(
  source: PhysioNet, session: requests.Session, folder: pathlib.Path
) -> None:
  _check_network()
  listing, archive, partial = (
    folder.with_name(f"{folder.name}.{suffix}")
    for suffix in ("sums", "zip", "partial")
  )
  try:
    transfer.fetch(session, source.files_url + _SUMS, listing)
    sums = _parse(listing, source)
    if source.archive:
      transfer.fetch(session, source.archive_url, archive)
      try:
        _unpack(archive, partial, sums, source)
      except BaseException:  # again from the archive, which is quick
        shutil.rmtree(partial, ignore_errors=True)
        raise
    else:
      _fetch_files(session, source.files_url, partial, sums)
  except transfer.NotPublished:  # or the list is another version's
    listing.unlink()
    archive.unlink(missing_ok=True)
    raise
  os.sync()  # the files, before their folder has its name
  partial.rename(folder)
  listing.unlink()
  archive.unlink(missing_ok=True)


def _check_network() -> None:
  """Fails within seconds; each file would be tried for a minute."""
  try:
    requests.head(HOST, timeout=_PROBE_SECONDS)  # any answer will do
  except requests.RequestException as e:
    raise transfer.DownloadFailed(f"cannot reach {HOST}: {one_line(e)}") from e


def _parse(listing: pathlib.Path, source: PhysioNet) -> dict[str, str]:
  """File name -> SHA-256 of the files that are needed."""
  lines = listing.read_text("utf-8", errors="replace").splitlines()
  pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
  sums = {
    name: digest
    for digest, name in pairs
    if name.startswith(source.folder) and len(digest) == 64
  }
  if not sums:
    raise transfer.NotPublished(f"{source.files_url}{_SUMS} lists no files")
  return sums


def _unpack(
  archive: pathlib.Path,
  folder: pathlib.Path,
  sums: Mapping[str, str],
  source: PhysioNet,
) -> None:
  """Unpacks the files that are needed into a new folder."""
  root = f"{source.archive}-{source.version}"
  shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
  try:
    with zipfile.ZipFile(archive) as z:
      members = {name: z.getinfo(f"{root}/{name}") for name in sums}
      size = sum(member.file_size for member in members.values())
      transfer.check_room(archive.parent, size, f"unpacking {archive}")
      for name, member in members.items():
        data = z.read(member)
        if hashlib.sha256(data).hexdigest() != sums[name]:
          raise transfer.NotPublished(
            f"{name} is not the published file; the archive was removed, try"
            " again"
          )
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
  except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as e:
    raise transfer.NotPublished(
      f"{source.archive_url} is not whole ({one_line(e)}); it was removed, try"
      " again"
    ) from e


def _fetch_files(
  session: requests.Session,
  url: str,
  folder: pathlib.Path,
  sums: Mapping[str, str],
) -> None:
  """Fetches the files that `folder` lacks; those that are wrong are removed."""

  def is_published(name: str) -> bool:
    try:
      transfer.fetch(session, url + name, folder / name, sums[name])
    except transfer.NotPublished:
      return False
    return True

  pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
  try:
    results = tqdm.tqdm(
      pool.map(is_published, sums), total=len(sums), unit="file",
      delay=5, mininterval=10, leave=False,
    )  # fmt: skip
    wrong = [n for n, right in zip(sums, results, strict=True) if not right]
  finally:
    pool.shutdown(cancel_futures=True)
  if wrong:
    raise transfer.NotPublished(
      f"{len(wrong)} of {len(sums)} files ({wrong[0]} ..) are not the published"
      " ones; they were removed, try again"
    )
