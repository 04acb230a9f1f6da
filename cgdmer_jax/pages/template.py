"""Fills the templates of `templates/`.

Values are escaped. Styles and the script that sorts tables are part of each
page, and its content security policy forbids to load anything.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jinja2

_FOLDER = pathlib.Path(__file__).with_name("templates")


_TEMPLATES = jinja2.Environment(
  loader=jinja2.FileSystemLoader(_FOLDER),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)


def render(name: str, **values: Any) -> str:
  """The page that a template makes of values.

  Args:
    name: `NAME.html` is the template.
    **values: what it needs, all of it.
  """
  return _TEMPLATES.get_template(f"{name}.html").render(values)
