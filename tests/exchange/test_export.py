"""Exports: complete, the same model, and usable without our code."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors
import yaml

import cgdmer_jax
from cgdmer_jax import selftest, sharding
from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import parse
from cgdmer_jax.evaluators.encoders.pretrained import Pretrained
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.exchange import card, directory, golden, program
from cgdmer_jax.exchange.directory import Choices
from tests.evaluators import made
from tests.runs import make_run


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
  """The shipped weights with everything; no data set is needed."""
  root = tmp_path_factory.mktemp("export")
  directory.export("simulated", root / "heart", root)
  return root / "heart"


@pytest.fixture(scope="module")
def run(tiny_data, tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  return make_run(tiny_data, root / "clip", "clip")


def test_an_export_is_the_model(shipped):
  assert {x.name for x in shipped.iterdir()} == {
    *("README.md", "config.json", "ecg_encoder.stablehlo", "golden.npz"),
    *("readout.json", "tokenizer", "weights.safetensors"),
  }
  ours, theirs = cgdmer_jax.load("simulated"), cgdmer_jax.load(shipped)
  ecg = golden.recordings()[:1]
  both = [x.encode_ecg(ecg, 500, golden.LEADS)[0] for x in (ours, theirs)]
  np.testing.assert_array_equal(*both)
  first = [x.findings(ecg[0], 500, golden.LEADS)[0] for x in (ours, theirs)]
  assert first[0] == first[1]
  # The weights alone tell their configuration.
  with safetensors.safe_open(shipped / "weights.safetensors", "numpy") as file:
    metadata = json.loads(file.metadata()["cgdmer_jax"])
  text = (shipped / "config.json").read_text()
  assert metadata["config"] == json.loads(text)


def test_an_export_takes_part_in_evaluations(shipped):
  mesh = sharding.make_mesh((-1, 1, 1))
  # A copy under another name is the same encoder: it is there once.
  encoder, twin = parse.parse(f"simulated,{shipped},random", mesh, 4)
  assert twin.identity.name == "random" and not twin.training_data
  trained = cgdmer_jax.load("simulated").trained
  assert encoder.identity.step == trained.step
  assert encoder.training_data.dataset == trained.config.data.dataset
  leaves, expected = (
    jax.tree.leaves(x.params) for x in (encoder.trained_model(), trained)
  )
  for x, y in zip(leaves, expected, strict=True):
    np.testing.assert_array_equal(x, y)


def test_selftest_of_an_export(shipped, capsys, monkeypatch):
  selftest.main(["", str(shipped)])
  lines = capsys.readouterr().out.splitlines()
  assert [x.split("  ")[0] for x in lines] == [
    *("shared, model", "specific, model", "reports, model"),
    *("probabilities, model", "shared, StableHLO", "specific, StableHLO"),
  ]
  assert all(x.endswith(" ok") for x in lines)
  assert all(float(x.split()[-2]) < 1e-5 for x in lines)
  # What is too far is told, and is a failure.
  drawn = golden.recordings()
  assert np.isnan(drawn).any(axis=2).sum() == 1
  monkeypatch.setattr(golden, "_outputs", lambda *_: {"shared": drawn})
  with pytest.raises(SystemExit) as stop:
    selftest.main(["", str(shipped)])
  assert stop.value.code == 1
  assert "inf  above 0.001" in capsys.readouterr().out


ALONE = """
import sys
sys.modules["cgdmer_jax"] = None  # an import of it fails
import jax.export, numpy as np
path, given, made = sys.argv[1:]
encode = jax.export.deserialize(bytearray(open(path, "rb").read())).call
arrays = np.load(given)
found = {}
for n in (1, 3, 17):
  for k, x in encode(arrays["ecg"][:n], arrays["lead_valid"][:n]).items():
    found[f"{k}/{n}"] = np.asarray(x)
