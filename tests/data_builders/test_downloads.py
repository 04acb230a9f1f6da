"""Downloads, from a server of this machine that stands in for PhysioNet."""

import errno
import functools
import hashlib
import http.server
import io
import re
import shutil
import threading
import time
import zipfile

import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.errors import UserError
from data_builders import build, downloads, locks, transfer
from data_builders.cpsc2018 import cpsc2018_dataset_builder as cpsc2018
from data_builders.ptb_xl import ptb_xl_dataset_builder as ptb_xl
from tests.data_builders import ptb_xl_corpus

PTB_XL = ptb_xl.Builder.DOWNLOAD


@pytest.fixture
def site(tmp_path, monkeypatch):
  """Folder that the server serves; `site.requests` lists what was asked."""
  folder = tmp_path / "site"
  folder.mkdir()
  requests = []

  class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
      requests.append(self.path)

  server = http.server.ThreadingHTTPServer(
    ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
  )
  threading.Thread(target=server.serve_forever, daemon=True).start()
  monkeypatch.setattr(
    downloads, "HOST", f"http://127.0.0.1:{server.server_port}"
  )
  yield folder, requests
  server.shutdown()


def local(site, url):
  path = site / url.removeprefix(downloads.HOST).lstrip("/")
  path.parent.mkdir(parents=True, exist_ok=True)
  return path


def sums_of(files):
  return "".join(
    f"{hashlib.sha256(data).hexdigest()} {name}\n"
    for name, data in files.items()
  )


def publish_archive(site, source, folder):
  """Serves a folder as PhysioNet does; returns its files."""
  files = {
    str(p.relative_to(folder)): p.read_bytes()
    for p in sorted(folder.rglob("*"))
    if p.is_file()
  }
  packed = io.BytesIO()
  with zipfile.ZipFile(packed, "w") as z:
    for name, data in files.items():
      z.writestr(f"{source.archive}-{source.version}/{name}", data)
  local(site, source.archive_url).write_bytes(packed.getvalue())
  local(site, source.files_url + "SHA256SUMS.txt").write_text(sums_of(files))
  return files


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("corpus")
  ptb_xl_corpus.write(folder)
  return folder


def test_archive(site, corpus, tmp_path, capsys):
  folder, requests = site
  publish_archive(folder, PTB_XL, corpus)
  by_hand = build.build(
    "ptb_xl/100hz", manual_dir=corpus, data_dir=tmp_path / "hand"
  )
  fetched = build.build("ptb_xl/100hz", data_dir=tmp_path / "data")
  assert f"1.7 GB from {downloads.HOST}" in capsys.readouterr().out
  for path in by_hand.glob("*array_record*"):
    assert (fetched / path.name).read_bytes() == path.read_bytes()
  assert len(requests) == 3  # the first only looks whether there is a network
  # What is there is not fetched again.
  build.build("ptb_xl/100hz", data_dir=tmp_path / "data", overwrite=True)
  assert len(requests) == 3
  kept = (tmp_path / "data" / "downloads" / "ptb_xl").iterdir()
  assert [path.name for path in kept] == ["ptb-xl-1.0.3"]


def test_changed_file(site, corpus, tmp_path):
  folder, _ = site
  files = publish_archive(folder, PTB_XL, corpus)
  files["scp_statements.csv"] += b"\n"
  sums = local(folder, PTB_XL.files_url + "SHA256SUMS.txt")
  sums.write_text(sums_of(files))
  with pytest.raises(
    UserError, match="scp_statements.csv is not the published"
  ):
    build.build("ptb_xl/100hz", data_dir=tmp_path / "data")
  assert not (tmp_path / "data" / "ptb_xl" / "100hz" / "1.0.0").exists()
  # What was wrong is not kept, neither the archive nor the list.
  publish_archive(folder, PTB_XL, corpus)
  build.build("ptb_xl/100hz", data_dir=tmp_path / "data")


def test_missing_file(site, corpus, tmp_path):
  folder, _ = site
  files = publish_archive(folder, PTB_XL, corpus)
  sums = local(folder, PTB_XL.files_url + "SHA256SUMS.txt")
  sums.write_text(sums_of(files | {"records100/00000/absent.dat": b""}))
  with pytest.raises(UserError, match="not whole .*absent.dat"):
    build.build("ptb_xl/100hz", data_dir=tmp_path / "data")


def test_no_network(tmp_path, monkeypatch):
  monkeypatch.setattr(downloads, "HOST", "http://127.0.0.1:9")
  start = time.monotonic()
  with pytest.raises(UserError, match="cannot reach .*Then give --manual_dir"):
    build.build("ptb_xl/100hz", data_dir=tmp_path)
  assert time.monotonic() - start < 5


