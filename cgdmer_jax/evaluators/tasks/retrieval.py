"""Retrieval: does a recording find its report, and a report its recording?

The candidates are all distinct reports, and all recordings, of the test
records. Records with the same report text are indistinguishable to anybody, so
each of their recordings is a hit for that text. Records without a report take
no part.

The rank of a query is that of its best hit among the candidates, from 1; a
candidate that is no hit and scores the same counts as half before it. A text is
one query, however many records have it: it weighs as the share of its records
that a resample has drawn.

Chance is what the best constant order of the candidates gets, which knows how
frequent each text is in test and nothing of the query. Random order gets less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.evaluators.scores.findings import Findings, Measure, TestSet
from cgdmer_jax.evaluators.task import Inputs, Options, Task
from cgdmer_jax.evaluators.tasks import zero_shot

_RECALLS = (1, 5, 10)
_CHUNK = 1024  # queries compared at once
_EXAMPLES, _NEAREST = 6, 3  # recordings, and texts of each


def ranks(
  queries: np.ndarray,
  candidates: np.ndarray,
  hits: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
  """Rank of the best hit of each query.

  Args:
    queries: (Q, D) unit vectors.
    candidates: (C, D) unit vectors.
    hits: (Q,) and (C,) group numbers: a candidate is a hit of the queries of
      its own group. Every query has one.

  Returns:
    (Q,) float64, from 1.
  """
  query_groups, candidate_groups = hits
  chunks = []
  for start in range(0, len(queries), _CHUNK):
    chunk = slice(start, start + _CHUNK)
    similarity = queries[chunk] @ candidates.T
    is_hit = query_groups[chunk, None] == candidate_groups[None]
    best = np.where(is_hit, similarity, -np.inf).max(axis=1, keepdims=True)
    above = (similarity > best).sum(axis=1)
    tied = ((similarity == best) & ~is_hit).sum(axis=1)
    chunks.append(1 + above + 0.5 * tied)
  return np.concatenate(chunks)


def retrieval(
  ecg: np.ndarray,
  reports: np.ndarray,
  report_ids: np.ndarray,
  has_text: np.ndarray,
  subjects: np.ndarray,
  record_ids: np.ndarray,
  *,
  num_bootstrap: int = 1000,
  seed: int = 0,
) -> Findings:
  """Recall and median rank, from recordings to reports and back.

  Args:
    ecg: (N, D) shared embeddings of the test records.
    reports: (R, D) shared embeddings of the distinct reports.
    report_ids: (N,) report of each record.
    has_text: (R,) whether a report says anything.
    subjects: (N,) subject ids, drawn for the intervals; the candidates stay.
    record_ids: (N,) ids.
    num_bootstrap: resamples of subjects.
    seed: decides the resamples.

  Returns:
    Measures recall@1, @5, @10 and median rank in both directions: means over
    records, and over texts.

  Raises:
    UserError: fewer than two distinct reports.
  """
  rows = has_text[report_ids]
  texts = np.flatnonzero(np.isin(np.arange(len(reports)), report_ids[rows]))
  if len(texts) < 2:
    raise UserError(
      f"retrieval needs records with different reports; there are {len(texts)}"
      " distinct texts in test"
    )
  ecg = zero_shot.normalise(ecg[rows])
  reports = zero_shot.normalise(reports[texts])
  group = np.searchsorted(texts, report_ids[rows])
  test = TestSet(
    np.asarray(record_ids).astype(str)[rows],
    np.asarray(subjects).astype(str)[rows],
    np.zeros((rows.sum(), 0), np.uint8),
    (),
  )
  weights = statistics.subject_weights(test.subjects, num_bootstrap, seed)
  measures = _ecg_to_report(ecg, reports, group, weights)
  measures += _report_to_ecg(ecg, reports, group, weights)
  details = {
    "retrieval": {
      "num_records": len(group),
      "num_reports": len(texts),
      "num_without_report": int((~rows).sum()),
    }
  }
  return Findings(test, measures=tuple(measures), details=details)


def _ecg_to_report(
  ecg: np.ndarray, reports: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> list[Measure]:
  """Every recording looks for its report.

  Args:
    ecg: (N, D) unit vectors.
    reports: (R, D) unit vectors.
    group: (N,) report of each recording.
    weights: (N, S) how often each record is in each resample.
  """
  return _measures(
    "ecg_to_report",
    ranks(ecg, reports, (group, np.arange(len(reports)))),
    _constant_ranks(group),
    np.ones(len(group)),
    weights,
    len(reports),
  )


def _report_to_ecg(
  ecg: np.ndarray, reports: np.ndarray, group: np.ndarray, weights: np.ndarray
) -> list[Measure]:
  """Every report looks for one of its recordings; see `_ecg_to_report`."""
  rank = ranks(reports, ecg, (np.arange(len(reports)), group))
  return _measures(
    "report_to_ecg",
    rank[group],
    _constant_ranks(group),
    1 / np.bincount(group)[group],
    weights,
    len(group),
  )


def _constant_ranks(group: np.ndarray) -> np.ndarray:
  """Rank (N,) of each record's text in the best constant order of texts.

  The first recording of a text has the same rank in the best constant order of
  recordings: one of each text, frequent texts first.
  """
  copies = np.bincount(group)
  place = np.empty(len(copies))
  place[np.argsort(-copies, kind="stable")] = 1 + np.arange(len(copies))
  return place[group]


def _measures(
  setting: str,
  rank: np.ndarray,
  constant: np.ndarray,
  share: np.ndarray,
  weights: np.ndarray,
  num_candidates: int,
) -> list[Measure]:
  """Recall and median rank in one direction.

  Args:
    setting: name of the direction.
    rank: (N,) rank of the query that each record has part in.
    constant: (N,) its rank in the best constant order.
    share: (N,) part of the query that the record stands for.
    weights: (N, S) how often each record is in each resample.
    num_candidates: that each query is compared with.
  """
  measures = [
    scoring.mean_measure(
      setting,
      f"recall@{k}",
      "higher",
      share * (rank <= k),
      weights,
      share,
      chance=float(np.average(constant <= k, weights=share)),
    )
    for k in _RECALLS
  ]
  samples = _weighted_median(rank, share[:, None] * weights)
  value, chance = (
    float(_weighted_median(x, share[:, None])[0]) for x in (rank, constant)
  )
  median = Measure(
    setting,
    "median rank",
    "lower",
    scoring.estimate(value, samples),
    samples,
    chance=chance,
    unit=f"of {num_candidates}",
  )
  return [*measures, median]


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """Median (R,) of values (N,) under weights (N, R)."""
  order = np.argsort(values, kind="stable")
  below = np.cumsum(weights[order], axis=0)
  at = (below >= below[-1] / 2).argmax(axis=0)
  return values[order][at].astype(np.float32)


def examples(
  ecg: np.ndarray,
  reports: np.ndarray,
  report_ids: np.ndarray,
  texts: Sequence[str],
  record_ids: np.ndarray,
) -> list[dict[str, Any]]:
  """What some recordings find, for people: spread evenly over the records.

  Args:
    ecg: (N, D) shared embeddings of the test records.
    reports: (R, D) shared embeddings of the distinct reports.
    report_ids: (N,) report of each record.
    texts: the R reports.
    record_ids: (N,) ids.

  Returns:
    For each: `record`, its `report`, the `rank` of that among all texts, and
    the `nearest` texts with their `similarity`, a cosine.
  """
  has_text = data_set.has_text(texts)
  rows = np.flatnonzero(has_text[report_ids])
  candidates = np.flatnonzero(
    np.isin(np.arange(len(texts)), report_ids[rows]) & has_text
  )
  rows = rows[np.linspace(0, len(rows) - 1, _EXAMPLES).round().astype(int)]
  vectors = zero_shot.normalise(reports[candidates])
  shown = []
  for row in np.unique(rows):
    cosines = vectors @ zero_shot.normalise(ecg[row])
    own = cosines[candidates == report_ids[row]][0]
    nearest = np.argsort(-cosines, kind="stable")[:_NEAREST]
    shown.append(
      {
        "record": str(record_ids[row]),
        "report": texts[report_ids[row]],
        "rank": int((cosines > own).sum()) + 1,
        "nearest": [
          {
            "text": texts[candidates[i]],
            "similarity": round(float(cosines[i]), 4),
          }
          for i in nearest
        ],
      }
    )
  return shown


def run(inputs: Inputs, options: Options) -> Findings:
  """Compares the test records with their reports; see `retrieval`."""
  index = inputs.data.index("test")
  ecg = inputs.store.ecg(inputs.data.test).shared
  reports = inputs.store.encoder.report(index.reports).shared
  findings = retrieval(
    ecg,
    reports,
    index.report_ids,
    data_set.has_text(index.reports),
    index.subject_ids,
    index.ids,
    num_bootstrap=options.num_bootstrap,
  )
  findings.details["retrieval"]["examples"] = examples(
    ecg, reports, index.report_ids, list(index.reports), index.ids
  )
  return findings


TASK = Task(
  name="retrieval",
  run=run,
  order=50,
  labels="",
  own_table=True,
)
