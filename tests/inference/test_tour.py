"""The notebook runs, as it is, from its first cell to its last."""

import json
import pathlib

from cgdmer_jax.data.leads import LEADS

NOTEBOOK = pathlib.Path(__file__).parents[2] / "docs/tour.ipynb"


def test_the_tour(model, capsys):
  del model  # its programs are compiled by now
  cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
  codes = [x for x in cells if x["cell_type"] == "code"]
  assert len(codes) >= 6 and not any(x["outputs"] for x in codes)
  names, printed = {}, []
  for cell in codes:
    exec("".join(cell["source"]), names)
    printed.append(capsys.readouterr().out)
  assert printed[0].startswith("(12, 5000)")
  assert names["record"]["report"] in printed[0]
  drawn = {text.get_text() for text in names["figure"].findobj(match=_is_text)}
  assert set(LEADS) <= drawn
  best = names["findings"][0]
  assert f"{best.probability:6.1%}" in printed[4] and best.name in printed[4]
  assert [line[6:] for line in printed[3].splitlines()] == names["sentences"]


def _is_text(artist):
  return hasattr(artist, "get_text")
