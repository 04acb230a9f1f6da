"""Views of a source: some records, some leads, or a lower sampling rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.signal

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.data.pipeline import SignalSource
from cgdmer_jax.data.source import EcgSource, Record


class Rows:
  """Some records of a source."""

  def __init__(self, source: SignalSource, rows: np.ndarray):
    """Selects the records `rows` of `source`, in that order."""
    self._source, self._rows = source, rows
    self.sampling_rate = source.sampling_rate
    self.name = source.name

  def __len__(self) -> int:
    return len(self._rows)

  def signal(self, index: int) -> Record:
    """See `EcgSource.signal`."""
    return self._source.signal(int(self._rows[index]))


class FewLeads:
  """Records of which only some leads are given."""

  def __init__(self, source: EcgSource, leads: Sequence[str]):
    """Hides all leads of `source` but `leads`."""
    self._source = source
    self._given = np.isin(LEADS, leads)
    self.sampling_rate = source.sampling_rate
    self.name = source.name

  def __len__(self) -> int:
    return len(self._source)

  def signal(self, index: int) -> Record:
    """See `EcgSource.signal`; a lead that is not given is missing."""
    record = self._source.signal(index)
    return {
      "ecg": np.where(self._given[:, None], record["ecg"], np.int16(0)),
      "lead_valid": record["lead_valid"] & self._given,
    }


class Decimated:
  """Records at a fraction of their sampling rate."""

  def __init__(self, source: SignalSource, factor: int):
    """Reduces the sampling rate of `source` by a whole factor."""
    self._source, self._factor = source, factor
    self.sampling_rate = source.sampling_rate // factor
    self.name = source.name

  def __len__(self) -> int:
    return len(self._source)

  def signal(self, index: int) -> Record:
    """See `EcgSource.signal`."""
    record = dict(self._source.signal(index))
    ecg = record["ecg"].astype(np.float32)
    ecg = scipy.signal.resample_poly(ecg, 1, self._factor, axis=-1)
    record["ecg"] = np.clip(np.rint(ecg), -32768, 32767).astype(np.int16)
    return record
