"""From named signals of any file or array to a recording in microvolt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.recordings import codec, rejected

MICROVOLTS = {"uv": 1.0, "\u00b5v": 1.0, "\u03bcv": 1.0, "mv": 1e3, "v": 1e6}
UNITS = ("uV", "mV", "V")
MAX_RATE = 100_000.0  # Hz; devices have up to 32,000
MAX_VALUES = 1 << 25  # samples of all signals: 46 minutes at 1 kHz

_PREFIX = re.compile(r"^(mdc_ecg_(lead_)?|ecg[ _]+(lead[ _]+)?|lead[ _]+)")
_INDEX = {name.lower(): i for i, name in enumerate(LEADS)}


def lead_index(name: str) -> int | None:
  """Number of a lead in `LEADS`, from any usual spelling of it, or None.

  Upper and lower case are the same; so are `II`, `Lead II`, `ECG II` and
  `MDC_ECG_LEAD_II`.
  """
  return _INDEX.get(_PREFIX.sub("", name.strip().lower()))


def microvolts(unit: str) -> float:
  """Microvolts in a unit of voltage.

  Raises:
    rejected.UnknownUnit: it is none.
  """
  try:
    return MICROVOLTS[unit.strip().lower()]
  except KeyError:
    raise rejected.UnknownUnit(
      f"unit {unit!r}; expected one of {', '.join(UNITS)}"
    ) from None


def check_rate(rate: float) -> float:
  """The sampling rate in Hz, if it can be one.

  Raises:
    rejected.WrongRate: it is not.
  """
  if not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
    raise rejected.WrongRate(f"sampling rate {rate:g} Hz")
  return rate


def check_size(num_values: int) -> None:
  """Refuses what would fill the memory, before it is read.

  Raises:
    rejected.WrongLength: more than `MAX_VALUES`.
  """
  if num_values > MAX_VALUES:
    raise rejected.WrongLength(
      f"{num_values:,} samples; at most {MAX_VALUES:,} are read at once: cut"
      " the recording into parts"
    )


def recording(
  names: Sequence[str],
  rows: Sequence[np.ndarray] | np.ndarray,
  factors: Sequence[float] | float,
  sampling_rate: float,
) -> codec.Recording:
  """Puts signals in the order of `LEADS`, in microvolt.

  Args:
    names: of the signals; those that are no lead are left out.
    rows: a signal each, in any unit; only leads have to be equally long.
    factors: microvolts in the unit of each signal, or of all.
    sampling_rate: Hz.

  Raises:
    rejected.Rejected: no lead is there, or one twice; lengths differ; the rate
      is none.
  """
  check_rate(sampling_rate)
  factors = np.broadcast_to(np.asarray(factors, np.float64), len(names))
  found: dict[int, int] = {}
  for column, name in enumerate(names):
    lead = lead_index(name)
    if lead in found:
      raise rejected.AmbiguousLeads(f"two leads {LEADS[lead]}")
    if lead is not None:
      found[lead] = column
  if not found:
    raise rejected.MissingLeads(f"none of the 12 leads in {list(names)[:20]}")
  lengths = {LEADS[lead]: len(rows[column]) for lead, column in found.items()}
  if len(set(lengths.values())) > 1:
    raise rejected.Corrupt(f"leads of different lengths: {lengths}")
  length = next(iter(lengths.values()))
  if not length:
    raise rejected.WrongLength("no samples")
  signal = np.full((NUM_LEADS, length), np.nan)
  present = np.zeros(NUM_LEADS, bool)
  for lead, column in found.items():
    signal[lead] = np.asarray(rows[column], np.float64) * factors[column]
    present[lead] = True
  signal[~np.isfinite(signal)] = np.nan
  return codec.Recording(signal, present, float(sampling_rate))
