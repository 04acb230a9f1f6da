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

import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError

HOST = "https://physionet.org"
_SUMS = "SHA256SUMS.txt"


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
  source: PhysioNet, dl_manager: tfds.download.DownloadManager
) -> pathlib.Path:
  """Downloads a project unless it was, and checks it.

  Args:
    source: what to download.
    dl_manager: knows where to keep it.

  Returns:
    Folder of the files; it exists only when all of them were checked.

  Raises:
    DownloadFailed: a file cannot be downloaded or is not the published one.
  """
  listing = pathlib.Path(_download(dl_manager, source.files_url + _SUMS))
  folder = listing.parent / f"{source.project}-{source.version}"
  if folder.exists():
    return folder
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
  return folder


def _download(dl_manager: tfds.download.DownloadManager, url):
  """Local path of a URL, or of each value of a dict of URLs."""
  try:
    return dl_manager.download(url)
  except Exception as e:  # of requests, TFDS, the file system
    cause = str(e).splitlines()[0] if str(e) else type(e).__name__
    where = url if isinstance(url, str) else next(iter(url.values()))
    raise DownloadFailed(f"cannot download {where}: {cause}") from e


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
        _verify(name, data, digest, archive)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
  except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as e:
    raise DownloadFailed(
      f"{archive}, downloaded from {source.archive_url}, is not whole"
      f" ({e.args[0]}); remove it and try again"
    ) from e


def _link(
  paths: Mapping[str, str], folder: pathlib.Path, sums: Mapping[str, str]
) -> None:
  """Gives downloaded files their own names."""
  for name, path in paths.items():
    path = pathlib.Path(path).resolve()
    _verify(name, path.read_bytes(), sums[name], path)
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path)


def _verify(name: str, data: bytes, digest: str, where: pathlib.Path) -> None:
  found = hashlib.sha256(data).hexdigest()
  if found != digest:
    raise DownloadFailed(
      f"{name} is not the published file (SHA-256 {found[:12]}.. instead of"
      f" {digest[:12]}..); remove {where} and try again"
    )
