"""Reconstruction: how well hidden leads and hidden times are restored.

The error is the share of the variance inside the hidden patches that the
reconstruction leaves unexplained: 0 is perfect, 1 is what a flat line at each
patch's mean leaves. (The decoder predicts a patch up to its mean and deviation,
which are given.) It is broken down by lead and by region of the beat
(`beat_regions.py`).

- Hidden times: one block of at most a second (as many patches as fit, at least
  one) in all leads, with at least a patch before and after it. Where the data
  set has labels of the rhythm, regular rhythms are apart from the rest: where a
  beat comes early, nothing in view says when.
- Hidden limb leads: four of six. Any two limb leads give the other four
  (Einthoven, Goldberger), so arithmetic alone reaches 0.
- Hidden chest leads: all six, from the limb leads; and three of them, from the
  limb leads and the other three.

The row `ridge` is what arithmetic learns from training records, see
`probes/ridge.py`; it is given the mean of a hidden patch, not its deviation.
What is hidden of a record depends on its place in the test split and on the
length of patches. The signal is the preprocessed one; compare encoders with the
same patches and preprocessing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np

from cgdmer_jax import trained_model
from cgdmer_jax.data.index import RecordIndex
from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import beat_regions
from cgdmer_jax.evaluators.beat_regions import REGIONS
from cgdmer_jax.evaluators.encoders.baseline import Baseline
from cgdmer_jax.evaluators.probes import ridge
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.evaluators.scores.findings import Findings, Measure, TestSet
from cgdmer_jax.evaluators.task import Inputs, Options, Task
from cgdmer_jax.figures import results as figures
from cgdmer_jax.models.forward import Restored

_MAX_RECORDS = 500  # evenly spread over the test or the training records
_NUM_LIMB = 6  # the first of `LEADS`

# Rhythms whose next beat can be told from the last ones, and what is against.
REGULAR = ("SR", "SBRAD", "STACH", "PACE")
ECTOPY = ("PAC", "PVC", "PRC(S)")

# int16 microvolts (B, 12, T), bool (B, 12), bool (B, 12, patches) -> (B, 12, T)
Restore = Callable[[np.ndarray, np.ndarray, np.ndarray], Restored]


def block_length(patch_length: int, sampling_rate: int) -> int:
  """Patches of a hidden block: those that fit into a second, at least one."""
  return max(1, sampling_rate // patch_length)


def _hide_times(
  rng: np.random.Generator, valid: np.ndarray, patches: int, block: int
) -> np.ndarray:
  """Hides a block of times in every lead."""
  hidden = np.zeros((len(valid), patches), bool)
  start = rng.integers(1, patches - block)
  hidden[:, start : start + block] = True
  return hidden


def _hide_limb_leads(
  rng: np.random.Generator, valid: np.ndarray, patches: int, block: int
) -> np.ndarray:
  """Hides the limb leads but for two; none if there are no more."""
  del block
  limb = rng.permutation(np.flatnonzero(valid[:_NUM_LIMB]))
  hidden = np.zeros((len(valid), patches), bool)
  hidden[limb[2:]] = True
  return hidden


def _hide_chest_leads(
  count: int,
  rng: np.random.Generator,
  valid: np.ndarray,
  patches: int,
  block: int,
) -> np.ndarray:
  """Hides `count` of the chest leads; none without two limb leads."""
  del block
  chest = _NUM_LIMB + rng.permutation(len(valid) - _NUM_LIMB)
  hidden = np.zeros((len(valid), patches), bool)
  hidden[chest[:count]] = valid[:_NUM_LIMB].sum() >= 2
  return hidden


# Setting -> what is hidden of a record, bool (12, patches), from a generator of
# its own, its valid leads (12,), the number of patches and that of a block.
SETTINGS: dict[
  str, Callable[[np.random.Generator, np.ndarray, int, int], np.ndarray]
] = {
  "hidden_times": _hide_times,
  "hidden_limb_leads": _hide_limb_leads,
  "hidden_chest_leads": functools.partial(_hide_chest_leads, 6),
  "three_hidden_chest_leads": functools.partial(_hide_chest_leads, 3),
}


def is_regular(
  labels: Mapping[str, np.ndarray], label_sets: Mapping[str, tuple[str, ...]]
) -> np.ndarray | None:
  """Which records have a regular rhythm, and no beat that comes early.

  Args:
    labels: label set -> (N, L) 0 or 1.
    label_sets: label set -> L names; `rhythm` and `form` are read.

  Returns:
    bool (N,): one of `REGULAR`, no other rhythm, none of `ECTOPY`; None where
    the data set has no labels of the rhythm.
  """
  if "rhythm" not in label_sets:
    return None
  is_good = np.isin(label_sets["rhythm"], REGULAR)
  rhythm = labels["rhythm"].astype(bool)
  regular = rhythm[:, is_good].any(1) & ~rhythm[:, ~is_good].any(1)
  if "form" in label_sets:
    early = np.isin(label_sets["form"], ECTOPY)
    regular &= ~labels["form"][:, early].any(1)
  return regular


def reconstruct(
  restore: Restore,
  source: EcgSource,
  index: RecordIndex,
  *,
  patch_length: int,
  batch_size: int,
  num_bootstrap: int = 1000,
  seed: int = 0,
) -> Findings:
  """Hides times, then leads, of test records and measures what is restored.

  Args:
    restore: a model's `reconstruct`, or a baseline's.
    source: test records.
    index: what the data set says about the same records.
    patch_length: samples of what is hidden.
    batch_size: records restored at once; decides no result.
    num_bootstrap: resamples of subjects.
    seed: decides what is hidden, and the resampling.

  Returns:
    Measures "unexplained variance", whole, of each lead and of each region.

  Raises:
    UserError: the model has no decoder, or records are too short.
  """
  chosen, in_beat = _chosen(source)
  subjects = index.subject_ids[chosen]
  weights = statistics.subject_weights(subjects, num_bootstrap, seed)
  regular = is_regular(index.labels, source.label_sets)
  measures = []
  for setting in SETTINGS:
    squares = _squares(
      restore, source, chosen, in_beat, setting, patch_length, batch_size, seed
    )
    groups = {setting: np.ones(len(chosen), bool)}
    if setting == "hidden_times" and regular is not None:
      groups = {
        f"{setting}_regular": regular[chosen],
        f"{setting}_irregular": ~regular[chosen],
      }
    for name, belongs in groups.items():
      measures += _measures(
        name, *(squares * belongs[None, :, None, None]), weights
      )
  test = TestSet(
    index.ids[chosen].astype(str),
    subjects.astype(str),
    np.zeros((len(chosen), 0), np.uint8),
    (),
  )
  return Findings(test, measures=tuple(measures))


def _squares(
  restore: Restore,
  source: EcgSource,
  chosen: np.ndarray,
  in_beat: np.ndarray,
  setting: str,
  patch_length: int,
  batch_size: int,
  seed: int,
) -> np.ndarray:
  """Squared error, and squared signal, of hidden samples.

  Args:
    restore: see `reconstruct`.
    source: records.
    chosen: (N,) which of them.
    in_beat: (N, T) region of each sample.
    setting: one of `SETTINGS`.
    patch_length: samples.
    batch_size: records restored at once.
    seed: decides what is hidden.

  Returns:
    (2, N, leads, regions), of the error and of the signal.
  """
  squares = np.zeros((2, len(chosen), NUM_LEADS, len(REGIONS)))
  for start in range(0, len(chosen), batch_size):
    rows = np.arange(start, min(start + batch_size, len(chosen)))
    padded = np.minimum(np.arange(start, start + batch_size), len(chosen) - 1)
    records = [source.signal(int(chosen[i])) for i in padded]
    ecg, lead_valid = (
      np.stack([r[key] for r in records]) for key in ("ecg", "lead_valid")
    )
    hidden = np.stack(
      [
        _hidden(setting, int(i), r, patch_length, source.sampling_rate, seed)
        for i, r in zip(padded, records, strict=True)
      ]
    )
    signals = restore(ecg, lead_valid, hidden)
    samples = np.repeat(hidden, patch_length, axis=-1)
    for which, x in enumerate(
      (signals.restored - signals.original, signals.original - signals.mean)
    ):
      squares[which, rows] = _by_region(
        np.where(samples, x, 0.0)[: len(rows)] ** 2, in_beat[rows]
      )
  return squares


def _hidden(
  setting: str,
  number: int,
  record: Mapping[str, np.ndarray],
  patch_length: int,
  sampling_rate: int,
  seed: int,
) -> np.ndarray:
  """What is hidden of one record, bool (12, patches).

  Raises:
    UserError: the record is too short to hide times of it.
  """
  patches = record["ecg"].shape[-1] // patch_length
  block = block_length(patch_length, sampling_rate)
  if patches < block + 2:
    raise UserError(
      f"records of {patches} patches are too short to hide {block} of them"
      " between others; use a shorter model.patch_length"
    )
  valid = record["lead_valid"]
  rng = np.random.default_rng([seed, [*SETTINGS].index(setting), number])
  return SETTINGS[setting](rng, valid, patches, block) & valid[:, None]


def _measures(
  setting: str, error: np.ndarray, variance: np.ndarray, weights: np.ndarray
) -> list[Measure]:
  """Unexplained variance, whole, of each lead and of each region."""
  parts = {"all": (slice(None), slice(None))}
  parts |= {lead: (i, slice(None)) for i, lead in enumerate(LEADS)}
  parts |= {r: (slice(None), i) for i, r in enumerate(REGIONS)}
  measures = []
  for name, (lead, region) in parts.items():
    values, counts = (
      x[:, lead, region].reshape(len(x), -1).sum(1) for x in (error, variance)
    )
    if counts.sum() > 0:
      measures.append(
        scoring.mean_measure(
          setting,
          f"unexplained variance, {name}",
          "lower",
          values,
          weights,
          counts,
          chance=1.0,
          main=name == "all",
        )
      )
  return measures


def _spread(source: EcgSource) -> np.ndarray:
  """Numbers of at most `_MAX_RECORDS` records, evenly spread."""
  count = min(len(source), _MAX_RECORDS)
  return np.arange(count) * len(source) // count


@functools.lru_cache(maxsize=1)  # every encoder restores the same records
def _chosen(source: EcgSource) -> tuple[np.ndarray, np.ndarray]:
  """Evenly spread records (N,), and the region of each sample (N, T)."""
  chosen = _spread(source)
  return chosen, np.stack([_record_regions(source, int(i)) for i in chosen])


def _record_regions(source: EcgSource, number: int) -> np.ndarray:
  """Region of each sample of a record, seen in lead II if it is there."""
  record = source.signal(number)
  lead = LEADS.index("II")
  if not record["lead_valid"][lead]:
    lead = int(np.argmax(record["lead_valid"]))
  return beat_regions.find(record["ecg"][lead] / 1000, source.sampling_rate)


def _by_region(x: np.ndarray, in_beat: np.ndarray) -> np.ndarray:
  """Sums (B, 12, T) over the samples of each region, (B, 12, regions)."""
  one_hot = in_beat[..., None] == np.arange(len(REGIONS))
  return np.einsum("blt,btr->blr", x, one_hot.astype(x.dtype))


def run(inputs: Inputs, options: Options) -> Findings:
  """Restores test records by the decoder of the encoder."""
  trained = inputs.trained_model()
  batch_size = inputs.store.encoder.batch_size
  return reconstruct(
    functools.partial(trained.reconstruct, batch_size=batch_size),
    inputs.data.test,
    inputs.data.index("test"),
    patch_length=trained.config.model.patch_length,
    batch_size=batch_size,
    num_bootstrap=options.num_bootstrap,
  )


def run_ridge(inputs: Inputs, options: Options) -> Findings:
  """Restores test records by a ridge regression of training records.

  Raises:
    UserError: records are sampled at another rate than those of the run, or
      test records are among those of training.
  """
  data, encoder = inputs.data, inputs.store.encoder
  data.check_apart()
  assert isinstance(encoder, Baseline) and encoder.config is not None
  config = encoder.config
  trained_model.check_sampling_rate(
    data.test.name, data.test.sampling_rate, config.preprocess
  )
  train, patch_length = data.source("train"), config.model.patch_length
  fitted = ridge.fit(
    train,
    _spread(train),
    config.preprocess,
    patch_length,
    block_length(patch_length, data.test.sampling_rate),
  )
  return reconstruct(
    fitted.restore,
    data.test,
    data.index("test"),
    patch_length=patch_length,
    batch_size=encoder.batch_size,
    num_bootstrap=options.num_bootstrap,
  )


TASK = Task(
  name="reconstruction",
  run=run,
  order=60,
  labels="",
  own_table=True,
  figure=functools.partial(figures.parts, quantity="unexplained"),
  baselines={"ridge": run_ridge},
)