np.savez(made, **found)
"""


def test_stablehlo_in_a_process_without_our_code(shipped, tmp_path):
  rng = np.random.default_rng(0)
  ecg = rng.normal(0, 200, (17, 12, 1000)).astype(np.int16)
  lead_valid = rng.random((17, 12)) < 0.8
  lead_valid[:, 1] = True
  given, made_file = tmp_path / "given.npz", tmp_path / "made.npz"
  np.savez(given, ecg=ecg, lead_valid=lead_valid)
  path = shipped / program.FILE_NAME
  subprocess.run(
    [sys.executable, "-I", "-c", ALONE, path, given, made_file],
    cwd=tmp_path,
    env={**os.environ, "JAX_PLATFORMS": "cpu"},
    check=True,
  )
  expected = cgdmer_jax.load("simulated").trained.encode_ecg(ecg, lead_valid)
  found = np.load(made_file)
  for n in (1, 3, 17):
    for part in ("shared", "specific"):
      x = found[f"{part}/{n}"]
      assert x.dtype == np.float32
      known = getattr(expected, part)[:n]
      np.testing.assert_allclose(x, known, atol=1e-6 * np.abs(known).max())


def shorten(path):
  path.write_bytes(path.read_bytes()[:-100])


def change(path):
  document = json.loads(path.read_text()) | {"seed": 5}
  path.write_text(json.dumps(document))


def other_weights(path):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)


def remove(path):
  path.unlink()


@pytest.mark.parametrize(
  ("damage", "file", "message"),
  [
    (remove, "weights.safetensors", "no weights.safetensors in"),
    (other_weights, "weights.safetensors", "are of two exports"),
    (remove, "golden.npz", "golden.npz cannot be read"),
    (shorten, "golden.npz", "golden.npz cannot be read"),
    (remove, "ecg_encoder.stablehlo", "ecg_encoder.stablehlo cannot be read"),
    (shorten, "ecg_encoder.stablehlo", "ecg_encoder.stablehlo cannot be read"),
    (remove, "config.json", "cannot read the configuration"),
    (change, "config.json", "config.json is not the configuration"),
    (shorten, "readout.json", "readout is damaged"),
    (remove, "tokenizer/tokenizer.json", "tokenizer"),
  ],
)
def test_damage_is_told_in_one_line(
  shipped, tmp_path, capsys, damage, file, message
):
  copy = tmp_path / "copy"
  for path in shipped.rglob("*"):
    if path.is_file():
      target = copy / path.relative_to(shipped)
      target.parent.mkdir(parents=True, exist_ok=True)
      target.write_bytes(path.read_bytes())
  damage(copy / file)
  with pytest.raises(SystemExit) as stop:
    selftest.main(["", str(copy)])
  assert stop.value.code == 1
  text = capsys.readouterr().err
  assert text.startswith("error: ") and text.count("\n") == 1
  assert message in text


def front_matter(text):
  _, head, body = text.split("---\n", 2)
  return yaml.safe_load(head), body


def test_a_run_with_its_card(run, tiny_data, tmp_path):
  encoder = Pretrained(str(run), sharding.make_mesh((-1, 1, 1)), 1)
  for task in ("zero_shot", "linear_probe"):
    result = made.make_result(task=task)
    results.write(run, dataclasses.replace(result, encoder=encoder.identity))
  results.write(run, made.make_result(name="another"))
  groups = tmp_path / "groups.csv"
  lines = [f"r{i},{'fm'[i % 2]}" for i in range(200)]
  groups.write_text("\n".join(["id,sex", *lines]))
  target = tmp_path / "mine"
  choices = Choices(
    label_sets=("rhythm",), groups=groups, licence="mit", small=True
  )
  directory.export(str(run), target, tiny_data, choices)
  assert not (target / golden.FILE_NAME).exists()
  check_that_it_is_the_run(target, run, tiny_data)
  head, body = front_matter((target / "README.md").read_text())
  assert head["license"] == "mit" and head["library_name"] == "cgdmer_jax"
  (model_index,) = head["model-index"]
  assert model_index["name"] == "mine"
  metrics = [y for x in model_index["results"] for y in x["metrics"]]
  assert {x["name"] for x in metrics} == {
    f"macro AUROC, form, {x}" for x in ("zero-shot", "probe 1 %", "probe 100 %")
  }
  outcome = made.make_result().findings.outcomes[-1].evaluation
  macro, (label, *_) = outcome.macro_auroc, outcome.labels
  row = f"{macro.value:.3f} [{macro.low:.3f}, {macro.high:.3f}]"
  assert f"| probe 100 % | {row} |" in body
  row = f"| A | {label.num_positive} | {label.prevalence:.3f} |"
  assert row in body and "rare (" in body
  assert "| sex: female | zero-shot | 100 |" in body
  assert "64 records)" in body and "Not for diagnosis." in body
  assert golden.hash_of(target / "weights.safetensors") in body
  assert str(tmp_path) not in body and "stablehlo" not in body
  assert "No licence" not in body and "not known" not in body
  with pytest.raises(UserError, match="results=.* has no result of these"):
    other = Choices(results=tmp_path)
    directory.export(str(run), tmp_path / "b", tiny_data, other)
  with pytest.raises(UserError, match="mine exists; choose"):
    directory.export(str(run), target, tiny_data)


def check_that_it_is_the_run(target, run, tiny_data):
  model, trained = cgdmer_jax.load(target), cgdmer_jax.load(run)
  ecg = EcgSource("synthetic_ecg/tiny", "test", tiny_data).signal(0)["ecg"]
  both = [x.encode_ecg(ecg / 1e3, 100, LEADS)[0] for x in (model, trained)]
  np.testing.assert_allclose(*both, atol=2e-2)  # float16
  texts = [x.encode_report(["sinus rhythm"]) for x in (model, trained)]
  np.testing.assert_allclose(*texts, atol=2e-2)
  assert model.readout.num_records == 64
  labels = model.readout.labels
  assert {x.label_set for x in labels} == {"rhythm"}
  assert any(x.slope is None for x in labels)
  assert labels[0].sentences[0] == labels[0].name
  with pytest.raises(UserError, match="no calibrated labels"):
    trained.findings(ecg / 1e3, 100, LEADS)


def test_a_run_without_reports_has_no_labels(tiny_data, tmp_path):
  mae = make_run(tiny_data, tmp_path / "mae", "mae")
  directory.export(str(mae), tmp_path / "a", tiny_data, Choices(small=True))
  loaded = cgdmer_jax.load(tmp_path / "a")
  assert loaded.readout is None and loaded.trained.step == 7
  text = (tmp_path / "a" / "README.md").read_text()
  assert "zero_shot" not in text and "Calibration" not in text
  assert "No evaluation of these weights" in text
  with pytest.raises(UserError, match="no report encoder"):
    directory.export_report_encoder(str(mae), tmp_path / "b")


def test_nothing_is_left_of_an_export_that_fails(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(card, "write", full)
  with pytest.raises(UserError, match="cannot be written: .*No space"):
    target = tmp_path / "a"
    directory.export("simulated", target, tmp_path, Choices(small=True))
  assert not [*tmp_path.iterdir()]
