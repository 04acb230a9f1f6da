"""What a task tells about one encoder on one test set.

Every task gives the same structure: `Findings` with an `Outcome` per setting
that scores labels (zero-shot; probe with 1, 10 and 100 % of the labels), each
from scores (K, N, L): K training seeds, N test records, L labels; and a
`Measure` for every number that is not about labels. Numbers that do not exist
are None, never NaN.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
  """A value with its 95 % interval over subjects; None where undefined."""

  value: float | None
  low: float | None
  high: float | None


@dataclasses.dataclass(frozen=True)
class LabelScore:
  """How well one label is told from the rest of the test records.

  Attributes:
    name: the label.
    num_positive: test records that carry it.
    num_negative: test records that do not.
    prevalence: num_positive / N, about the `auprc` of random scores.
    auroc: with interval, mean over training seeds; None where skipped.
    auprc: average precision, likewise.
    skipped: why the label does not count; empty where it does.
  """

  name: str
  num_positive: int
  num_negative: int
  prevalence: float
  auroc: Estimate | None
  auprc: Estimate | None
  skipped: str = ""


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Scores of one model (or K that differ by seed) on one test set.

  Attributes:
    labels: all labels in order, the skipped ones too.
    macro_auroc: unweighted mean over the labels that count; the interval is of
      the mean over seeds, for the training subsets at hand: it leaves out what
      `seed_std` tells.
    macro_auprc: likewise.
    seed_std: sample standard deviation of the macro AUROC over training seeds;
      None for a single seed.
    num_records: N.
    num_subjects: distinct subjects, the unit of resampling.
    num_seeds: K.
    min_positives: least positives and negatives of a label that counts.
    num_bootstrap: resamples behind the intervals.
  """

  labels: tuple[LabelScore, ...]
  macro_auroc: Estimate
  macro_auprc: Estimate
  seed_std: float | None
  num_records: int
  num_subjects: int
  num_seeds: int
  min_positives: int
  num_bootstrap: int


@dataclasses.dataclass(frozen=True)
class TestSet:
  """The test records that belong to a label set.

  Attributes:
    record_ids: (N,) the data set's record ids (or row numbers as text).
    subjects: (N,) subject ids as text, empty where unknown.
    labels: (N, L) uint8.
    label_names: L names.
  """

  __test__ = False  # not a test case, whatever pytest thinks of the name

  record_ids: np.ndarray
  subjects: np.ndarray
  labels: np.ndarray
  label_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Outcome:
  """One setting of one encoder.

  Attributes:
    setting: "zero_shot" or "probe_<percent>", for instance "probe_1".
    evaluation: what `scores` come to, per label and on average.
    scores: (K, N, L) float32 test scores.
    samples: (2, L', R) float32 AUROC and average precision in each resample of
      the subjects, of the labels that count, mean over K.
    num_train: records trained on (0 for zero-shot).
    fraction: part of the training records used; None for zero-shot.
    strengths: chosen C of each training seed; empty where nothing is chosen.
    strength_grid: those it was chosen from.
    not_converged: labels times seeds whose chosen fit missed its tolerance.
  """

  setting: str
  evaluation: Evaluation
  scores: np.ndarray
  samples: np.ndarray
  num_train: int = 0
  fraction: float | None = None
  strengths: tuple[float, ...] = ()
  strength_grid: tuple[float, ...] = ()
  not_converged: int = 0


@dataclasses.dataclass(frozen=True)
class Measure:
  """A number about the test records that is not computed from labels.

  Attributes:
    setting: what was done, such as "ecg_to_report".
    name: what was measured, such as "recall@1".
    better: "higher" or "lower"; "" where neither is better.
    estimate: the number with its interval.
    samples: (R,) float32, the number in each resample of the subjects.
    chance: what it is for an encoder that knows nothing; None where unknown.
    unit: "" for shares and the like.
    main: whether it belongs in a short table.
  """

  setting: str
  name: str
  better: str
  estimate: Estimate
  samples: np.ndarray
  chance: float | None = None
  unit: str = ""
  main: bool = True


@dataclasses.dataclass(frozen=True)
class Findings:
  """Outcomes and measures of one task, encoder and test set.

  Attributes:
    test: the records.
    outcomes: settings that score labels.
    measures: numbers without labels.
    details: whatever else a reader may want, as JSON has it.
    files: what was made, path -> content; written into a folder beside the
      result, and not read with it.
  """

  test: TestSet
  outcomes: tuple[Outcome, ...] = ()
  measures: tuple[Measure, ...] = ()
  details: dict[str, Any] = dataclasses.field(default_factory=dict)
  files: dict[str, bytes] = dataclasses.field(default_factory=dict)
