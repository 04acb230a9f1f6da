"""Models on the Hugging Face hub: fetched, and published."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import TypeVar

from cgdmer_jax.errors import UserError, one_line

PREFIX = "hf://"
_T = TypeVar("_T")


def fetch(name: str) -> pathlib.Path:
  """Downloads an export; what was downloaded before is not fetched again.

  Args:
    name: `hf://OWNER/NAME`.

  Raises:
    UserError: the hub cannot be reached, or has no such repository.
  """
  import huggingface_hub

  repository = name.removeprefix(PREFIX)
  folder = _ask(
    f"{name} cannot be fetched",
    lambda: huggingface_hub.snapshot_download(repository),
  )
  return pathlib.Path(folder)


def check(repository: str) -> None:
  """Checks that somebody may publish under a name, before work is done.

  Raises:
    UserError: it is no OWNER/NAME, there is no valid token, or no network.
  """
  import huggingface_hub

  if repository.count("/") != 1:
    raise UserError(f"--push_to_hub={repository}; expected OWNER/NAME")
  what = f"--push_to_hub={repository}"
  _ask(what, lambda: huggingface_hub.utils.validate_repo_id(repository))
  _ask(what, lambda: huggingface_hub.HfApi().whoami())


def push(directory: pathlib.Path, repository: str) -> str:
  """Uploads an export; a repository that is made for it is private.

  Returns:
    Address of its page.

  Raises:
    UserError: see `check`; or the repository belongs to somebody else.
  """
  import huggingface_hub

  api = huggingface_hub.HfApi()
  what = f"{directory} is complete, but not on the hub"

  def upload() -> str:
    url = api.create_repo(repository, private=True, exist_ok=True)
    api.upload_folder(
      repo_id=repository,
      folder_path=directory,
      commit_message="Export of cgdmer_jax",
    )
    return str(url)

  return _ask(what, upload)


def _ask(what: str, request: Callable[[], _T]) -> _T:
  """Does a request; all that can go wrong with it becomes one line."""
  from huggingface_hub import errors

  try:
    return request()
  except errors.LocalTokenNotFoundError as e:
    raise UserError(
      f"{what}: no token of the Hugging Face hub here; give one with `hf auth"
      " login` or $HF_TOKEN"
    ) from e
  except errors.HfHubHTTPError as e:
    status = getattr(e.response, "status_code", None)
    reason = {
      401: "the hub does not know the token, or the name",
      403: "the token has no permission for it",
      404: "the hub has no such repository",
    }.get(status)
    raise UserError(f"{what}: {reason or one_line(e)}") from e
  # Errors of the HTTP library, which differs between versions.
  except Exception as e:
    raise UserError(f"{what} ({type(e).__name__}: {one_line(e)})") from e
