"""Turns the voltages of a recording into the int16 microvolts of a record.

The order of the steps is part of the format: crop, repair gaps within their
lead, drop leads without signal, resample, round, pad. Gaps are repaired before
the resampling filter sees them, because one NaN would spread over its whole
length.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
from typing import NamedTuple

import numpy as np
import scipy.signal

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import rejected

MAX_GAP_SECONDS = 0.2  # longer: the lead is invalid
MAX_MISSING_FRACTION = 0.1  # more missing in all: the lead is invalid
MIN_VALID_LEADS = 6  # fewer: a data set rejects the record
MIN_RANGE_UV = 1.0  # less, peak to peak: the lead carries no signal
MAX_CLIPPED_SECONDS = 0.02  # a longer part of a lead off scale: rejected
MAX_VALUE = np.iinfo(np.int16).max

# Why a lead is invalid.
MISSING = "missing"  # no signal of the file has its name
LONG_GAP = "long_gap"
MANY_GAPS = "many_gaps"
CONSTANT = "constant"

_NO_VOLTAGE = 1e12  # microvolt; such a value is no sample, like NaN
_MARGIN_SECONDS = 0.5  # read beyond a crop so that its end is filtered rightly
_MAX_RATIO_TERM = 2000  # larger resampling ratios are a wrong header

CLEANING = (
  "Leads by name, in microvolt. The first samples of longer recordings. Gaps up"
  f" to {MAX_GAP_SECONDS:g} s are interpolated linearly within their lead (held"
  " at the ends); a lead with a longer gap, or with more than"
  f" {MAX_MISSING_FRACTION:.0%} missing, and a constant lead are marked invalid"
  " and zero. Other sampling rates are resampled with a polyphase filter. No"
  " other filter, no normalisation."
)


@dataclasses.dataclass(frozen=True)
class Recording:
  """What a file holds.

  Attributes:
    signal: float (12, samples), microvolt, canonical lead order; NaN where
      there is no sample, in particular in the rows of absent leads.
    present: bool (12,), the leads that are in the file.
    sampling_rate: Hz.
  """

  signal: np.ndarray
  present: np.ndarray
  sampling_rate: float


@dataclasses.dataclass(frozen=True)
class SignalSpec:
  """What a record must be.

  Attributes:
    sampling_rate: Hz of the record.
    num_samples: samples of each lead of the record.
    source_rate: Hz that the files of this data set have; another rate means a
      wrong file. None accepts every rate.
    min_valid_leads: with fewer leads a recording is rejected.
    signal_samples: fewest and most of the `num_samples` that hold signal; zeros
      follow it. Shorter recordings are rejected. None: all of them.
  """

  sampling_rate: int
  num_samples: int
  source_rate: float | None = None
  signal_samples: tuple[int, int] | None = None
  min_valid_leads: int = MIN_VALID_LEADS


class Encoded(NamedTuple):
  """The signal of a record.

  Attributes:
    ecg: int16 (12, num_samples), microvolt, zeros in invalid leads.
    lead_valid: bool (12,).
    faults: why leads are invalid: a reason for each of them, in their order.
  """

  ecg: np.ndarray
  lead_valid: np.ndarray
  faults: tuple[str, ...]


def encode(recording: Recording, spec: SignalSpec) -> Encoded:
  """Turns a recording into the signal of a record.

  Args:
    recording: the recording; not modified.
    spec: rate and length of the record.

  Raises:
    rejected.Rejected: the recording cannot be used; the subclass says why.
  """
  ratio = _resampling_ratio(recording.sampling_rate, spec)
  fewest, most = spec.signal_samples or (spec.num_samples, spec.num_samples)
  length, needed = recording.signal.shape[1], math.ceil(fewest / ratio)
  if length < needed:
    raise rejected.WrongLength(
      f"{length} samples at {recording.sampling_rate:g} Hz; {needed} are needed"
    )
  used = min(length, math.ceil(most / ratio))
  if np.count_nonzero(recording.present) < spec.min_valid_leads:
    names = [LEADS[i] for i in np.flatnonzero(recording.present)]
    raise rejected.MissingLeads(f"only {', '.join(names)}")

  rate = recording.sampling_rate
  margin = 0 if ratio == 1 else int(_MARGIN_SECONDS * rate)
  signal = np.asarray(recording.signal[:, : used + margin], np.float64)
  missing = ~(np.abs(signal) < _NO_VOLTAGE)
  faults = _find_gaps(missing, used, rate)
  faults[~recording.present] = MISSING
  valid = faults == ""
  if np.count_nonzero(valid) < spec.min_valid_leads:
    raise rejected.TooManyNan(
      f"{np.count_nonzero(valid)} leads have no gap over {MAX_GAP_SECONDS} s"
      f" and less than {MAX_MISSING_FRACTION:.0%} missing"
    )
  signal = _interpolate(signal, missing, valid)
  faults[valid & (np.ptp(signal[:, :used], axis=1) < MIN_RANGE_UV)] = CONSTANT
  valid = faults == ""
  if np.count_nonzero(valid) < spec.min_valid_leads:
    raise rejected.NoSignal(
      f"{np.count_nonzero(valid)} leads are complete and not constant"
    )
  signal = np.where(valid[:, None], signal, 0.0)
  if ratio != 1:
    # A line through both ends is taken off before the filter and put back
    # after it; padding with zeros would bend the ends of every lead.
    signal = scipy.signal.resample_poly(
      signal, ratio.numerator, ratio.denominator, axis=1, padtype="line"
    )
  ecg = _quantise(signal[:, :most], spec.sampling_rate)
  ecg = np.pad(ecg, ((0, 0), (0, spec.num_samples - ecg.shape[1])))
  return Encoded(ecg, valid, tuple(faults[~valid].tolist()))


def _resampling_ratio(rate: float, spec: SignalSpec) -> fractions.Fraction:
  """Record rate over file rate; rejects files with a wrong rate."""
  if spec.source_rate is not None and rate != spec.source_rate:
    raise rejected.WrongRate(f"{rate:g} Hz instead of {spec.source_rate:g} Hz")
  if not (math.isfinite(rate) and rate > 0):
    raise rejected.WrongRate(f"{rate:g} Hz")
  ratio = spec.sampling_rate / fractions.Fraction(str(rate))
  if max(ratio.numerator, ratio.denominator) > _MAX_RATIO_TERM:
    raise rejected.WrongRate(
      f"{rate:g} Hz cannot be resampled to {spec.sampling_rate} Hz exactly"
    )
  return ratio


def _find_gaps(missing: np.ndarray, used: int, rate: float) -> np.ndarray:
  """Finds the leads whose gaps cannot be repaired.

  Args:
    missing: bool (12, samples).
    used: gaps that start at or after this sample do not count.
    rate: Hz.

  Returns:
    Strings (12,): empty, `LONG_GAP` or `MANY_GAPS`.
  """
  limit = math.floor(MAX_GAP_SECONDS * rate + 1e-6)
  faults = np.full(len(missing), "", object)
  faults[missing[:, :used].mean(axis=1) > MAX_MISSING_FRACTION] = MANY_GAPS
  for lead in np.flatnonzero((faults == "") & missing.any(axis=1)):
    edges = np.diff(np.pad(missing[lead].astype(np.int8), 1))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    lengths = (ends - starts)[starts < used]
    if lengths.max(initial=0) > limit:
      faults[lead] = LONG_GAP
  return faults


def _interpolate(
  signal: np.ndarray, missing: np.ndarray, valid: np.ndarray
) -> np.ndarray:
  """Fills the gaps of valid leads from their own samples; zeros the others.

  Linear between the neighbours of a gap; at the ends the nearest sample holds.
  """
  signal = np.where(valid[:, None], signal, 0.0)
  for lead in np.flatnonzero(valid & missing.any(axis=1)):
    gap = missing[lead]
    signal[lead, gap] = np.interp(
      np.flatnonzero(gap), np.flatnonzero(~gap), signal[lead, ~gap]
    )
  return signal


def _quantise(signal: np.ndarray, rate: int) -> np.ndarray:
  """Rounds microvolts to int16; clips brief spikes, rejects more than that.

  The whole record is rejected, not the lead: values off scale usually mean a
  wrong unit or gain, and then no lead of the record can be trusted.
  """
  rounded = np.rint(signal)
  clipped = np.count_nonzero(np.abs(rounded) > MAX_VALUE, axis=1)
  if clipped.max() > MAX_CLIPPED_SECONDS * rate:
    lead = int(clipped.argmax())
    raise rejected.OutOfRange(
      f"{clipped[lead]} samples of lead {LEADS[lead]} exceed"
      f" +-{MAX_VALUE} uV (up to {np.abs(signal[lead]).max():.0f} uV)"
    )
  return np.clip(rounded, -MAX_VALUE, MAX_VALUE).astype(np.int16)
