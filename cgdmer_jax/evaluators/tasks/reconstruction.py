"""Reconstruction: how well hidden leads and hidden times are restored.

The error is the share of the variance inside the hidden patches that the
reconstruction leaves unexplained: 0 is perfect, 1 is what a flat line at each
patch's mean leaves. (The decoder predicts a patch up to its mean and deviation,
which are given.) It is broken down by lead and by region of the heart beat.

Any two limb leads give the other four (Einthoven, Goldberger), and with half of
the leads visible two of them nearly always are (96 %): for hidden limb leads
arithmetic alone would reach about 0, only V1 to V6 have to be guessed. The
signal is the preprocessed one; compare encoders with the same preprocessing.

Regions are windows around the R peaks, not a delineation of waves: QRS within
60 ms of the peak; P the 180 ms before; T from 80 ms after the peak for 340 ms,
at most until 55 % of the way to the next; the rest between beats. Peaks are
those that `wfdb.processing.xqrs_detect` finds in lead II at 250 Hz, where its
filters are at home (at 100 Hz it takes every other T wave for a beat).
"""

from __future__ import annotations

import functools

import jax
import numpy as np
import scipy.signal
import wfdb.processing

from cgdmer_jax.data.index import RecordIndex
from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.evaluators.scores.findings import Findings, Measure, TestSet
from cgdmer_jax.evaluators.task import Inputs, Options, Task
from cgdmer_jax.figures import results as figures
from cgdmer_jax.models import masking
from cgdmer_jax.trained_model import TrainedModel

REGIONS = ("P", "QRS", "T", "rest")
_MAX_RECORDS = 500  # evenly spread over the test records
_RATE = 250
# What is hidden: kind of mask, share of leads, share of times.
KINDS = {
  "hidden_leads": ("spatial", 0.5, 0.0),
  "hidden_times": ("temporal", 0.0, 0.5),
}


def regions(signal: np.ndarray, sampling_rate: int) -> np.ndarray:
  """Region of the heart beat of each sample.

  Args:
    signal: (T,) of one lead, in mV.
    sampling_rate: Hz.

  Returns:
    int (T,) into `REGIONS`; "rest" everywhere if no beat is found.
  """
  divisor = np.gcd(_RATE, sampling_rate)
  fine = scipy.signal.resample_poly(
    signal.astype(float), _RATE // divisor, sampling_rate // divisor
  )
  region = np.full(len(signal), REGIONS.index("rest"))
  if np.ptp(fine) < 0.05:
    return region
  peaks = wfdb.processing.xqrs_detect(fine, _RATE, verbose=False) / _RATE
  after = np.append(peaks[1:], np.inf)
  windows = {
    "P": (peaks - 0.24, peaks - 0.06),
    "T": (peaks + 0.08, np.minimum(peaks + 0.42, 0.45 * peaks + 0.55 * after)),
    "QRS": (peaks - 0.06, peaks + 0.06),
  }
  time = np.arange(len(signal)) / sampling_rate
  for name, bounds in windows.items():  # where two overlap the later counts
    for start, end in zip(*bounds, strict=True):
      region[(time >= start) & (time < end)] = REGIONS.index(name)
  return region


def reconstruct(
  trained: TrainedModel,
  source: EcgSource,
  index: RecordIndex,
  *,
  batch_size: int,
  num_bootstrap: int = 1000,
  seed: int = 0,
) -> Findings:
  """Hides leads, then times, of test records and measures what is restored.

  Args:
    trained: a model with a decoder.
    source: test records.
    index: what the data set says about the same records.
    batch_size: records restored at once.
    num_bootstrap: resamples of subjects.
    seed: decides what is hidden, and the resampling.

  Returns:
    Measures "unexplained variance", whole, of each lead and of each region.

  Raises:
    UserError: the model has no decoder.
  """
  chosen, in_beat = _chosen(source)
  subjects = index.subject_ids[chosen]
  weights = statistics.subject_weights(subjects, num_bootstrap, seed)
  measures = []
  for setting, mask in KINDS.items():
    error, variance = _squares(
      trained, source, chosen, in_beat, mask, batch_size, seed
    )
    measures += _measures(setting, error, variance, weights)
  test = TestSet(
    index.ids[chosen].astype(str),
    subjects.astype(str),
    np.zeros((len(chosen), 0), np.uint8),
    (),
  )
  return Findings(test, measures=tuple(measures))


