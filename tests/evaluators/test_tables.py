"""Tables say what was done, and show every number in every format."""

import dataclasses
import io
import shutil
import subprocess

import numpy as np
import pytest
import rich.console

from cgdmer_jax.evaluators import tasks
from cgdmer_jax.evaluators.scores import render, results, tables
from tests.evaluators import made


def _table(every):
  return tables.make(made.make_rows(every), every, tasks.TASKS)[0]


@pytest.fixture(scope="module")
def table():
  return _table(made.make_pair(task="zero_shot") + made.make_pair())


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
  every = [*made.make_pair(), made.make_result("worst", noise=9.0, seed=2)]
  table = _table(every)
  names = [row[0] for row in table.rows]
  assert names[3:] == ["random minus best", "worst minus best"]
  assert all(row[2].startswith("-") for row in table.rows[3:])
  assert any("corrected for 3 pairs of encoders" in n for n in table.notes)


def test_table_says_when_nothing_is_scored():
  table = _table(made.make_pair(min_positives=101, task="zero_shot"))
  assert table.rows[0][1] == "no label scored"
  assert "0 labels scored, 3 skipped." in table.notes
  assert (
    "Nothing is scored: no label has 101 positive and 101 negative test"
    " records."
  ) in table.notes


def test_table_says_that_patients_are_unknown(table):
  result = made.make_result(task="zero_shot")
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
  every = made.make_pair(task="zero_shot", noise=1.0)
  cell = _table(every).rows[2][1]
  assert cell.endswith("no difference shown") and "p =" not in cell


def test_label_mode_is_told_where_it_matters(table):
  compat = _table(
    [made.make_result(task="zero_shot", label_mode="merl_compat")]
  )
  assert "ptb_xl/100hz, form, merl_compat labels" in compat.title
  assert "ptb_xl/100hz, form" in table.title
  assert any("mistakes included" in note for note in compat.notes)
  for show in (render.to_markdown, render.to_latex, lambda t: t.title):
    assert "merl" in show(compat) and "merl" not in show(table)


def test_other_label_sets_and_tasks_have_tables_of_their_own():
  every = [
    *made.make_pair(),
    *made.make_pair(label_set="rhythm"),
    made.make_result(task="transfer"),
  ]
  assert [
    t.title.split(":")[0].split(" [")[0]
    for t in tables.make(made.make_rows(every), every, tasks.TASKS)
  ] == [
    *("ptb_xl/100hz, form", "ptb_xl/100hz, rhythm"),
    "ptb_xl/100hz, form, transfer",
  ]


def test_markdown_and_terminal_show_every_number(table):
  markdown = render.to_markdown(table)
  lines = [line for line in markdown.splitlines() if line.startswith("|")]
  assert len(lines) == 2 + len(table.rows)
  assert {line.count("|") for line in lines} == {len(table.header) + 1}
  for width, parts in ((100, 1), (70, 2), (50, 3)):
    console = rich.console.Console(file=io.StringIO(), width=width)
    assert len(render.to_rich(table, width)) == parts + 1  # the notes
    for part in render.to_rich(table, width):
      console.print(part)
    text = console.file.getvalue()
    for row in table.rows:
      for cell in row:
        for word in cell.replace("*", "").split(" ["):
          assert word.split("]")[0] in text, cell
    assert max(map(len, text.splitlines())) <= width
    assert " ".join(text.split()).count(table.notes[0]) == 1


def test_latex_is_complete(table, tmp_path):
  text = render.to_latex(table)
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
