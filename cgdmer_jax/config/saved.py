"""`config.json`: the configuration that a workdir belongs to.

Its field `format` is the number of the rules by which it was written; files
without it have format 1. Fields that were declared later take their defaults.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from ml_collections import ConfigDict

from cgdmer_jax import files
from cgdmer_jax.config import fields
from cgdmer_jax.errors import UserError, one_line

FORMAT = 2
FILE_NAME = "config.json"

# Fields that change where and how fast a run is computed, not its result.
_HOW = {
  *("mesh", "compute.attention", "compute.remat", "train.microbatches"),
  *("loss.ring", "data.num_workers", "report.device_cache_mib"),
}


def read(workdir: pathlib.Path) -> ConfigDict:
  """Reads the configuration of a run, complete and unlocked.

  Raises:
    UserError: the file cannot be read, or a newer version wrote it.
  """
  path = workdir / FILE_NAME
  try:
    document = json.loads(path.read_text(encoding="utf-8"))
    number = document.pop("format", 1)
  except (OSError, ValueError, AttributeError) as e:
    raise UserError(
      f"cannot read the configuration {path} ({one_line(e)}); restore it from a"
      " backup"
    ) from e
  if number > FORMAT:
    raise UserError(
      f"{path} has format {number}, this version reads up to {FORMAT}; use a "
      "newer version of cgdmer_jax"
    )
  return complete(document)


def complete(document: dict[str, Any]) -> ConfigDict:
  """Adds the defaults of fields that a saved configuration lacks."""
  return ConfigDict(_merge(fields.pretraining().to_dict(), document))


def _merge(defaults: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
  merged = {**defaults, **given}
  for key, value in defaults.items():
    if isinstance(value, dict) and isinstance(given.get(key), dict):
      merged[key] = _merge(value, given[key])
  return merged


def decisive(config: ConfigDict) -> dict[str, Any]:
  """The fields that decide the result of a pretraining, "a.b" -> value.

  Fields at their defaults are left out, so a run has the same decisive fields
  before and after a field is declared.
  """
  defaults = _flat(fields.pretraining())
  return {
    key: value
    for key, value in _flat(config).items()
    if key not in _HOW
    and not key.startswith("evaluation.")
    and value != defaults.get(key)
  }


def changed(old: ConfigDict, new: ConfigDict) -> str | None:
  """The first decisive field in which two configurations differ, if any.

  A run may be prolonged: `train.steps` may grow.
  """
  a, b = _flat(old), _flat(new)
  keys = decisive(old).keys() | decisive(new).keys()
  if old.train.steps < new.train.steps:
    keys -= {"train.steps"}
  return next((k for k in sorted(keys) if a.get(k) != b.get(k)), None)


def write(workdir: pathlib.Path, config: ConfigDict, is_begun: bool) -> bool:
  """Writes `config.json`.

  Once there is a checkpoint, the workdir belongs to one configuration for good,
  except for where and how it is computed, and how it is evaluated afterwards;
  and `train.steps` may grow. The learning rate then follows the schedule of the
  new length from the next step on: at the end of a run it rises again to where
  a run of the new length has it at that step.

  Args:
    workdir: folder of the run.
    config: the whole configuration.
    is_begun: whether the run has a checkpoint.

  Returns:
    Whether the workdir held another configuration, without a checkpoint; its
    files are to be replaced.

  Raises:
    UserError: the workdir holds a run of another configuration.
  """
  path = workdir / FILE_NAME
  text = to_json(config)
  if not path.exists():
    files.write(path, text)
    return False
  if path.read_text(encoding="utf-8") == text:
    return False
  if is_begun:
    old = read(workdir)
    key = changed(old, config)
    if key:
      values = _flat(old).get(key), _flat(config).get(key)
      raise UserError(
        f"{workdir} holds a run with {key}={values[0]!r}, not {values[1]!r}; "
        "give the same configuration to resume it, or another --workdir"
      )
  files.write(path, text)
  return not is_begun


def to_json(config: ConfigDict) -> str:
  """The content of `config.json`."""
  document = {"format": FORMAT, **config.to_dict()}
  return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _flat(config: ConfigDict) -> dict[str, Any]:
  """Name such as "model.ecg.width" -> value as JSON has it."""
  return _flattened(json.loads(json.dumps(config.to_dict())), "")


def _flattened(tree: Any, name: str) -> dict[str, Any]:
  if not isinstance(tree, dict):
    return {name: tree}
  parts = (_flattened(v, f"{name}.{k}" if name else k) for k, v in tree.items())
  return {k: v for part in parts for k, v in part.items()}