def _squares(
  trained: TrainedModel,
  source: EcgSource,
  chosen: np.ndarray,
  in_beat: np.ndarray,
  mask: tuple[str, float, float],
  batch_size: int,
  seed: int,
) -> np.ndarray:
  """Squared error, and squared signal, of hidden samples.

  Args:
    trained: a model with a decoder.
    source: records.
    chosen: (N,) which of them.
    in_beat: (N, T) region of each sample.
    mask: kind, share of leads and share of times, see `KINDS`.
    batch_size: records restored at once.
    seed: decides what is hidden.

  Returns:
    (2, N, leads, regions), of the error and of the signal.
  """
  squares = np.zeros((2, len(chosen), NUM_LEADS, len(REGIONS)))
  patch_length = trained.model.config.patch_length
  for start in range(0, len(chosen), batch_size):
    rows = np.arange(start, min(start + batch_size, len(chosen)))
    padded = np.minimum(np.arange(start, start + batch_size), len(chosen) - 1)
    records = [source.signal(int(chosen[i])) for i in padded]
    ecg, lead_valid = (
      np.stack([r[key] for r in records]) for key in ("ecg", "lead_valid")
    )
    key = jax.random.fold_in(jax.random.key(seed), start)
    hidden = np.asarray(
      masking.sample_patch_mask(
        key, lead_valid, ecg.shape[-1] // patch_length, *mask
      ).hidden
    )
    signals = trained.reconstruct(ecg, lead_valid, hidden, batch_size)
    samples = np.repeat(hidden, patch_length, axis=-1)
    for which, x in enumerate(
      (signals.restored - signals.original, signals.original - signals.mean)
    ):
      squares[which, rows] = _by_region(
        np.where(samples, x, 0.0)[: len(rows)] ** 2, in_beat[rows]
      )
  return squares


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
          main=name == "all" or name in REGIONS,
        )
      )
  return measures


@functools.lru_cache(maxsize=1)  # every encoder restores the same records
def _chosen(source: EcgSource) -> tuple[np.ndarray, np.ndarray]:
  """Evenly spread records (N,), and the region of each sample (N, T)."""
  count = min(len(source), _MAX_RECORDS)
  chosen = np.arange(count) * len(source) // count
  return chosen, np.stack([_record_regions(source, int(i)) for i in chosen])


def _record_regions(source: EcgSource, number: int) -> np.ndarray:
  """Region of each sample of a record, seen in lead II if it is there."""
  record = source.signal(number)
  lead = LEADS.index("II")
  if not record["lead_valid"][lead]:
    lead = int(np.argmax(record["lead_valid"]))
  return regions(record["ecg"][lead] / 1000, source.sampling_rate)


def _by_region(x: np.ndarray, in_beat: np.ndarray) -> np.ndarray:
  """Sums (B, 12, T) over the samples of each region, (B, 12, regions)."""
  one_hot = in_beat[..., None] == np.arange(len(REGIONS))
  return np.einsum("blt,btr->blr", x, one_hot.astype(x.dtype))


def run(inputs: Inputs, options: Options) -> Findings:
  """Restores test records; see `reconstruct`."""
  return reconstruct(
    inputs.trained_model(),
    inputs.data.test,
    inputs.data.index("test"),
    batch_size=options.batch_size,
    num_bootstrap=options.num_bootstrap,
  )


TASK = Task(
  name="reconstruction",
  run=run,
  order=60,
  labels="",
  options=("batch_size",),  # what is hidden is drawn for each batch
  own_table=True,
  figure=functools.partial(figures.parts, quantity="unexplained"),
)
