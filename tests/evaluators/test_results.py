"""Result files, their comparison, and the tables made from them."""

import csv
import dataclasses
import io
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import rich.console

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import comparison, results, scoring, tables


def _findings(noise, settings, seed=0, order=None, min_positives=10):
  """Scores of one encoder; `order` shuffles the records it lists."""
  rng = np.random.default_rng(0)  # the test set is always the same
  labels = (rng.random((200, 3)) < [0.4, 0.2, 0.01]).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  ids = np.array([f"r{i}" for i in range(200)])
  subjects = np.arange(200) // 2
  rng = np.random.default_rng(seed)
  order = np.arange(200) if order is None else order
  test, _ = scoring.make_test_set(
    subjects[order], labels[order], ("A", "B", "rare"), ids[order]
  )
  outcomes = []
  for setting in settings:
    scores = labels + noise * rng.normal(
      size=(1 + (setting == "probe_1"), 200, 3)
    )
    fraction = {"probe_1": 0.01, "probe_100": 1.0}.get(setting)
    training = {}
    if fraction:
      training = {
        "fraction": fraction,
        "num_train": int(1000 * fraction),
        "strengths": (0.1,) * len(scores),
        "strength_grid": (0.1, 1.0),
      }
    outcomes.append(
      scoring.evaluate(
        test,
        setting,
        scores[:, order].astype(np.float32),
        min_positives=min_positives,
        num_bootstrap=100,
        **training,
      )
    )
  weights = np.ones((200, 100))
  measure = scoring.mean_measure(
    "s", "recall@1", "higher", np.arange(200) % 2, weights, main=False
  )
  return scoring.Findings(test, tuple(outcomes), (measure,), {"x": {"y": 1}})


def _result(
  name="a",
  task="linear_probe",
  noise=1.0,
  seed=0,
  label_mode="fixed",
  label_set="form",
  run=0,
  **options,
):
  settings = ("zero_shot",)
  if task == "linear_probe":
    settings = ("probe_1", "probe_100")
  return results.Result(
    encoder=results.Identity(name, "f", seed=run, checkpoint="runs/x", step=9),
    task=task,
    dataset="ptb_xl/100hz",
    split="test",
    label_set=label_set,
    label_mode=label_mode,
    key=results.make_key(name, run, noise),
    options={"num_bootstrap": 100},
    findings=_findings(noise, settings, seed, **options),
  )


def _pair(**changes):
  return [
    _result("CG-DMER", **changes),
    _result("random", **{"noise": 4.0, "seed": 1} | changes),
  ]


def _rows(found):
  return comparison.compare_all(found, num_permutations=100)


def _no_constants(name):
  raise AssertionError(f"{name} in a JSON file")


def test_result_file_tells_everything(tmp_path):
  result = _result()
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
  result = _result()
  path = results.write(tmp_path, result)
  assert len(list(path.parent.iterdir())) == 2
  again = results.read(path)
  assert dataclasses.replace(again, findings=None) == dataclasses.replace(
    result, findings=None
  )
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
  path = results.write(tmp_path, _result())
  before = path.read_bytes()

  def interrupt(fd):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "fsync", interrupt)
  with pytest.raises(KeyboardInterrupt):
    results.write(tmp_path, _result())
  assert len(list(path.parent.iterdir())) == 2
  assert path.read_bytes() == before
  results.read(path)


def test_arrays_of_another_run_are_refused(tmp_path):
  path = results.write(tmp_path / "a", _result())
  other = results.write(tmp_path / "b", _result(noise=2.0))
  other.with_suffix(".npz").replace(path.with_suffix(".npz"))
  with pytest.raises(UserError, match="does not belong to"):
    results.read(path)
  path.with_suffix(".npz").unlink()
  with pytest.raises(UserError, match="keep them beside the result"):
    results.read(path)


def test_two_files_are_compared_record_by_record(tmp_path):
  order = np.random.default_rng(9).permutation(200)
  paths = [
    results.write(tmp_path / str(i), _result(**changes))
    for i, changes in enumerate(
      ({}, {"order": order}, {"noise": 4.0, "seed": 3, "order": order})
    )
  ]
  same = comparison.compare(paths[0], paths[1], num_permutations=50)
  assert same["probe_100"][0] == scoring.Estimate(0.0, 0.0, 0.0)
  worse = comparison.compare(paths[0], paths[2], num_permutations=50)
  assert worse["probe_100"][0].low > 0 and worse["probe_100"][1] < 0.05


