"""Result files, their comparison, and the tables made from them."""

import dataclasses
import io
import json
import os

import numpy as np
import pytest
import rich.console

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import results, scoring, tables


def _encoder_result(noise, settings, seed=0, order=None, min_positives=10):
  """Scores of one encoder; `order` shuffles the records it lists."""
  rng = np.random.default_rng(0)  # the test set is always the same
  labels = (rng.random((200, 3)) < [0.4, 0.2, 0.01]).astype(np.uint8)
  labels[~labels.any(axis=1), 0] = 1
  ids = np.array([f"r{i}" for i in range(200)])
  subjects = np.arange(200) // 2
  rng = np.random.default_rng(seed)
  scores = {
    s: labels + noise * rng.normal(size=(1 + (s == "probe_1"), 200, 3))
    for s in settings
  }
  order = np.arange(200) if order is None else order
  test, _ = scoring.make_test_set(
    subjects[order], labels[order], ("A", "B", "rare"), ids[order]
  )
  outcomes = []
  for setting, values in scores.items():
    values = values[:, order].astype(np.float32)
    fraction = {"probe_1": 0.01, "probe_100": 1.0}.get(setting)
    outcomes.append(
      scoring.Outcome(
        setting=setting,
        fraction=fraction,
        num_train=0 if fraction is None else int(1000 * fraction),
        strengths=() if fraction is None else (0.1,) * len(values),
        strength_grid=() if fraction is None else (0.1, 1.0),
        not_converged=0,
        evaluation=scoring.evaluate(
          test, values, min_positives=min_positives, num_bootstrap=100
        ),
        scores=values,
      )
    )
  return scoring.EncoderResult(test, tuple(outcomes))


def _result(
  task="linear_probe",
  noises=(1.0, 4.0),
  label_mode="fixed",
  min_positives=10,
):
  settings = ("probe_1", "probe_100")
  settings = settings if task == "linear_probe" else ("zero_shot",)
  encoders = [
    results.Encoder(
      "CG-DMER",
      _encoder_result(noises[0], settings, min_positives=min_positives),
      "runs/x",
      9,
    ),
    results.Encoder(
      "random",
      _encoder_result(noises[1], settings, seed=1, min_positives=min_positives),
    ),
  ]
  return results.make_result(
    task,
    "ptb_xl/100hz",
    "form",
    encoders,
    config_hash="abc",
    label_mode=label_mode,
    min_positives=min_positives,
    num_bootstrap=100,
    num_permutations=100,
  )


def _no_constants(name):
  raise AssertionError(f"{name} in a JSON file")


def test_result_file_tells_everything(tmp_path):
  path, document = results.write(tmp_path, _result())
  assert path == tmp_path / "results" / "linear_probe-ptb_xl_100hz-form.json"
  text = path.read_text()
  assert json.loads(text, parse_constant=_no_constants) == json.loads(
    json.dumps(document)
  )
  assert results.read(path)["label_mode"] == "fixed"
  assert (document["num_records"], document["num_subjects"]) == (200, 100)
  assert document["config_hash"] == "abc"
  assert {"jax", "numpy", "python"} <= set(document["versions"])
  trained, random = document["encoders"]
  assert (trained["checkpoint"], trained["step"]) == ("runs/x", 9)
  assert (random["checkpoint"], random["step"]) == ("", None)
  first, last = trained["settings"]
  assert (first["fraction"], first["num_seeds"]) == (0.01, 2)
  assert last["strengths"] == (0.1,)
  assert list(last["skipped_labels"]) == ["rare"]
  row = last["labels"][0]
  assert row["name"] == "A"
  assert row["auroc"]["low"] < row["auroc"]["value"] < row["auroc"]["high"]
  assert row["prevalence"] == row["num_positive"] / 200
  assert last["labels"][2]["auroc"] is None
  comparison = document["comparisons"][1]
  assert (comparison["a"], comparison["b"]) == ("CG-DMER", "random")
  assert comparison["setting"] == "probe_100"
  assert comparison["macro"]["low"] > 0


def test_scores_come_back_and_nothing_else_is_left(tmp_path):
  result = _result()
  path, _ = results.write(tmp_path, result)
  assert sorted(p.name for p in path.parent.iterdir()) == [
    path.with_suffix(".json").name,
    path.with_suffix(".npz").name,
  ]
  test, scores = results.read_scores(path, "random")
  expected = result.encoders[1].result
  assert test.label_names == expected.test.label_names
  np.testing.assert_array_equal(test.subjects, expected.test.subjects)
  for outcome in expected.outcomes:
    np.testing.assert_array_equal(scores[outcome.setting], outcome.scores)


def test_interrupted_write_keeps_the_old_result(tmp_path, monkeypatch):
  path, document = results.write(tmp_path, _result())

  def interrupt(fd):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, "fsync", interrupt)
  with pytest.raises(KeyboardInterrupt):
    results.write(tmp_path, _result(noises=(2.0, 2.0)))
  assert len(list(path.parent.iterdir())) == 2
  assert results.read(path)["scores"] == document["scores"]
  results.read_scores(path)


def test_scores_of_another_run_are_refused(tmp_path):
  path, _ = results.write(tmp_path / "a", _result())
  other, _ = results.write(tmp_path / "b", _result(noises=(2.0, 2.0)))
  other.with_suffix(".npz").replace(path.with_suffix(".npz"))
  with pytest.raises(UserError, match="does not belong to"):
    results.read_scores(path)
  path.with_suffix(".npz").unlink()
  with pytest.raises(UserError, match="keep them beside the result"):
    results.read_scores(path)


