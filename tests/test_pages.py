"""Every command in the documentation exists, with its flags and files."""

import os
import pathlib
import re
import subprocess
import sys

import pytest
from absl import flags

from cgdmer_jax import cli
from data_builders import build
from tests import pages

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted(
  str(path.relative_to(ROOT))
  for folder in (".", "docs", "launch", "data_builders", "data_builders/*")
  for path in ROOT.glob(f"{folder}/*.md")
)
# What a command of each kind is checked with: the same one, without its effect.
_PARSE = "import sys; from {0} import {1} as m; m.parse_flags(sys.argv)"


def every_command():
  for page in PAGES:
    for words in pages.commands(page):
      yield pytest.param(words, id=f"{page}: {' '.join(words)}"[:120])


def run(*arguments, **options):
  return subprocess.run(
    arguments,
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
    **options,
  )


def check(arguments):
  done = run(*arguments)
  assert done.returncode == 0, done.stderr[-1000:]


@pytest.mark.parametrize("words", [*every_command()])
def test_commands_of_the_pages_exist(words):
  while "=" in words[0] and words[0].isupper():
    words = words[1:]  # VARIABLE=value
  program, *rest = words
  if program in ("git", "cd", ".", "pip", "export", "gcloud", "kubectl"):
    return  # not ours
  if program == "make":
    check(["make", "--dry-run", *rest])
  elif program in ("python", ".venv/bin/python"):
    check_python(rest)
  elif program == "cgdmer":
    module, config, _ = cli.COMMANDS[rest[0]]
    if len(rest) > 1:
      given = [f"--config={config}"] if config else []
      check_python(["-m", module, *given, *rest[1:]])
  elif program == "sbatch":
    assert (ROOT / next(w for w in rest if not w.startswith("-"))).exists()
  else:
    assert os.access(ROOT / program, os.X_OK), f"no program {program}"


def check_python(words):
  if words[0] == "launch/sweep.py":
    check([sys.executable, *words, "--dry_run"])
  elif words[:2] in (["-m", "pip"], ["-m", "pytest"]):
    return
  elif words[0] != "-m":
    assert words[0] == "own_encoder.py"  # run by test_extending.py
  elif words[1].startswith("cgdmer_jax."):
    package, name = words[1].split(".")
    # What docs/extending.md adds stands for something that is there.
    added = {"uniform_clip": "clip", "nearest_record": "linear_probe"}
    rest = words[2:]
    for new, other in added.items():
      rest = [w.replace(new, other) for w in rest]
    code = _PARSE.format(package, name if name == "main" else "command")
    load = code if name == "main" else f"import {words[1]}; {code}"
    check([sys.executable, "-c", load, *rest])
  elif words[1] == "data_builders.build":
    key_flags = flags.FLAGS.get_key_flags_for_module(build)
    known = {flag.name: flag for flag in key_flags}
    for word in words[2:]:
      name, _, value = word.removeprefix("--").partition("=")
      known[name].parser.parse(value or True)
  else:
    assert (ROOT / f"{words[1].replace('.', '/')}.py").exists(), words


def test_links_between_pages():
  for page in PAGES:
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
      if "://" not in target:
        path = (ROOT / page).parent / target
        assert path.exists(), f"{page} links to {target}"


def test_files_that_pages_name_exist():
  """Paths in code marks that begin like ours, without a placeholder."""
  pattern = (
    r"`((?:cgdmer_jax|configs|data_builders|launch|tests|docs)/[\w/.-]+)"
  )
  for page in PAGES:
    for name in re.findall(pattern, (ROOT / page).read_text("utf-8")):
      if not re.search("NAME|TASK|infarction", name):
        assert (ROOT / name.rstrip(".")).exists(), f"{page} names {name}"


def test_names_that_pages_give_to_files_exist():
  """`path.py`: `name`, as docs/method.md refers to the code."""
  pattern = r"`([\w/]+\.py)`:((?:[\s,;]*`[\w.]+`)+)"
  for page in PAGES:
    text = (ROOT / page).read_text("utf-8")
    for name, rest in re.findall(pattern, text):
      paths = [ROOT / name, ROOT / "cgdmer_jax" / name]
      path = next((p for p in paths if p.exists()), None)
      assert path, f"{page} names {name}"
      code = path.read_text("utf-8")
      for symbol in re.findall(r"`([\w.]+)`", rest):
        known = re.search(rf"\b{symbol.split('.')[-1]}\b", code)
        assert known, f"{page}: {name} has no {symbol}"
