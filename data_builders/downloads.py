"""Fetches open data sets from PhysioNet and checks every file.

PhysioNet publishes the SHA-256 of every file of a project beside the files
(`SHA256SUMS.txt`). What TFDS downloads and unpacks is compared with that list,
so an archive that was cut, changed or is of another version never becomes a
data set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import shutil
import zipfile
import zlib
from collections.abc import Mapping

import requests
import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError
from data_builders import locks

HOST = "https://physionet.org"
_SUMS = "SHA256SUMS.txt"
_PROBE_SECONDS = 10


class DownloadFailed(UserError):
  """Files could not be downloaded, or are not the published ones."""


@dataclasses.dataclass(frozen=True)
class PhysioNet:
  """Open files of a PhysioNet project.

  Attributes:
    project: its short name, for instance `ptb-xl`.
    version: for instance `1.0.3`.
    size: for people, for instance `1.7 GB`.
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


def fetch(
  source: PhysioNet, dl_manager: tfds.download.DownloadManager, name: str
) -> pathlib.Path:
  """Downloads a project unless it was, and checks it.

  Args:
    source: what to download.
    dl_manager: knows where to keep it.
    name: of the data set.

  Returns:
    Folder of the files; it exists only when all of them were checked.

  Raises:
    DownloadFailed: a file cannot be downloaded or is not the published one.
    UserError: the files cannot be kept.
  """
  parent = pathlib.Path(dl_manager.download_dir) / name  # as TFDS does
  folder = parent / f"{source.project}-{source.version}"
  if folder.exists():
    return folder
  try:
    parent.mkdir(parents=True, exist_ok=True)
    # Two configs of a data set have the same files.
    lock = folder.with_name(f"{folder.name}.lock")
    waiting = f"another build is downloading {folder}; waiting for it"
    with locks.hold(lock, waiting):
      if not folder.exists():
        _fetch(source, dl_manager, folder)
  except OSError as e:
    raise UserError(
      f"cannot keep the files of {source.project} in {folder}: {e}; mend that"
      " (is the disk full?) and give the same command"
    ) from e
  return folder


def _fetch(
  source: PhysioNet,
  dl_manager: tfds.download.DownloadManager,
  folder: pathlib.Path,
) -> None:
  _check_network()
  listing = pathlib.Path(_download(dl_manager, source.files_url + _SUMS))
  sums = _parse(listing, source)
  partial = folder.with_name(f"{folder.name}.partial")
  shutil.rmtree(partial, ignore_errors=True)
  try:
    if source.archive:
      archive = _download(dl_manager, source.archive_url)
      _unpack(pathlib.Path(archive), partial, sums, source)
    else:
      urls = {name: source.files_url + name for name in sums}
      _link(_download(dl_manager, urls), partial, sums)
    partial.rename(folder)
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _check_network() -> None:
  """Fails within seconds where TFDS would try again for minutes."""
  try:
    requests.head(HOST, timeout=_PROBE_SECONDS)  # any answer will do
  except requests.RequestException as e:
    raise DownloadFailed(f"cannot reach {HOST}: {_first_line(e)}") from e


def _download(dl_manager: tfds.download.DownloadManager, url):
  """Local path of a URL, or of each value of a dict of URLs."""
  try:
    return dl_manager.download(url)
  except Exception as e:  # of requests, TFDS, the file system
    where = url
    if not isinstance(url, str):
      where = f"all of {len(url)} files ({next(iter(url.values()))} ..)"
    raise DownloadFailed(f"cannot download {where}: {_first_line(e)}") from e


def _first_line(e: Exception) -> str:
  return str(e).splitlines()[0] if str(e) else type(e).__name__


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
    raise DownloadFailed(f"{source.files_url}{_SUMS} lists no files")
  return sums


def _unpack(
  archive: pathlib.Path,
  folder: pathlib.Path,
  sums: Mapping[str, str],
  source: PhysioNet,
) -> None:
  """Unpacks the files that are needed.

  Not with TFDS, whose extractor needs TensorFlow and holds an archive in
  memory.
  """
  root = f"{source.archive}-{source.version}"
  try:
    with zipfile.ZipFile(archive) as z:
      for name, digest in sums.items():
        data = z.read(f"{root}/{name}")
        if not _is_published(data, digest):
          raise DownloadFailed(
            f"{name} is not the published file; remove {archive} and"
            f" {archive.name}.INFO and try again"
          )
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
  except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as e:
    raise DownloadFailed(
      f"{archive}, downloaded from {source.archive_url}, is not whole"
      f" ({e.args[0]}); remove it and {archive.name}.INFO and try again"
    ) from e


def _link(
  paths: Mapping[str, str], folder: pathlib.Path, sums: Mapping[str, str]
) -> None:
  """Gives downloaded files their own names; removes those that are wrong."""
  wrong = []
  for name, path in paths.items():
    path = pathlib.Path(path).resolve()
    if not _is_published(path.read_bytes(), sums[name]):
      wrong.append(name)
      path.unlink()
      info = path.with_name(f"{path.name}.INFO")  # TFDS would compare with it
      info.unlink(missing_ok=True)
      continue
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)
  if wrong:
    raise DownloadFailed(
      f"{len(wrong)} of {len(paths)} files ({wrong[0]} ..) are not the"
      " published ones; they were removed, try again"
    )


def _is_published(data: bytes, digest: str) -> bool:
  return hashlib.sha256(data).hexdigest() == digest
