"""One number of one encoder, as it stands in tables and `comparison.csv`."""

from __future__ import annotations

import dataclasses

MACRO = "macro"  # in place of a label: the average over labels


@dataclasses.dataclass(frozen=True)
class Row:
  """One number of one encoder, and how far it is from the best encoder's.

  Attributes:
    dataset: with the next three, what the number is about.
    task: such as "linear_probe".
    label_set: name; empty without labels.
    setting: such as "probe_1".
    metric: "AUROC", "AUPRC", or the name of a measure.
    label: name, "macro", or empty for a measure.
    encoder: name.
    value: with its interval (`low`, `high`); None where not scored.
    low: see `value`.
    high: see `value`.
    seeds: pretraining seeds that the value is the mean of.
    seed_std: standard deviation over them; None for a single one.
    subsets: training subsets of each.
    subset_std: standard deviation over these, mean over pretraining seeds.
    num_positive: test records with the label.
    prevalence: their share, about the AUPRC of random scores.
    chance: for measures, the value of an encoder that knows nothing.
    best: encoder with the best value of this number.
    difference: value minus that of the best, with its interval.
    difference_low: see `difference`.
    difference_high: see `difference`.
    p_value: by the paired permutation test; for macro AUROCs.
    p_holm: corrected for the number of pairs of encoders (Holm).
    better: "higher", "lower" or "" (neither; then nothing is best).
    unit: for measures; "" for shares and the like.
    main: whether it belongs in a short table.
    note: why there is no value.
    label_in_words: what the label means; empty where unknown.
  """

  dataset: str
  task: str
  label_set: str
  setting: str
  metric: str
  label: str
  encoder: str
  value: float | None
  low: float | None
  high: float | None
  seeds: int
  seed_std: float | None
  subsets: int = 1
  subset_std: float | None = None
  num_positive: int | None = None
  prevalence: float | None = None
  chance: float | None = None
  best: str = ""
  difference: float | None = None
  difference_low: float | None = None
  difference_high: float | None = None
  p_value: float | None = None
  p_holm: float | None = None
  better: str = "higher"
  unit: str = ""
  main: bool = True
  note: str = ""
  label_in_words: str = ""