def test_two_files_are_compared_record_by_record(tmp_path):
  settings = ("probe_100",)
  order = np.random.default_rng(9).permutation(200)
  paths = []
  for name, encoder in {
    "a": _encoder_result(1.0, settings),
    "same": _encoder_result(1.0, settings, order=order),
    "worse": _encoder_result(4.0, settings, seed=3, order=order),
  }.items():
    result = results.make_result(
      "linear_probe",
      "d",
      "form",
      [results.Encoder(name, encoder)],
      config_hash="",
      label_mode="fixed",
    )
    paths.append(results.write(tmp_path / name, result)[0])
  (same,) = results.compare(*paths[:2], num_bootstrap=50)
  assert same.macro == scoring.Estimate(0.0, 0.0, 0.0)
  (worse,) = results.compare(paths[0], paths[2], num_bootstrap=50)
  assert worse.macro.low > 0


def test_files_of_other_tests_cannot_be_compared(tmp_path):
  path, _ = results.write(tmp_path / "a", _result())
  result = _result()
  first = result.encoders[0]
  changes = {
    "different test records": {
      "record_ids": first.result.test.record_ids + "x"
    },
    "different labels": {"label_names": ("A", "B", "C")},
    "labels of their test records differ": {
      "labels": 1 - first.result.test.labels
    },
  }
  for message, change in changes.items():
    test = dataclasses.replace(first.result.test, **change)
    encoder = dataclasses.replace(
      first, result=dataclasses.replace(first.result, test=test)
    )
    other = dataclasses.replace(result, encoders=(encoder,), comparisons={})
    other_path, _ = results.write(tmp_path / "b", other)
    with pytest.raises(UserError, match=message):
      results.compare(path, other_path)
  with pytest.raises(UserError, match="no encoder 'x' .* CG-DMER, random"):
    results.compare(path, path, "x")


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


@pytest.fixture(scope="module")
def table():
  documents = [
    results.to_dict(_result("zero_shot")),
    results.to_dict(_result()),
  ]
  return tables.make(documents)


def test_table_joins_tasks_and_says_what_was_skipped(table):
  assert table.header == ("encoder", "zero-shot", "probe 1 %", "probe 100 %")
  assert [row[0] for row in table.rows] == ["CG-DMER", "random", "difference"]
  for row in table.rows[:2]:
    assert all(c.count(",") == 1 and c.endswith("]") for c in row[1:])
  assert all(cell.startswith("+") for cell in table.rows[2][1:])
  notes = "\n".join(table.notes)
  assert "200 test records of 100 subjects; 2 labels scored, 1 skipped" in notes
  assert "fewer than 10: rare" in notes
  assert "Mean over 2 training subsets" in notes
  assert "probe 1 % 0." in notes


def test_table_says_when_nothing_is_scored():
  document = results.to_dict(_result(min_positives=101))
  table = tables.make([document])
  assert {c for row in table.rows for c in row[1:]} == {"no label scored", ""}
  assert "0 labels scored, 3 skipped" in table.notes[0]
  assert table.notes[-1] == (
    "Nothing is scored: no label has 101 positive and 101 negative test"
    " records."
  )


def test_table_says_that_patients_are_unknown(table):
  result = _result("zero_shot")
  encoder = result.encoders[0]
  test = dataclasses.replace(
    encoder.result.test, subjects=np.array([""] * 50 + ["p"] * 150)
  )
  encoder = dataclasses.replace(
    encoder, result=dataclasses.replace(encoder.result, test=test)
  )
  document = results.to_dict(
    dataclasses.replace(result, encoders=(encoder,), comparisons={})
  )
  assert document["num_without_subject"] == 50
  notes = tables.make([document]).notes
  assert any("patient of 50 records is unknown" in note for note in notes)
  assert not any("unknown" in note for note in table.notes)


def test_table_says_when_no_difference_is_shown():
  document = results.to_dict(_result("zero_shot", noises=(1.0, 1.0)))
  cell = tables.make([document]).rows[2][1]
  assert cell.endswith("no difference shown")
  assert "p =" not in cell


def test_label_mode_is_told_where_it_matters(tmp_path, table):
  result = _result("zero_shot", label_mode="merl_compat")
  path, document = results.write(tmp_path, result)
  assert results.read(path)["label_mode"] == "merl_compat"
  compat = tables.make([document])
  assert "ptb_xl/100hz, form, merl_compat labels: macro" in compat.title
  assert "ptb_xl/100hz, form: macro" in table.title
  assert any("mistakes included" in note for note in compat.notes)
  for show in (tables.to_markdown, lambda t: str(tables.to_rich(t).title)):
    assert "merl_compat" in show(compat) and "merl_compat" not in show(table)
  with pytest.raises(ValueError, match="cannot hold label_mode"):
    tables.make([document, results.to_dict(_result("linear_probe"))])


def test_table_refuses_other_data():
  document = results.to_dict(_result("zero_shot"))
  with pytest.raises(ValueError, match="cannot hold label_set"):
    tables.make([document, {**document, "label_set": "rhythm"}])


def test_markdown_and_terminal_show_every_number(table):
  markdown = tables.to_markdown(table)
  lines = [line for line in markdown.splitlines() if line.startswith("|")]
  assert len(lines) == 2 + len(table.rows)
  assert {line.count("|") for line in lines} == {len(table.header) + 1}
  console = rich.console.Console(file=io.StringIO(), width=80)
  console.print(tables.to_rich(table))
  text = console.file.getvalue()
  for row in table.rows:
    for cell in row:
      for word in cell.split(" ["):
        assert word.split("]")[0] in text, cell
  assert max(map(len, text.splitlines())) <= 80