def test_results_on_other_records_cannot_be_compared(tmp_path):
  result = _result()
  path = results.write(tmp_path / "a", result)
  test = result.findings.test
  for message, change in {
    "different test records": {"record_ids": test.record_ids + "x"},
    "different labels": {"label_names": ("A", "B", "C")},
    "labels of their test records differ": {"labels": 1 - test.labels},
  }.items():
    findings = dataclasses.replace(
      result.findings, test=dataclasses.replace(test, **change)
    )
    other = dataclasses.replace(result, findings=findings)
    with pytest.raises(UserError, match=message):
      comparison.compare(path, results.write(tmp_path / "b", other))
    other = dataclasses.replace(
      other, encoder=dataclasses.replace(other.encoder, name="b")
    )
    with pytest.raises(UserError, match="a and b .*not scored on the same"):
      comparison.compare_all([result, other])


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


def test_rows_hold_every_number_and_its_distance_to_the_best():
  found = _pair()
  rows = _rows(found)
  keys = [(r.encoder, r.setting, r.metric, r.label) for r in rows]
  assert len(set(keys)) == len(keys)
  # Two settings; AUROC and AUPRC of the average and of three labels; recall.
  assert len(rows) == 2 * (2 * 2 * 4 + 1)
  by_key = dict(zip(keys, rows, strict=True))
  best = by_key["CG-DMER", "probe_100", "AUROC", "macro"]
  worse = by_key["random", "probe_100", "AUROC", "macro"]
  assert best.best == worse.best == "CG-DMER"
  assert best.difference is None and best.p_value is None
  assert worse.difference == pytest.approx(worse.value - best.value)
  assert worse.difference_high < 0 and worse.p_value == worse.p_holm < 0.05
  outcomes = [r.findings.outcomes[1] for r in found]
  expected = np.diff([o.samples[1, 0] for o in outcomes], axis=0)[0]
  row = by_key["random", "probe_100", "AUPRC", "A"]
  np.testing.assert_allclose(
    (row.difference_low, row.difference_high),
    np.quantile(expected, (0.025, 0.975)),
    atol=1e-6,
  )
  assert row.num_positive == found[0].findings.test.labels[:, 0].sum()
  assert by_key["random", "probe_1", "AUROC", "rare"].note
  assert by_key["random", "s", "recall@1", ""].value == 0.5
  lines = list(csv.DictReader(io.StringIO(tables.to_csv(rows))))
  assert len(lines) == len(rows)
  assert float(lines[0]["value"]) == rows[0].value


def test_runs_that_differ_by_their_seed_are_one_row():
  found = [_result("a", seed=i, run=i) for i in range(3)]
  found.append(_result("b", noise=3.0, seed=5))
  row = next(r for r in _rows(found) if r.setting == "probe_1")
  values = [
    r.findings.outcomes[0].evaluation.macro_auroc.value for r in found[:3]
  ]
  assert (row.encoder, row.seeds, row.subsets) == ("a", 3, 2)
  assert row.value == pytest.approx(np.mean(values))
  assert row.seed_std == pytest.approx(np.std(values, ddof=1))
  (table,) = tables.make(_rows(found), found)[:1]
  assert any("over up to 3 pretraining seeds" in n for n in table.notes)


def test_seeds_without_any_label_scored():
  found = [_result(seed=i, run=i, min_positives=500) for i in range(2)]
  rows = _rows(found)
  assert all(row.value is None for row in rows if row.label)
  (table,) = tables.make(rows, found)[:1]
  assert any("Mean over 2 pretraining seeds. " in n for n in table.notes)
  assert any("Nothing is scored" in note for note in table.notes)


def test_p_values_are_corrected_for_their_number():
  rows = [
    comparison.Row(
      *("d", "t", "l", "s", "AUROC", "macro", str(i)),
      *(0.5, None, None, 1, None),
      p_value=p,
    )
    for i, p in enumerate((0.04, None, 0.01, 0.02))
  ]
  corrected = [r.p_holm for r in comparison._holm(rows)]
  assert corrected[1] is None
  # Four encoders, six pairs: 6 * 0.01, 5 * 0.02, 4 * 0.04.
  np.testing.assert_allclose(
    [corrected[i] for i in (2, 3, 0)], (0.06, 0.10, 0.16)
  )


def test_many_encoders_can_still_be_told_apart():
  # 28 pairs: with 100 swaps no corrected p could be below 0.27.
  found = [_result(f"e{i}", noise=0.2 + i, seed=i) for i in range(8)]
  rows = [r for r in _rows(found) if r.label == "macro" and r.metric == "AUROC"]
  assert min(r.p_holm for r in rows if r.p_holm is not None) < 0.05


def _table(found):
  return tables.make(_rows(found), found)[0]


@pytest.fixture(scope="module")
def table():
  return _table(_pair(task="zero_shot") + _pair())


