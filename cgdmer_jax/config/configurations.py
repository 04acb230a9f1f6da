"""Our configurations by name: `--config=pretrain:base`.

They are files, not modules; in this package lies a link to their folder, so
they are part of every installation.
"""

from __future__ import annotations

import ast
import pathlib
import textwrap

from cgdmer_jax.config import fields

FOLDER = pathlib.Path(__file__).parents[1] / "configs"
TASKS = pathlib.Path(__file__).parents[1] / "evaluators" / "tasks"


def names() -> list[str]:
  """Names of the configurations."""
  return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def summaries(folder: pathlib.Path) -> dict[str, str]:
  """File name -> first line of its docstring, of each file in a folder."""
  found = {}
  for path in sorted(folder.glob("[!_]*.py")):
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    found[path.stem] = doc.partition("\n")[0].rstrip(".")
  return found


def by_path(argv: list[str]) -> list[str]:
  """The command line with paths in place of names of configurations."""
  found, is_value = [], False
  for word in argv:
    flag, equals, value = word.partition("=")
    if is_value:
      word = _path(word)
    elif equals and flag in ("--config", "-config"):
      word = f"{flag}={_path(value)}"
    is_value = word in ("--config", "-config")
    found.append(word)
  return found


def _path(value: str) -> str:
  """`NAME:OPTIONS` with the path of the file; anything else as it is."""
  name, colon, options = value.partition(":")
  if name in names() and not pathlib.Path(name).is_file():
    return f"{FOLDER / name}.py{colon}{options}"
  return value


def describe() -> str:
  """Configurations, tasks and fields, for --help."""
  lines = ["configurations, --config=NAME:PRESET,KEY=VALUE:"]
  lines += [f"  {k:16} {v}" for k, v in summaries(FOLDER).items()]
  every = ", ".join(summaries(TASKS))
  lines.append(
    "tasks of an evaluation, --config.evaluation.tasks=\"('NAME',)\":"
  )
  lines += textwrap.wrap(every, 76, initial_indent="  ", subsequent_indent="  ")
  lines.append(
    "fields, --config.FIELD=VALUE; --print_config shows their values and"
  )
  lines.append("config/fields.py what they mean:")
  declared = fields.pretraining().to_dict()
  single = [k for k, v in declared.items() if not isinstance(v, dict)]
  for section, inner in [("", single), *declared.items()]:
    if isinstance(inner, dict | list):
      text = f"{section}: " if section else ""
      lines += textwrap.wrap(
        text + ", ".join(inner),
        *(76,),
        initial_indent="  ",
        subsequent_indent="    ",
      )
  return "\n".join(lines)
