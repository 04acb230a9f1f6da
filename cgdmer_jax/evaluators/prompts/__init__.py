"""Class prompts of zero-shot classification.

A prompt file is JSON of one of two shapes:

- {label set: {label: [sentence, ...]}}. A label set without a section of its
  own takes the section "all", so the form and rhythm statements of PTB-XL are
  written once, while STTC as a diagnostic subclass and AMI as a statement or as
  a subclass have different sentences.
- {label: sentence} or {label: [sentence, ...]} for every label set, the shape
  of published prompt files such as CKEPE.

A diagnostic class or subclass is what its statements have in common: it has
the sentences of all of them beside its own.

Ours are `scp.json` for all label sets of SCP statements, and one file named
after each other label set. Where they know no sentence for a label, as in a
data set of one's own, its sentence is its own text.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

from cgdmer_jax import paths
from cgdmer_jax.errors import UserError

SCP_PROMPTS = pathlib.Path(__file__).with_name("scp.json")


def load(
  label_set: str,
  label_names: Sequence[str],
  path: str | pathlib.Path = "",
) -> dict[str, tuple[str, ...]]:
  """Prompts of every label of a label set.

  Args:
    label_set: name of the set, such as "superclass".
    label_names: its labels.
    path: prompt file; empty for ours.

  Returns:
    Label -> its sentences, in the order of `label_names`.

  Raises:
    UserError: the file cannot be read or has another shape, or a label has no
      prompt in it.
  """
  is_ours = not path
  if path:
    path = paths.local(path, "--config.evaluation.prompts")
  else:
    path = _ours(label_set)
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except OSError as e:
    raise UserError(
      f"cannot read the prompt file {path}: {e.strerror or e}"
    ) from e
  except ValueError as e:  # not JSON, or not UTF-8
    raise UserError(f"prompt file {path} is not valid JSON: {e}") from e
  section = _section(content, label_set, path)
  prompts = {}
  for name in label_names:
    sentences = section.get(name, own_text(name) if is_ours else None)
    sentences = [sentences] if isinstance(sentences, str) else sentences or []
    if not isinstance(sentences, list) or not all(
      isinstance(s, str) for s in sentences
    ):
      raise UserError(
        f"prompts of label {name!r} in {path} must be a sentence or a list of"
        " sentences"
      )
    sentences = tuple(s.strip() for s in sentences if s.strip())
    if not sentences:
      raise UserError(
        f"label {name!r} of label set {label_set!r} has no prompt in {path};"
        " add one"
      )
    prompts[name] = sentences
  return prompts


def own_text(label: str) -> str:
  """A label as a sentence, for lack of a better one."""
  return " ".join(label.replace("_", " ").split())


def names_in_words(label_set: str, label_names: Sequence[str]) -> list[str]:
  """What each label means: its first sentence of ours; empty where unknown."""
  try:
    section = _section(
      json.loads(_ours(label_set).read_text(encoding="utf-8")),
      *(label_set, _ours(label_set)),
    )
  except UserError:
    section = {}
  return [(section.get(name) or [""])[0] for name in label_names]


def _ours(label_set: str) -> pathlib.Path:
  path = SCP_PROMPTS.with_name(f"{label_set}.json")
  return path if path.is_file() else SCP_PROMPTS


def _section(content, label_set: str, path: pathlib.Path) -> dict:
  """The part of a prompt file that serves a label set."""
  if not isinstance(content, dict) or not content:
    raise UserError(
      f"prompt file {path} must hold an object with the prompts of each label"
    )
  nested = [isinstance(v, dict) for v in content.values()]
  if not any(nested):
    return content
  if not all(nested):
    raise UserError(
      f"prompt file {path} mixes label sets and labels at its top level; give"
      " either {label set: {label: [sentences]}} or {label: sentence}"
    )
  for name in (label_set, "all"):
    if name in content:
      return content[name]
  raise UserError(
    f"prompt file {path} has no section {label_set!r} or 'all', only"
    f" {', '.join(content)}"
  )