def test_disk_full_while_unpacking(site, corpus, tmp_path, monkeypatch):
  def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  publish_archive(site[0], PTB_XL, corpus)
  with monkeypatch.context() as context:
    context.setattr(downloads, "_unpack", fail)
    with pytest.raises(UserError, match="cannot keep the .*No space.*full"):
      build.build("ptb_xl/100hz", data_dir=tmp_path / "data")
  site[1].clear()
  build.build("ptb_xl/100hz", data_dir=tmp_path / "data")
  assert site[1] == ["/"]  # the archive is not fetched again


def test_no_room_for_what_is_in_the_archive(
  site, corpus, tmp_path, monkeypatch
):
  publish_archive(site[0], PTB_XL, corpus)
  check_room = transfer.check_room

  def check(folder, needed, what):
    check_room(folder, needed * (10**12 if "unpack" in what else 1), what)

  monkeypatch.setattr(transfer, "check_room", check)
  with pytest.raises(UserError, match="unpacking .*zip needs .* make room"):
    build.build("ptb_xl/100hz", data_dir=tmp_path / "data")


def test_two_configs_share_a_download(site, corpus, tmp_path, capsys):
  """The second waits for the first and finds its files."""
  publish_archive(site[0], PTB_XL, corpus)
  parent = tmp_path / "downloads" / "ptb_xl"
  parent.mkdir(parents=True)

  held = threading.Event()

  def finish():
    with locks.hold(parent / "ptb-xl-1.0.3.lock"):
      held.set()
      time.sleep(0.5)
      shutil.copytree(corpus, parent / "ptb-xl-1.0.3")

  first = threading.Thread(target=finish)
  first.start()
  held.wait()
  build.build("ptb_xl/100hz", data_dir=tmp_path)
  first.join()
  assert "another build is downloading" in capsys.readouterr().err
  assert site[1] == []
  assert {p.name for p in parent.iterdir()} == {"ptb-xl-1.0.3"}


@pytest.mark.parametrize(
  ("what", "message"),
  [
    ("nothing", "cannot download .*SHA256SUMS.txt"),
    ("sums", "cannot download .*dataset-1.0.3.zip"),
    ("half", "is not whole .*zip file"),
  ],
)
def test_failed_download_says_how_to_do_it_by_hand(
  site, corpus, tmp_path, what, message
):
  folder, _ = site
  if what != "nothing":
    publish_archive(folder, PTB_XL, corpus)
  archive = local(folder, PTB_XL.archive_url)
  if what == "sums":
    archive.unlink()
  elif what == "half":
    archive.write_bytes(archive.read_bytes()[:5000])
  with pytest.raises(UserError, match=message) as error:
    build.build("ptb_xl/100hz", data_dir=tmp_path / "data")
  text = str(error.value)
  assert ptb_xl.Builder.MANUAL_DOWNLOAD_INSTRUCTIONS in text
  assert text.endswith("Then give --manual_dir") and "\n" not in text
  assert not list((tmp_path / "data").rglob("*.partial"))


def test_single_files_of_a_project(site, real_data, tmp_path):
  """CPSC2018 is one folder of a large project."""
  folder, requests = site
  source = cpsc2018.Builder.DOWNLOAD
  files = {
    f"training/cpsc_2018/g1/{p.name}": p.read_bytes()
    for p in sorted((real_data / "cinc2021" / "CPSC2018").iterdir())
  }
  other = {"training/georgia/g1/E00001.hea": b"not needed"}
  for name, data in files.items():
    local(folder, source.files_url + name).write_bytes(data)
  local(folder, source.files_url + "SHA256SUMS.txt").write_text(
    sums_of(files | other)
  )
  damaged = [local(folder, source.files_url + name) for name in list(files)[:3]]
  for path in damaged:
    path.write_bytes(path.read_bytes()[:-1] + b"?")
  with pytest.raises(UserError, match=r"3 of 24 files \(\S+A\d+.hea \.\.\)"):
    build.build("cpsc2018/500hz", data_dir=tmp_path / "data")
  for path, data in zip(damaged, files.values(), strict=False):
    path.write_bytes(data)
  requests.clear()
  final = build.build("cpsc2018/500hz", data_dir=tmp_path / "data")
  info = tfds.builder("cpsc2018/500hz", data_dir=tmp_path / "data").info
  assert sum(s.num_examples for s in info.splits.values()) == 12
  # The network, the list and three files; those that were right are kept.
  assert len(requests) == 5
  assert not any(re.search("georgia", path) for path in requests)
  assert final.name == "1.0.0"
