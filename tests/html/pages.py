"""Reads pages without a browser."""

import html.parser
import re

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(html.parser.HTMLParser):
  """Elements of a page in order: (tag, attributes, own text)."""

  def __init__(self, text):
    super().__init__()
    self.text, self.elements, self._open = text, [], []
    self.feed(text)
    self.close()
    assert not self._open, f"not closed: {self._open}"

  def handle_starttag(self, tag, attrs):
    element = [tag, dict(attrs), ""]
    assert len(attrs) == len(element[1]), f"{tag}: an attribute twice"
    self.elements.append(element)
    if tag not in VOID:
      self._open.append(element)

  def handle_startendtag(self, tag, attrs):
    self.elements.append([tag, dict(attrs), ""])

  def handle_endtag(self, tag):
    assert self._open and self._open[-1][0] == tag, f"</{tag}> closes nothing"
    self._open.pop()

  def handle_data(self, data):
    if self._open:
      self._open[-1][2] += data

  def all(self, tag, **attributes):
    return [
      e
      for e in self.elements
      if e[0] == tag and all(e[1].get(k) == v for k, v in attributes.items())
    ]

  def ids(self):
    return {a["id"] for _, a, _ in self.elements if "id" in a}

  def check(self):
    """Nothing is loaded from anywhere; every ECG has each lead once."""
    for tag, attributes, _ in self.elements:
      for name, value in attributes.items():
        if name.rpartition(":")[2] in ("src", "href", "srcset", "action"):
          assert value == "data:," or re.fullmatch(r"[\w.%-]+\.html", value), (
            f"{tag} {name}={value}"
          )
    for _, _, style in self.all("style"):
      assert not re.search(r"url\(|@import|http", style)
    for _, _, script in self.all("script"):
      assert not re.search(r"http|fetch|import|XMLHttp|eval", script)
    ids = [a["id"] for _, a, _ in self.elements if "id" in a]
    assert len(ids) == len(set(ids))
    return self

  def sheets(self):
    """Of each ECG the leads of the 3 x 4, and those that show the rhythm."""
    found = []
    for tag, attributes, _ in self.elements:
      if tag == "svg" and attributes.get("class") == "ecg":
        found.append(([], []))
      for k, name in enumerate(("data-lead", "data-rhythm")):
        if name in attributes:
          found[-1][k].append(attributes[name])
    return found


def steps(d):
  """Places of a path of one piece with relative lines, in mm."""
  import numpy as np

  begin, _, rest = d.removeprefix("M").partition("l")
  numbers = [
    [int(x) for x in re.findall(r"-?\d+", part)] for part in (begin, rest)
  ]
  moves = np.array(numbers[0] + numbers[1]).reshape(-1, 2)
  return moves.cumsum(axis=0) / 100
