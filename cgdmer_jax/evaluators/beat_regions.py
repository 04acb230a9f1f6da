"""Regions of the heart beat: P, QRS, T, and what lies between.

Regions are windows around the R peaks, not a delineation of waves: QRS within
60 ms of the peak; P the 180 ms before; T from 80 ms after the peak for 340 ms,
at most until 55 % of the way to the next; the rest between beats. Peaks are
those that `wfdb.processing.xqrs_detect` finds in lead II at 250 Hz, where its
filters are at home (at 100 Hz it takes every other T wave for a beat).
"""

from __future__ import annotations

import numpy as np
import scipy.signal
import wfdb.processing

REGIONS = ("P", "QRS", "T", "rest")
_RATE = 250


def find(signal: np.ndarray, sampling_rate: int) -> np.ndarray:
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
