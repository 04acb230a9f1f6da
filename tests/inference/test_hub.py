"""The Hugging Face hub: its client is replaced, and keeps what it is given."""

import inspect
import shutil
import types

import huggingface_hub
import pytest
from absl import flags
from huggingface_hub import errors

import cgdmer_jax
from cgdmer_jax import export
from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import hub
from cgdmer_jax.inference.bundle import SHIPPED

CLIENT = huggingface_hub.HfApi


def bound(method, args, kwargs):
  return inspect.signature(method).bind(None, *args, **kwargs).arguments


class Api:
  """Takes calls that the client takes, too."""

  made, files, fails = None, None, {}

  def whoami(self):
    self._fail("whoami")
    return {"name": "owner"}

  def create_repo(self, *args, **kwargs):
    self._fail("create_repo")
    given = bound(CLIENT.create_repo, args, kwargs)
    Api.made = given["repo_id"], given["private"], given["exist_ok"]
    return f"https://hub/{given['repo_id']}"

  def upload_folder(self, *args, **kwargs):
    self._fail("upload_folder")
    given = bound(CLIENT.upload_folder, args, kwargs)
    assert given["repo_id"] == self.made[0]
    folder_path = given["folder_path"]
    Api.files = {
      str(x.relative_to(folder_path)): x.stat().st_size
      for x in folder_path.rglob("*")
      if x.is_file()
    }

  def _fail(self, name):
    if name in self.fails:
      raise self.fails[name]


@pytest.fixture(autouse=True)
def api(monkeypatch):
  Api.made = Api.files = None
  Api.fails = {}
  monkeypatch.setattr(huggingface_hub, "HfApi", Api)


def refused(status):
  error = errors.HfHubHTTPError.__new__(errors.HfHubHTTPError)
  Exception.__init__(error, f"status {status}\nrequest 1")
  error.response = types.SimpleNamespace(status_code=status)
  return error


@pytest.fixture
def parsed():
  """Sets flags of the command, and what they were afterwards."""
  names = ("push_to_hub", "small", "license", "report_encoder")
  before = {name: flags.FLAGS[name].value for name in names}
  yield flags.FLAGS
  for name, value in before.items():
    flags.FLAGS[name].value = value
    flags.FLAGS[name].present = 0


def test_what_is_uploaded_is_the_export(parsed, tmp_path):
  parsed.push_to_hub, parsed.small = "owner/heart", True
  target = tmp_path / "folder"
  lines = export.run("simulated", str(target))
  assert lines == [f"model: {target}", "on the hub: https://hub/owner/heart"]
  assert Api.made == ("owner/heart", True, True)
  assert Api.files == {
    str(x.relative_to(target)): x.stat().st_size
    for x in target.rglob("*")
    if x.is_file()
  }
  assert {"README.md", "weights.safetensors"} < set(Api.files)
  card = (target / "README.md").read_text()
  assert 'cgdmer_jax.load("hf://owner/heart")' in card
  assert "\n# heart\n" in card


@pytest.mark.parametrize(
  ("call", "error", "message"),
  [
    ("whoami", errors.LocalTokenNotFoundError("x\ny"), "no token of the Hug"),
    ("whoami", refused(401), "does not know the token"),
    ("whoami", OSError("no route\nto host"), "OSError: no route to host"),
    ("create_repo", refused(403), "has no permission"),
    ("upload_folder", refused(500), "status 500 request 1"),
  ],
)
def test_what_the_hub_refuses_is_one_line(
  parsed, tmp_path, call, error, message
):
  parsed.push_to_hub, parsed.small = "owner/heart", True
  Api.fails = {call: error}
  with pytest.raises(UserError, match=message) as told:
    export.run("simulated", str(tmp_path / "a"))
  assert "\n" not in str(told.value)
  # Work is done, and kept, only where the hub may take it.
  assert (tmp_path / "a").exists() == (call != "whoami")


def test_names_and_flags_that_are_wrong(parsed, tmp_path, capsys):
  for name in ("heart", "a/b/c", "owner/..x"):
    parsed.push_to_hub = name
    with pytest.raises(UserError, match=f"--push_to_hub={name}"):
      export.run("simulated", str(tmp_path / "a"))
  parsed["report_encoder"].parse(True)
  parsed["license"].parse("mit")
  parsed["license"].present = 1
  parsed.push_to_hub = ""
  with pytest.raises(UserError, match="--license has no effect"):
    export.run("simulated", str(tmp_path / "a"))
  with pytest.raises(SystemExit):
    export.main(["", "simulated"])
  assert "expected RUN and DIR, got 1" in capsys.readouterr().err
  assert not [*tmp_path.iterdir()]


def test_a_model_of_the_hub(tmp_path, monkeypatch):
  folder = tmp_path / "snapshot"
  asked = []

  def snapshot(name):
    asked.append(name)
    shutil.copytree(SHIPPED / "simulated", folder)
    return str(folder)

  monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
  assert cgdmer_jax.load("hf://owner/heart").readout is not None
  assert asked == ["owner/heart"]
  monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda _: 1 / 0)
  with pytest.raises(UserError, match="hf://owner/heart cannot be fetched"):
    hub.fetch("hf://owner/heart")
