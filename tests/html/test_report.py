"""The page of a workdir: its numbers are those of the results."""

import dataclasses
import io
import json

import numpy as np
import pytest
import scipy.stats
import sklearn.calibration
import sklearn.decomposition
import sklearn.metrics

from cgdmer_jax import files
from cgdmer_jax.config import saved
from cgdmer_jax.evaluators import embedding_map, tasks
from cgdmer_jax.evaluators.scores import comparison, summary
from cgdmer_jax.evaluators.tasks import retrieval
from cgdmer_jax.figures import reconstructions
from cgdmer_jax.pages import curves, report
from tests import toy
from tests.evaluators.made import make_pair
from tests.html.pages import Page

RNG = np.random.default_rng(0)
EVIL = "<script>alert(1)</script>"


def results():
  """Two encoders, one of them with a name that tries to run."""
  every = [
    *make_pair(task="zero_shot", label_set="superclass"),
    *make_pair(label_set="superclass"),
    *make_pair(label_set="form"),
  ]
  return [_detailed(result) for result in every]


def _detailed(result):
  findings = result.findings
  if result.task == "zero_shot":
    details = {
      "retrieval": {
        "num_reports": 9,
        "examples": [
          {
            "record": "r1",
            "report": "sinus <rhythm>",
            "rank": 2,
            "nearest": [{"text": "pacing", "similarity": 0.5}],
          }
        ],
      }
    }
  else:
    x = RNG.normal(size=(len(findings.test.record_ids), 5))
    temperatures = {
      o.setting: {"temperatures": [2.0] * len(o.scores)}
      for o in findings.outcomes
    }
    details = {
      "map": embedding_map.project(x),
      "calibration_probe": temperatures,
    }
  name = EVIL if result.encoder.name == "random" else result.encoder.name
  encoder = dataclasses.replace(result.encoder, name=name, plain_name=name)
  (measure,) = findings.measures
  measure = dataclasses.replace(measure, setting=findings.outcomes[0].setting)
  findings = dataclasses.replace(findings, details=details, measures=(measure,))
  return dataclasses.replace(result, findings=findings, encoder=encoder)


def evaluation(workdir, every):
  rows = comparison.compare_all(every, 20)
  missing = [summary.NotDone("x", "transfer", "d", "", "no <other> data set")]
  document = summary._document(rows, every, missing)
  files.write(workdir / "results/comparison.json", json.dumps(document))
  return document


def run(workdir):
  """What a pretraining leaves, as far as the page reads it."""
  saved.write(workdir, toy.get_config(), False)
  rows = [{"step": i, "train/loss": 1 / i, "train/ecg": 0.5} for i in (1, 2)]
  rows.append({"step": 2, "validation/loss": 0.7, "validation/x": None})
  text = "".join(json.dumps(row) + "\n" for row in rows)
  files.write(workdir / "metrics.jsonl", text)
  hidden = np.zeros((1, 12, 10), bool)
  hidden[0, 6, 4:6] = hidden[0, 1, 8] = True
  ecg = RNG.normal(0, 0.2, (1, 12, 1000)).astype(np.float32)
  valid = np.ones((1, 12), bool)
  valid[0, 11] = False
  made = reconstructions.Reconstructions(
    *(ecg, ecg + 0.1, hidden, valid, np.array(["LBBB & more"])),
    *(np.array(100), np.array("The rule.")),
  )
  buffer = io.BytesIO()
  np.savez(buffer, **vars(made))
  files.write(
    workdir / "figures" / reconstructions.FILE_NAME, buffer.getvalue()
  )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """A run that was evaluated: its page, and the comparison."""
  workdir = tmp_path_factory.mktemp("whole")
  run(workdir)
  every = results()
  document = evaluation(workdir, every)
  path = report.write(workdir, every, tasks.TASKS)
  assert path == workdir / "report.html"
  return Page(path.read_text("utf-8")).check(), document


def test_every_number_of_a_label_is_on_the_page(whole):
  page, document = whole
  rows = [
    r
    for r in document["rows"]
    if (r["metric"], r["setting"]) == ("AUROC", "probe_100")
  ]
  assert {r["label_set"] for r in rows} == {"superclass", "form"}
  values = [e[1]["data-v"] for e in page.elements if "data-v" in e[1]]
  for row in rows:
    if row["label"] != "macro" and row["value"] is not None:
      assert repr(row["value"]) in values
      interval = f"[{row['low']:.3f}, {row['high']:.3f}]"
      assert interval in page.text and str(row["num_positive"]) in values
  # The short tables have the macro AUROCs of every setting.
  for row in document["rows"]:
    if (row["label"], row["metric"]) == ("macro", "AUROC"):
      assert f"{row['value']:.3f}" in [f"{float(v):.3f}" for v in values]
  skipped = [e for e in page.all("tr") if e[1].get("data-label") == "rare"]
  assert len(skipped) == 2 and "positive" in page.text


def test_three_sentences_say_what_was_done(whole):
  page, document = whole
  start = page.text.index('<section id="summary">')
  section = Page(page.text[start : page.text.index("</section>", start) + 10])
  said = [text for _, _, text in section.all("p")]
  assert len(said) == 3
  assert "for 7 steps of 32 records" in said[0]
  assert "ptb_xl/100hz (200 test records)" in said[1]
  best = next(
    r
    for r in document["rows"]
    if (r["label"], r["setting"], r["metric"])
    == ("macro", "probe_100", "AUROC")
  )
  assert f"CG-DMER with {best['value']:.3f} [{best['low']:.3f}" in said[2]
  assert "over 2 labels" in said[2]


