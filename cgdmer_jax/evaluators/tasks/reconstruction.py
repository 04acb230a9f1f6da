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

from cgdmer_jax import trained_model as experiment_lib
from cgdmer_jax.data import pipeline
from cgdmer_jax.data.index import RecordIndex
from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import scoring, statistics
from cgdmer_jax.figures import restored as reconstruction_lib

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
  found = np.full(len(signal), REGIONS.index("rest"))
  if np.ptp(fine) < 0.05:
    return found
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
      found[(time >= start) & (time < end)] = REGIONS.index(name)
  return found


def reconstruct(
  experiment: experiment_lib.Experiment,
  source: EcgSource,
  index: RecordIndex,
  *,
  batch_size: int,
  num_bootstrap: int = 1000,
  seed: int = 0,
) -> scoring.Findings:
  """Hides leads, then times, of test records and measures what is restored.

  Args:
    experiment: a model with a decoder.
    source: test records.
    index: of the same records.
    batch_size: records restored at once.
    num_bootstrap: resamples of subjects.
    seed: of what is hidden, and of the resampling.

  Returns:
    Measures "unexplained variance", whole, of each lead and of each region.

  Raises:
    UserError: the model has no decoder.
  """
  if not experiment.model.reconstruct:
    raise UserError(
      f"recipe {experiment.config.recipe!r} has no decoder that could restore"
      " hidden patches"
    )
  chosen, in_beat = _chosen(source)
  count = len(chosen)
  masks = (NUM_LEADS, len(REGIONS))
  subjects = index.subject_ids[chosen]
  weights = statistics.subject_weights(subjects, num_bootstrap, seed)
  measures = []
  for setting, mask in KINDS.items():
    restore = reconstruction_lib.Restore(experiment, *mask)
    squares = np.zeros((2, count, *masks))  # of the error, and of the signal
    for start in range(0, count, batch_size):
      rows = np.arange(start, start + batch_size)
      inside = rows < count
      records = [source.signal(int(chosen[min(i, count - 1)])) for i in rows]
      batch: pipeline.Batch = {
        key: np.stack([r[key] for r in records])
        for key in ("ecg", "lead_valid")
      }
      key = jax.random.fold_in(jax.random.key(seed), start)
      original, restored, mean, hidden = restore(batch, key)
      for which, x in enumerate((restored - original, original - mean)):
        squares[which, rows[inside]] = _by_region(
          np.where(hidden, x, 0.0)[inside] ** 2, in_beat[rows[inside]]
        )
    error, variance = squares
    parts = {"all": (slice(None), slice(None))}
    parts |= {lead: (i, slice(None)) for i, lead in enumerate(LEADS)}
    parts |= {r: (slice(None), i) for i, r in enumerate(REGIONS)}
    for name, (lead, region) in parts.items():
      values, counts = (
        x[:, lead, region].reshape(count, -1).sum(1) for x in (error, variance)
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
  test = scoring.TestSet(
    index.ids[chosen].astype(str),
    subjects.astype(str),
    np.zeros((count, 0), np.uint8),
    (),
  )
  return scoring.Findings(test, measures=tuple(measures))


@functools.lru_cache(maxsize=1)  # every encoder restores the same records
def _chosen(source: EcgSource) -> tuple[np.ndarray, np.ndarray]:
  """Evenly spread records (N,), and the region of each sample (N, T)."""
  count = min(len(source), _MAX_RECORDS)
  chosen = np.arange(count) * len(source) // count
  regions_of = [
    _regions_of(source, int(i), source.sampling_rate) for i in chosen
  ]
  return chosen, np.stack(regions_of)


def _regions_of(source, i, sampling_rate) -> np.ndarray:
  record = source.signal(i)
  lead = LEADS.index("II")
  if not record["lead_valid"][lead]:
    lead = int(np.argmax(record["lead_valid"]))
  return regions(record["ecg"][lead] / 1000, sampling_rate)


def _by_region(x: np.ndarray, in_beat: np.ndarray) -> np.ndarray:
  """Sums (B, 12, T) over the samples of each region, (B, 12, regions)."""
  one_hot = in_beat[..., None] == np.arange(len(REGIONS))
  return np.einsum("blt,btr->blr", x, one_hot.astype(x.dtype))
