"""The way of the configuration through the code, read from its syntax.

    python -m tests.config_walk [FILE:FUNCTION:PARAMETER]

Follows the parameter (default: `config` of `pretrain.run`), and its sections,
from call to call. A stay is a file in which a field of it is read or it is
handed on. A climb is a step to a file that lies above the present one in the
order of imports; coming back from a call to read on is one, too.
"""

import ast
import functools
import pathlib
import sys

from cgdmer_jax.config import fields

ROOT = pathlib.Path(__file__).parents[1]
START = "cgdmer_jax/pretrain.py:run:config"


TREE = fields.pretraining().to_dict()


def section(node, tracked):
  """The part of the configuration that an expression is, as a dict, or None.

  Args:
    node: the expression.
    tracked: name of a variable -> the part that it holds.
  """
  if isinstance(node, ast.Name):
    return tracked.get(node.id)
  if isinstance(node, ast.Attribute):
    part = section(node.value, tracked)
    if part is None:  # kept in an object: training.config
      return TREE if node.attr == "config" else None
    value = part.get(node.attr)
    return value if isinstance(value, dict) else None
  return None


@functools.cache
def module(path):
  """Functions of a file by name, and what names of modules stand for."""
  tree = ast.parse((ROOT / path).read_text("utf-8"))
  functions, names = {}, {}
  for node in ast.walk(tree):
    if isinstance(node, ast.ClassDef):
      for child in node.body:
        if isinstance(child, ast.FunctionDef):
          functions[f"{node.name}.{child.name}"] = child
      init = functions.get(f"{node.name}.__init__")
      if init:
        functions[node.name] = init
    elif isinstance(node, ast.ImportFrom):
      for alias in node.names:
        full = f"{node.module}.{alias.name}".replace(".", "/")
        names[alias.asname or alias.name] = full
  for node in tree.body:
    if isinstance(node, ast.FunctionDef):
      functions[node.name] = node
  return functions, names


@functools.cache
def floor(path):
  """Length of the longest way down through imports from a file."""
  _, names = module(path)
  below = [0]
  for full in names.values():
    for file in (f"{full}.py", f"{full.rpartition('/')[0]}.py"):
      if file.startswith("cgdmer_jax") and (ROOT / file).exists():
        below.append(1 + floor(file))
        break
  return max(below)


def target(call, path):
  """File and function that a call leads to; None for those of libraries."""
  functions, names = module(path)
  function = call.func
  if isinstance(function, ast.Name):
    if function.id in functions:
      return path, functions[function.id]
    file, _, name = names.get(function.id, "").rpartition("/")
  elif isinstance(function, ast.Attribute) and isinstance(
    function.value, ast.Name
  ):
    file, name = names.get(function.value.id, ""), function.attr
  else:
    return None
  file = f"{file}.py"
  if not file.startswith("cgdmer_jax") or not (ROOT / file).exists():
    return None
  found = module(file)[0].get(name)
  return found and (file, found)


def walk(path, function, tracked, stays, seen):
  """Appends the files of all uses in `function`, in the order of the code."""
  tracked = dict(tracked)
  nodes = sorted(
    (n for n in ast.walk(function) if hasattr(n, "lineno")),
    key=lambda n: (n.lineno, n.col_offset),
  )
  for node in nodes[1:]:
    if isinstance(node, ast.Assign):  # a changed copy keeps its name
      part = section(node.value, tracked)
      names = [n.id for n in node.targets if isinstance(n, ast.Name)]
      tracked |= dict.fromkeys(names if part is not None else (), part)
    if isinstance(node, ast.Attribute):
      if section(node.value, tracked) is not None:
        stays.append(path)
    elif isinstance(node, ast.Call):
      _enter(path, node, tracked, stays, seen)


def _enter(path, call, tracked, stays, seen):
  """Goes where a call takes the configuration, once for each part of it."""
  given = {i: section(a, tracked) for i, a in enumerate(call.args)}
  given |= {k.arg: section(k.value, tracked) for k in call.keywords if k.arg}
  given = {key: part for key, part in given.items() if part is not None}
  if not given:
    return
  stays.append(path)
  found = target(call, path)
  if not found:
    return
  file, callee = found
  names = [a.arg for a in callee.args.posonlyargs + callee.args.args]
  names = names[1:] if names[:1] == ["self"] else names
  inner = {
    names[key] if isinstance(key, int) else key: part
    for key, part in given.items()
    if not isinstance(key, int) or key < len(names)
  }
  place = (
    file,
    callee.lineno,
    tuple(sorted((n, id(p)) for n, p in inner.items())),
  )
  if place not in seen:
    seen.add(place)
    walk(file, callee, inner, stays, seen)


def journey(start=START):
  """Files in the order in which the configuration comes to them."""
  path, name, parameter = start.split(":")
  stays = []
  walk(path, module(path)[0][name], {parameter: TREE}, stays, set())
  return [a for i, a in enumerate(stays) if i == 0 or stays[i - 1] != a]


def climbs(stays):
  return sum(
    floor(b) > floor(a) for a, b in zip(stays, stays[1:], strict=False)
  )


if __name__ == "__main__":
  rooms = journey(*sys.argv[1:2])
  print("\n".join(f"{floor(room):3} {room}" for room in rooms))
  print(f"{len(rooms)} stays, {len({*rooms})} files, {climbs(rooms)} climbs")
