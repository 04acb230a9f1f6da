"""The order of the house: who may import whom, and how long a room may be."""

import ast
import fnmatch
import inspect
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from tests import config_walk

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "cgdmer_jax"

# From the ground up: a wing imports from its own and from those before it.
# Modules at the root of the package are wings of their own.
WINGS = (
  ("arrays", "errors", "files", "paths", "process_flags", "command", "disk"),
  ("progress", "keyed", "log_file", "config", "profiling", "objects"),
  ("buckets",),
  ("sharding", "distributed"),
  ("data",),
  ("recordings",),
  ("models",),
  ("train",),
  ("trained_model", "planning"),
  ("inference",),
  ("warm_start",),
  ("figures",),
  ("evaluators",),
  ("exchange",),
  ("pages",),
  (
    *("evaluate", "pretrain", "bench", "export", "selftest", "predict"),
    *("calibrate", "listing", "main", "plan"),
  ),
  ("cli", "__main__"),
)
FLOOR = {wing: i for i, wings in enumerate(WINGS) for wing in wings}
# Subpackages of a wing, in the same sense; what is not named lies above.
EVALUATORS = ("prompts", "scores", "encoders", "probes")


def sources(*folders):
  files = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.py"],
    cwd=ROOT,
    check=True,
    capture_output=True,
    text=True,
  ).stdout.split()
  paths = [ROOT / name for name in files]
  return [
    path
    for path in paths
    if path.exists()
    and (not folders or path.relative_to(ROOT).parts[0] in folders)
  ]


def imports(path):
  """Full names of the modules that a file imports, wherever it does."""
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      for alias in node.names:
        name = f"{node.module}.{alias.name}"
        file = ROOT / f"{name.replace('.', '/')}.py"
        is_module = file.exists() or file.with_suffix("").is_dir()
        yield name if is_module else node.module


def wing(module):
  return module.split(".")[1]


def test_every_module_has_a_floor():
  found = {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"}
  found |= {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
  assert found == set(FLOOR)


def test_imports_run_downward():
  for path in sources("cgdmer_jax"):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if len(parts) < 2 or parts[1] == "__init__":
      continue
    for name in imports(path):
      if name.startswith("cgdmer_jax."):
        assert FLOOR[wing(name)] <= FLOOR[parts[1]], f"{path} imports {name}"


def test_imports_between_evaluators_run_downward():
  order = {name: i for i, name in enumerate(EVALUATORS)}
  for path in sources("cgdmer_jax"):
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[1:2] != ("evaluators",) or parts[2] not in order:
      continue
    for name in imports(path):
      other = name.split(".")
      if other[:2] == ["cgdmer_jax", "evaluators"] and len(other) > 2:
        floor = order.get(other[2], len(order))
        assert floor <= order[parts[2]], f"{path} imports {name}"


def test_no_circle_between_packages():
  for path in sources("cgdmer_jax"):
    for name in imports(path):
      top = name.partition(".")[0]
      assert top not in ("data_builders", "configs", "tests", "launch"), path


def test_no_torch_and_no_tensorflow():
  for path in sources("cgdmer_jax", "data_builders", "configs"):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert "tensorflow" not in tops, path
    if "torch" in tops:  # reads old checkpoints, where it is installed
      assert path.name == "hf_files.py"


def test_files_are_short():
  for path in sources():
    lines = path.read_text("utf-8").count("\n")
    assert lines <= 400, f"{path} has {lines} lines"


def functions(tree):
  """Functions with the number of classes and functions around them."""

  def visit(node, depth, public):
    for child in ast.iter_child_nodes(node):
      if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
        shown = public and (child.name == "__init__" or child.name[0] != "_")
        yield child, shown
        yield from visit(child, depth + 1, False)
      elif isinstance(child, ast.ClassDef):
        yield from visit(child, depth, public and child.name[0] != "_")
      else:
        yield from visit(child, depth, public)

  yield from visit(tree, 0, True)


@pytest.mark.parametrize("package", ["cgdmer_jax", "data_builders"])
def test_public_functions_are_annotated(package):
  for path in sources(package):
    for node, public in functions(ast.parse(path.read_text("utf-8"))):
      arguments = node.args
      every = arguments.posonlyargs + arguments.args + arguments.kwonlyargs
      every += [a for a in (arguments.vararg, arguments.kwarg) if a]
      if not public or arguments is None:
        continue
      where = f"{path}:{node.lineno} {node.name}"
      for argument in every:
        if argument.arg not in ("self", "cls"):
          assert argument.annotation, f"{where}: {argument.arg}"
      flax_setup = node.name in ("__init__", "setup")
      assert node.returns or flax_setup, f"{where}: result"


def test_functions_are_short():
  """Those of the package; a function is cut by subject, not by length."""
  for path in sources("cgdmer_jax", "data_builders", "configs"):
    for node, _ in functions(ast.parse(path.read_text("utf-8"))):
      lines = node.end_lineno - node.lineno + 1
      assert lines <= 70, f"{path}:{node.lineno} {node.name}: {lines} lines"


@pytest.mark.parametrize(
  "commands", ["export, main", "calibrate, selftest", "predict"]
)
def test_the_command_line_is_parsed_before_jax_is_imported(commands):
  code = inspect.cleandoc(f"""
    import sys
    from cgdmer_jax import {commands}
    sys.exit("jax" in sys.modules or "numpy" in sys.modules)
  """)
  subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_configuration_does_not_climb():
  """14 climbs when the whole of it was a parameter of 33 functions."""
  assert config_walk.climbs(config_walk.journey()) <= 12


def test_a_wheel_has_two_packages():
  """Configurations are files of a checkout, no package called `configs`."""
  project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
  patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
  folders = {path.parts[-2] for path in ROOT.glob("*/*.py")}
  packed = {f for f in folders if any(fnmatch.fnmatch(f, p) for p in patterns)}
  assert packed == {"cgdmer_jax", "data_builders"}


def test_what_is_imported_is_declared():
  """Names of packages on the left where they differ from the module."""
  others = {
    **{"absl-py": "absl", "importlib-resources": "importlib_resources"},
    **{"array-record": "array_record", "orbax-checkpoint": "orbax"},
    **{"tensorflow-datasets": "tensorflow_datasets"},
    **{
      "ml-collections": "ml_collections",
      "huggingface-hub": "huggingface_hub",
    },
  }
  project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))[
    "project"
  ]
  extras = project["optional-dependencies"]
  declared = {
    re.split(r"[^\w-]", line)[0]
    for line in sum(
      (extras[x] for x in ("beam", "convert", "formats", "gcs")),
      project["dependencies"],
    )
  }
  declared = {others.get(name.replace("_", "-"), name) for name in declared}
  declared.add("jaxlib")  # which jax is
  ours = {
    "cgdmer_jax",
    "data_builders",
    "configs",
    "tests",
    *sys.stdlib_module_names,
  }
  for path in sources("cgdmer_jax", "data_builders"):
    for name in imports(path):
      top = name.partition(".")[0]
      assert top in declared | ours | {"apache_beam"}, f"{path} imports {top}"