def test_every_part_is_there_and_nothing_runs(whole):
  page, _ = whole
  assert page.ids() == {
    *("summary", "results", "tracings", "losses", "retrieval", "not_done"),
    "provenance",
  }
  ((leads, rhythm),) = page.sheets()
  assert len(set(leads)) == len(leads) == 12 and rhythm == ["II"]
  # Hidden of V1 are 2 s from 4 s on, 1 s of it in its quarter; of II 0 and 1 s.
  shades = page.all("rect", **{"class": "hidden"})
  assert [float(s[1]["width"]) for s in shades] == pytest.approx([25, 25])
  assert len(page.all("path", **{"class": "restored"})) == 2
  said = [text for tag, _, text in page.elements if tag == "text"]
  assert "V6 (missing or unusable)" in said
  assert "LBBB &amp; more" in page.text and "The rule." in page.text
  assert len(page.all("script")) == 1 and EVIL not in page.text
  assert "alert(1)" in page.text
  assert "sinus &lt;rhythm&gt;" in page.text and "no &lt;other&gt;" in page.text
  titles = [text for tag, _, text in page.elements if tag == "h4"]
  assert {"loss ", "ecg ", "Calibration"} <= {*titles}


def test_what_does_not_exist_is_left_out(tmp_path):
  every = make_pair(task="zero_shot")
  evaluation(tmp_path / "e", every)
  path = report.write(tmp_path / "e", every, tasks.TASKS)
  page = Page(path.read_text("utf-8")).check()
  assert page.ids() == {"summary", "results", "not_done", "provenance"}
  assert "Calibration" not in page.text and "Map of" not in page.text
  run(tmp_path / "r")
  (tmp_path / "r/figures" / reconstructions.FILE_NAME).unlink()
  path = report.write(tmp_path / "r", (), {})
  page = Page(path.read_text("utf-8")).check()
  assert page.ids() == {"summary", "losses", "provenance"}
  assert "It was not evaluated." in page.text


def test_roc_curves():
  labels = (RNG.random((300, 3)) < 0.3).astype(np.uint8)
  scores = np.round(labels[:, 0] + RNG.normal(0, 1, 300), 1)  # with ties
  y = curves.roc(labels[:, 0], scores)
  x, expected, _ = sklearn.metrics.roc_curve(
    labels[:, 0], scores, drop_intermediate=False
  )
  on_grid = np.isin(x.round(9), curves.GRID.round(9))
  assert on_grid.sum() >= 2
  area = sklearn.metrics.roc_auc_score(labels[:, 0], scores)
  assert np.trapezoid(y, curves.GRID) == pytest.approx(area, abs=0.005)
  np.testing.assert_allclose(
    y[1:-1], np.interp(curves.GRID, x, expected)[1:-1], atol=0.02
  )
  every = make_pair()[0].findings
  outcome = every.outcomes[-1]
  mean, *single = curves.rocs({3: [outcome]}, every.test)
  assert [p.title for p in single] == ["A", "B"]
  (series,) = mean.series
  macro = outcome.evaluation.macro_auroc.value
  assert np.trapezoid(series.y, series.x) == pytest.approx(macro, abs=0.01)
  assert series.number == 3


def test_reliability():
  p = RNG.random(3000) ** 2
  y = (RNG.random(3000) < p).astype(int)
  y[p > 0.9] = 0
  x, share, low, high = curves.reliability(p, y)
  expected = sklearn.calibration.calibration_curve(y, p, n_bins=10)
  np.testing.assert_allclose([share, x], expected, atol=1e-9)
  chosen = p < 0.1
  interval = scipy.stats.binomtest(
    int(y[chosen].sum()), int(chosen.sum())
  ).proportion_ci(method="wilson")
  assert (low[0], high[0]) == pytest.approx(tuple(interval), abs=1e-6)
  few = curves.reliability(p[:30] * 0.09, y[:30])
  assert [len(v) for v in few] == [1] * 4


def test_map_is_the_principal_components():
  x = RNG.normal(size=(1000, 6)) * [5, 3, 1, 1, 1, 1]
  made = embedding_map.project(x)
  rows = made["rows"]
  assert len(rows) == 400 and rows[0] == 0 and rows[-1] == 999
  pca = sklearn.decomposition.PCA(2).fit(x[rows])
  assert made["shares"] == pytest.approx(pca.explained_variance_ratio_)
  places = pca.transform(x[rows]) / pca.singular_values_[0]
  for name, expected in zip("xy", places.T, strict=True):
    assert abs(np.corrcoef(made[name], expected)[0, 1]) > 0.9999
  assert embedding_map.project(np.ones((9, 4))) == {}
  assert embedding_map.project(np.ones((2, 4))) == {}


def test_examples_of_retrieval():
  ecg, reports = RNG.normal(size=(40, 8)), RNG.normal(size=(12, 8))
  ids = np.arange(40) % 12
  texts = [f"text {i}" for i in range(12)]
  texts[5] = "..."  # says nothing
  names = np.array([f"r{i}" for i in range(40)])
  shown = retrieval.examples(ecg, reports, ids, texts, names)
  assert len(shown) == 6
  for example in shown:
    row = int(example["record"][1:])
    assert example["report"] == texts[ids[row]] != "..."
    cosine = {
      t: z @ ecg[row] / np.linalg.norm(z) / np.linalg.norm(ecg[row])
      for t, z in zip(texts, reports, strict=True)
      if t != "..."
    }
    order = sorted(cosine, key=cosine.get, reverse=True)
    assert order.index(example["report"]) + 1 == example["rank"]
    assert [n["text"] for n in example["nearest"]] == order[:3]
    assert example["nearest"][0]["similarity"] == pytest.approx(
      cosine[order[0]], abs=1e-4
    )
