"""Fenced blocks of the documentation, and what can be done with them."""

import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[1]


def blocks(page, language):
  """Contents of the fenced blocks of a page in one language, in order."""
  text = (ROOT / page).read_text("utf-8")
  return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


def apply(root, diff):
  """Applies a block of `diff` below `root`: inserts its lines with `+`."""
  head, *lines = diff.splitlines()
  path = root / head.removeprefix("--- ")
  text = path.read_text("utf-8")
  old = "".join(f"{x[1:]}\n" for x in lines if not x.startswith("+"))
  new = "".join(f"{x[1:]}\n" for x in lines)
  assert text.count(old) == 1, f"{path}: found {text.count(old)} times:\n{old}"
  path.write_text(text.replace(old, new), "utf-8")


def write(root, block):
  """Writes a block of Python whose first line names its file."""
  head, _, content = block.partition("\n")
  path = root / head.removeprefix("# ")
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content, "utf-8")
  return path


def commands(page):
  """Commands in the `sh` blocks of a page, as lists of words."""
  for block in blocks(page, "sh"):
    for line in block.replace("\\\n", " ").splitlines():
      for command in line.split("&&"):
        words = shlex.split(command, comments=True)
        if words:
          yield words
