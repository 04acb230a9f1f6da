"""Rows: every number of every encoder, and its distance to the best."""

import csv
import dataclasses
import io

import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import tasks
from cgdmer_jax.evaluators.scores import comparison, render, tables
from cgdmer_jax.evaluators.scores.row import Row
from tests.evaluators import made


def test_results_on_other_records_cannot_be_compared():
  result = made.make_result()
  test = result.findings.test
  for change in (
    {"record_ids": test.record_ids + "x"},
    {"label_names": ("A", "B", "C")},
    {"labels": 1 - test.labels},
  ):
    findings = dataclasses.replace(
      result.findings, test=dataclasses.replace(test, **change)
    )
    other = dataclasses.replace(
      result,
      findings=findings,
      encoder=dataclasses.replace(result.encoder, name="b"),
    )
    with pytest.raises(UserError, match="a and b .*not scored on the same"):
      comparison.compare_all([result, other])


def test_rows_hold_every_number_and_its_distance_to_the_best():
  every = made.make_pair()
  rows = made.make_rows(every)
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
  outcomes = [r.findings.outcomes[1] for r in every]
  expected = np.diff([o.samples[1, 0] for o in outcomes], axis=0)[0]
  row = by_key["random", "probe_100", "AUPRC", "A"]
  np.testing.assert_allclose(
    (row.difference_low, row.difference_high),
    np.quantile(expected, (0.025, 0.975)),
    atol=1e-6,
  )
  assert row.num_positive == every[0].findings.test.labels[:, 0].sum()
  assert by_key["random", "probe_1", "AUROC", "rare"].note
  assert by_key["random", "s", "recall@1", ""].value == 0.5
  lines = list(csv.DictReader(io.StringIO(render.to_csv(rows))))
  assert len(lines) == len(rows)
  assert float(lines[0]["value"]) == pytest.approx(rows[0].value, rel=1e-5)


def test_runs_that_differ_by_their_seed_are_one_row():
  every = [made.make_result("a", seed=i, run=i) for i in range(3)]
  every.append(made.make_result("b", noise=3.0, seed=5))
  row = next(r for r in made.make_rows(every) if r.setting == "probe_1")
  values = [
    r.findings.outcomes[0].evaluation.macro_auroc.value for r in every[:3]
  ]
  assert (row.encoder, row.seeds, row.subsets) == ("a", 3, 2)
  assert row.value == pytest.approx(np.mean(values))
  assert row.seed_std == pytest.approx(np.std(values, ddof=1))
  (table,) = tables.make(made.make_rows(every), every, tasks.TASKS)[:1]
  assert any("over up to 3 pretraining seeds" in n for n in table.notes)


def test_seeds_without_any_label_scored():
  every = [made.make_result(seed=i, run=i, min_positives=500) for i in range(2)]
  rows = made.make_rows(every)
  assert all(row.value is None for row in rows if row.label)
  (table,) = tables.make(rows, every, tasks.TASKS)[:1]
  assert any("Mean over 2 pretraining seeds. " in n for n in table.notes)
  assert any("Nothing is scored" in note for note in table.notes)


def test_p_values_are_corrected_for_their_number():
  rows = [
    Row(
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
  every = [made.make_result(f"e{i}", noise=0.2 + i, seed=i) for i in range(8)]
  rows = [
    r
    for r in made.make_rows(every)
    if r.label == "macro" and r.metric == "AUROC"
  ]
  assert min(r.p_holm for r in rows if r.p_holm is not None) < 0.05
