"""Pages of recordings: what they show is what the model was given and says."""

import dataclasses
import pathlib

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import folders, output, predicting
from cgdmer_jax.inference.output import FileOutcome
from cgdmer_jax.pages import record
from cgdmer_jax.recordings import read, signals
from cgdmer_jax.recordings.tables import Defaults
from tests.html.pages import Page, steps


def outcome(model, ecg_mv, name="a.csv", leads=LEADS, rate=500.0, asked=()):
  source = read.FileRecording(
    name, "array", signals.recording(leads, ecg_mv, 1e3, rate)
  )
  (result,) = model.analyse([model.prepare(source)], asked)
  return FileOutcome(name, "ok", "", result)


def render(model, made):
  text = record.render(model, made.file, made.result)
  return Page(text).check()


def test_the_recording_is_drawn_in_mv_every_lead_once(model, ecg_mv):
  page = render(model, outcome(model, ecg_mv[0], asked=["paced <rhythm>"]))
  rows = "I aVR V1 V4", "II aVL V2 V5", "III aVF V3 V6"
  assert page.sheets() == [(" ".join(rows).split(), ["II"])]
  traces = [a for tag, a, _ in page.elements if tag == "path"]
  pulse = steps(next(a["d"] for a in traces if a.get("class") == "trace pulse"))
  zero = pulse[0, 1]
  assert (zero - pulse[2, 1]).round(6) == 10
  assert (pulse[3, 0] - pulse[2, 0]).round(6) == 5
  first = steps(next(a["d"] for a in traces if a.get("class") == "trace"))
  expected = ecg_mv[0, 0, :1250]
  np.testing.assert_allclose((zero - first[:, 1]) / 10, expected, atol=1.1e-3)
  np.testing.assert_allclose(np.ptp(first[:, 0]), 1249 / 500 * 25, atol=0.011)
  (svg,) = page.all("svg", **{"class": "ecg"})
  width = float(svg[1]["viewbox"].split()[2])
  assert svg[1]["style"] == f"--width:{width}mm" and width <= 281


def test_numbers_are_those_of_the_result(model, ecg_mv):
  made = outcome(model, ecg_mv[0], asked=["paced <rhythm>"])
  page = render(model, made)
  values = [float(a["data-v"]) for _, a, _ in page.elements if "data-v" in a]
  findings = output.distinct_findings(made.result)
  for finding in findings:
    assert finding.probability in values and finding.similarity in values
    assert finding.name in page.text
  best = findings[0]
  assert f"{best.name} for the" in page.text
  assert f"with {best.probability:.0%}" in page.text
  assert "paced &lt;rhythm&gt;" in page.text
  assert made.result.sentences[0].similarity in values
  for sentence in made.result.evidence:
    assert sentence.text in page.text
  assert len(page.all("p")) > 3 and "not a medical device" in page.text
  assert page.ids() == {
    *("summary", "tracing", "findings", "sentences", "evidence", "facts")
  }


def test_what_is_not_there_is_left_out_or_named(model, ecg_mv):
  leads = ["I", "II", "V2"]
  rows = [LEADS.index(x) for x in leads]
  long = np.tile(ecg_mv[0, rows], (1, 3))
  long[0, 300:310] = np.nan  # 20 ms
  made = outcome(model, long, "three.csv", leads)
  page = render(model, made)
  (whole, rhythm), (none, rest) = page.sheets()
  assert sorted(whole) == sorted(LEADS) and rhythm == ["II"]
  assert none == [] and rest == ["II", "II"]
  said = [text for tag, _, text in page.elements if tag == "text"]
  assert "aVF (computed)" in said and "V5 (missing)" in said and "V2" in said
  assert {"III", "aVR", "aVL", "aVF"} <= set(made.result.prepared.derived)
  assert "What may be wrong with it" in page.text
  assert "sentences" not in page.ids()
  silent = dataclasses.replace(
    made.result, findings=(), evidence=(), calibration=""
  )
  page = render(model, dataclasses.replace(made, result=silent))
  assert page.ids() == {"summary", "tracing", "facts"}


def test_a_page_for_each_file_and_an_index(model, ecg_mv, tmp_path, capsys):
  ok = outcome(model, ecg_mv[0], "x/a <1>.csv")
  pages = record.Pages(tmp_path / "new", True)
  twin = dataclasses.replace(ok, file="y/A <1>.edf")
  called = dataclasses.replace(ok, file="index.csv")
  bad = FileOutcome("z.csv", "failed", "no <table>")
  for made in (ok, twin, called, bad):
    pages.add(model, made)
  index = pages.finish()
  assert index == tmp_path / "new/index.html"
  page = Page(index.read_text("utf-8")).check()
  links = [a["href"] for _, a, _ in page.all("a")]
  assert links == ["a_1_.html", "A_1_-2.html", "index-2.html"]
  for link in links:
    linked = Page((index.parent / link).read_text("utf-8")).check()
    assert linked.all("a", href="index.html")
  assert "4 files were read: 3 ok, 1 failed." in page.text
  assert "no &lt;table&gt;" in page.text
  best = output.distinct_findings(ok.result)[0]
  assert page.text.count(f'data-v="{best.probability}"') == 3


def test_the_command(model, ecg_mv, tmp_path, capsys):
  del model  # it is loaded by now
  path = tmp_path / "a.npz"
  np.savez(path, ecg=ecg_mv[0], leads=LEADS, sampling_rate=500, unit="mV")

  def pages(has_index):
    assert not has_index
    return record.Pages(tmp_path / "pages", has_index)

  assert predicting.run(
    [str(path)], "simulated", "", "csv", None, Defaults(), pages
  )
  written = tmp_path / "pages/a.html"
  assert capsys.readouterr().err.endswith(f"page: {written}\n")
  assert "index.html" not in Page(written.read_text("utf-8")).check().text
  assert [p.name for p in written.parent.iterdir()] == ["a.html"]
  assert folders.list_files([str(path)])[0].path == pathlib.Path(path)
  with pytest.raises(UserError):
    predicting.run([], "simulated", "", "csv", None, Defaults(), pages)
