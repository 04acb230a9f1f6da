"""Retrieval: ranks, ties, copies, and what chance gets."""

import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import statistics
from cgdmer_jax.evaluators.tasks import retrieval
from cgdmer_jax.models import cgdmer
from tests.evaluators import planted


class Matching(planted.Encoder):
  """Half of the reports match their recordings, the rest match nothing."""

  def ecg(self, source):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(len(source), 64)).astype(np.float32)
    return cgdmer.Embedding(shared, None)

  def report(self, texts):
    shared = self.ecg(texts).shared.copy()
    rng = np.random.default_rng(1)
    wrong = rng.random(len(texts)) < 0.5
    shared[wrong] = rng.normal(size=(wrong.sum(), 64))
    self.right = ~wrong
    return cgdmer.Embedding(shared, None)


def test_retrieval(tmp_path):
  data, encoder = planted.Data(), Matching()
  findings = planted.run("retrieval", data, tmp_path, encoder)
  measures = {(m.setting, m.name): m for m in findings.measures}
  n = planted.SIZES["test"]
  for direction in ("ecg_to_report", "report_to_ecg"):
    for k in (1, 5, 10):
      measure = measures[direction, f"recall@{k}"]
      assert measure.chance == pytest.approx(k / n)
      share = encoder.right.mean()
      theory = share + (1 - share) * k / n
      assert measure.estimate.value == pytest.approx(theory, abs=0.006)
      assert measure.estimate.low < 0.5 < measure.estimate.high + 0.01


def test_ranks_count_ties_by_half_and_copies_as_hits():
  queries = np.eye(3)
  candidates = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0, 1]])
  hits = (np.array([0, 1, 2]), np.array([0, 0, 1, 2]))
  np.testing.assert_array_equal(
    retrieval.ranks(queries, candidates, hits), [1, 1, 1]
  )
  hits = (np.array([0, 1, 2]), np.array([0, 1, 1, 2]))
  # A stranger with the same score; the second of two; the only one.
  np.testing.assert_array_equal(
    retrieval.ranks(queries, candidates, hits), [1.5, 1, 1]
  )
  hits = (np.array([5]), np.array([0, 1, 1, 5]))
  np.testing.assert_array_equal(
    retrieval.ranks(queries[:1], candidates, hits), [3]
  )


def test_frequent_reports_count_for_chance_and_as_one_query():
  """An encoder that gives each record the same embedding, and each report."""
  copies = np.array([6, 3, 1, 1, 1])
  report_ids = np.repeat(np.arange(5), copies)
  findings = retrieval.retrieval(
    *(np.ones((12, 2)), np.ones((5, 2)), report_ids, np.ones(5, bool)),
    *(np.arange(12), np.arange(12)),
    num_bootstrap=50,
  )
  measures = {(m.setting, m.name): m for m in findings.measures}
  chances = {key: m.chance for key, m in measures.items()}
  assert chances["ecg_to_report", "recall@1"] == 6 / 12
  assert chances["ecg_to_report", "recall@5"] == 1
  assert chances["ecg_to_report", "median rank"] == 1
  assert chances["report_to_ecg", "recall@1"] == pytest.approx(1 / 5)
  assert chances["report_to_ecg", "median rank"] == 3
  # Equal similarities: a text with more recordings is found earlier, once.
  ranks = 1 + 0.5 * (12 - copies)
  recall = measures["report_to_ecg", "recall@5"].estimate
  assert recall.value == pytest.approx((ranks <= 5).mean())
  assert measures["report_to_ecg", "median rank"].estimate.value == 6.5


def test_records_with_one_report_are_hits_of_each_other():
  rng = np.random.default_rng(0)
  texts = rng.normal(size=(4, 8))
  report_ids = np.array([0, 0, 1, 2, 3, 0])
  findings = retrieval.retrieval(
    texts[[0, 0, 1, 2, 3, 0]],
    texts,
    report_ids,
    np.array([True, True, True, False]),  # the last report is empty
    np.arange(6),
    np.arange(6),
    num_bootstrap=20,
  )
  assert findings.details["retrieval"] == {
    **{"num_records": 5, "num_reports": 3, "num_without_report": 1}
  }
  for measure in findings.measures:
    assert measure.estimate.value == 1  # recall, and median rank
  with pytest.raises(UserError, match="records with different reports"):
    retrieval.retrieval(
      *(texts, texts, np.zeros(4, int), np.ones(4, bool)),
      *(np.arange(4), np.arange(4)),
    )


def test_weighted_median_counts_repeated_records():
  rng = np.random.default_rng(0)
  values = rng.integers(1, 50, 31).astype(float)
  weights = statistics.subject_weights(np.arange(31), 40, 0)
  medians = retrieval._weighted_median(values, weights)
  expected = [np.median(np.repeat(values, w.astype(int))) for w in weights.T]
  np.testing.assert_allclose(medians, expected)
