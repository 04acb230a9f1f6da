"""Result files: complete, atomic, and explained if they are wrong."""

import dataclasses
import json
import os

import numpy as np
import pytest

from cgdmer_jax import files
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from tests.evaluators import made


def _no_constants(name):
  raise AssertionError(f"{name} in a JSON file")


def test_result_file_tells_everything(tmp_path):
  result = made.make_result()
  path = results.write(tmp_path, result)
  assert path.parent == tmp_path / "results" / "linear_probe-ptb_xl_100hz-form"
  assert path.name == f"a-{result.key}.json"
  document = json.loads(path.read_text(), parse_constant=_no_constants)
  assert document["num_records"] == 200
  assert document["label_mode"] == "fixed" and document["split"] == "test"
  assert {"jax", "numpy", "python"} <= set(document["versions"])
  assert (document["encoder"]["checkpoint"], document["encoder"]["step"]) == (
    *("runs/x", 9),
  )
  first, last = document["settings"]
  assert (first["fraction"], first["evaluation"]["num_seeds"]) == (0.01, 2)
  assert last["strengths"] == [0.1]
  row, _, rare = last["evaluation"]["labels"]
  assert row["auroc"]["low"] < row["auroc"]["value"] < row["auroc"]["high"]
  assert row["auprc"]["low"] < row["auprc"]["value"] < row["auprc"]["high"]
  assert row["prevalence"] == row["num_positive"] / 200
  assert rare["auroc"] is None and "fewer than 10" in rare["skipped"]


def test_a_result_comes_back_and_nothing_else_is_left(tmp_path):
  result = made.make_result()
  path = results.write(tmp_path, result)
  assert len(list(path.parent.iterdir())) == 2
  again = results.read(path)
  for field in dataclasses.fields(result):
    if field.name != "findings":
      assert getattr(again, field.name) == getattr(result, field.name)
  for a, b in (
    (again.findings.outcomes, result.findings.outcomes),
    (again.findings.measures, result.findings.measures),
  ):
    for x, y in zip(a, b, strict=True):
      for field in dataclasses.fields(x):
        np.testing.assert_equal(getattr(x, field.name), getattr(y, field.name))
  np.testing.assert_equal(vars(again.findings.test), vars(result.findings.test))
  assert again.findings.details == result.findings.details


def test_interrupted_write_keeps_the_old_result(tmp_path, monkeypatch):
  path = results.write(tmp_path, made.make_result())
  before = path.read_bytes()

  def interrupt(fd):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "fsync", interrupt)
  with pytest.raises(KeyboardInterrupt):
    results.write(tmp_path, made.make_result())
  assert len(list(path.parent.iterdir())) == 2
  assert path.read_bytes() == before
  results.read(path)


def test_arrays_of_another_run_are_refused(tmp_path):
  path = results.write(tmp_path / "a", made.make_result())
  other = results.write(tmp_path / "b", made.make_result(noise=2.0))
  other.with_suffix(".npz").replace(path.with_suffix(".npz"))
  with pytest.raises(UserError, match="does not belong to"):
    results.read(path)
  path.with_suffix(".npz").unlink()
  with pytest.raises(UserError, match="keep them beside the result"):
    results.read(path)


@pytest.mark.parametrize(
  "content, message",
  [(None, "cannot read the result"), ("{", "not valid JSON"), ("[]", "no")],
)
def test_wrong_result_files_are_explained(tmp_path, content, message):
  path = tmp_path / "r.json"
  if content is not None:
    path.write_text(content)
  with pytest.raises(UserError, match=message):
    results.read(path)


def test_names_that_are_no_text(tmp_path):
  """As where file names are bytes of another encoding, or taken for ASCII."""
  for content, text in ((b"gr\xc3\xb6", "gr\u00f6"), (b"gr\xf6", "gr\ufffd")):
    name = content.decode("ascii", "surrogateescape")
    assert results.Identity(name, "f").name == text
    files.write(tmp_path / "tables.md", f"{name}\n")
    assert (tmp_path / "tables.md").read_text("utf-8").startswith("gr\\udc")