def test_table_joins_tasks_and_says_what_was_skipped(table):
  assert table.header[:4] == (
    "encoder",
    "zero-shot",
    "probe 1 %",
    "probe 100 %",
  )
  assert [row[0] for row in table.rows] == [
    *("CG-DMER", "random", "CG-DMER minus random"),
  ]
  for row in table.rows[:2]:
    assert all(c.count(",") == 1 and c.endswith("]") for c in row[1:])
  assert all(cell.startswith("+") for cell in table.rows[2][1:4])
  assert all(cell.startswith("**") for cell in table.rows[0][1:4])
  notes = "\n".join(table.notes)
  assert "200 test records of 100 subjects" in notes
  assert "2 labels scored, 1 skipped" in notes
  assert "fewer than 10: rare" in notes
  assert "Probes of parts: mean over 2 training subsets" in notes


def test_table_of_many_compares_with_the_best():
  found = [*_pair(), _result("worst", noise=9.0, seed=2)]
  table = _table(found)
  names = [row[0] for row in table.rows]
  assert names[3:] == ["random minus best", "worst minus best"]
  assert all(row[2].startswith("-") for row in table.rows[3:])
  assert any("corrected for 3 pairs of encoders" in n for n in table.notes)


def test_table_says_when_nothing_is_scored():
  table = _table(_pair(min_positives=101, task="zero_shot"))
  assert table.rows[0][1] == "no label scored"
  assert "0 labels scored, 3 skipped." in table.notes
  assert (
    "Nothing is scored: no label has 101 positive and 101 negative test"
    " records."
  ) in table.notes


def test_table_says_that_patients_are_unknown(table):
  result = _result(task="zero_shot")
  test = dataclasses.replace(
    result.findings.test, subjects=np.array([""] * 50 + ["p"] * 150)
  )
  findings = dataclasses.replace(result.findings, test=test)
  unknown = dataclasses.replace(result, findings=findings)
  assert results.to_dict(unknown)["num_without_subject"] == 50
  notes = _table([unknown]).notes
  assert any("patient of 50 records is unknown" in note for note in notes)
  assert not any("unknown" in note for note in table.notes)


def test_table_says_when_no_difference_is_shown():
  found = _pair(task="zero_shot", noise=1.0)
  cell = _table(found).rows[2][1]
  assert cell.endswith("no difference shown") and "p =" not in cell


def test_label_mode_is_told_where_it_matters(table):
  compat = _table([_result(task="zero_shot", label_mode="merl_compat")])
  assert "ptb_xl/100hz, form, merl_compat labels" in compat.title
  assert "ptb_xl/100hz, form" in table.title
  assert any("mistakes included" in note for note in compat.notes)
  for show in (tables.to_markdown, tables.to_latex, lambda t: t.title):
    assert "merl" in show(compat) and "merl" not in show(table)


def test_other_label_sets_and_tasks_have_tables_of_their_own():
  found = [
    *_pair(),
    *_pair(label_set="rhythm"),
    _result(task="transfer"),
  ]
  assert [
    t.title.split(":")[0].split(" [")[0]
    for t in tables.make(_rows(found), found)
  ] == [
    *("ptb_xl/100hz, form", "ptb_xl/100hz, rhythm"),
    "ptb_xl/100hz, form, transfer",
  ]


def test_markdown_and_terminal_show_every_number(table):
  markdown = tables.to_markdown(table)
  lines = [line for line in markdown.splitlines() if line.startswith("|")]
  assert len(lines) == 2 + len(table.rows)
  assert {line.count("|") for line in lines} == {len(table.header) + 1}
  for width, parts in ((100, 1), (70, 2), (50, 3)):
    console = rich.console.Console(file=io.StringIO(), width=width)
    assert len(tables.to_rich(table, width)) == parts
    for part in tables.to_rich(table, width):
      console.print(part)
    text = console.file.getvalue()
    for row in table.rows:
      for cell in row:
        for word in cell.replace("*", "").split(" ["):
          assert word.split("]")[0] in text, cell
    assert max(map(len, text.splitlines())) <= width
    assert " ".join(text.split()).count(table.notes[0]) == 1


def test_latex_is_complete(table, tmp_path):
  text = tables.to_latex(table)
  assert text.count(r"\\") == 1 + len(table.rows)
  assert r"\textbf{" in text and "**" not in text
  assert "ptb\\_xl" in text and r"1 \%" in text
  body = [line for line in text.splitlines() if line.endswith(r"\\")]
  assert {line.count("&") for line in body} == {len(table.header) - 1}
  if shutil.which("pdflatex"):
    (tmp_path / "t.tex").write_text(
      r"\documentclass{article}\usepackage{booktabs}\begin{document}"
      + text
      + r"\end{document}"
    )
    subprocess.run(
      ["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True
    )
