"""Which records hold the same recording, whatever they are called."""

from __future__ import annotations

import hashlib

import numpy as np

SIZE = 16  # bytes of an identity
_SECONDS = 5  # the shortest recording that a data set takes


def identify(ecg: np.ndarray, sampling_rate: int) -> bytes:
  """16 bytes that tell whether two records hold the same recording.

  They are a hash of the stored samples of the first 5 seconds, but for a
  twentieth at both ends. So a recording and one whose end was cut are the same,
  where a data set pads short ones; the twentieth is more than the 0.1 s in
  which resampling from 500 to 100 Hz depends on where a recording ends. Records
  are in microvolts and canonical lead order, with zeros in invalid leads: gain,
  unit and lead order of the files do not matter.

  Copies that were cut at the beginning are not found. Hashes of windows that
  begin where their content says so would find them, for 0.4 ms and 120 bytes a
  record more (measured at 500 Hz; a record is built in 1.8 ms, and its hash
  takes less than 0.1 ms), and only CPSC2018 has recordings longer than a
  record. Filtered and scaled ones would need a likeness with a threshold, and
  so would copies at another sampling rate.

  Args:
    ecg: int16 (12, num_samples).
    sampling_rate: Hz.
  """
  ecg = ecg[:, : _SECONDS * sampling_rate]
  margin = ecg.shape[1] // 20
  window = ecg[:, margin : ecg.shape[1] - margin]
  digest = hashlib.sha256(np.ascontiguousarray(window))  # fastest safe one
  return digest.digest()[:SIZE]


def to_rows(identities: bytes) -> np.ndarray:
  """The identities of N records as uint64 (N, 2).

  Args:
    identities: of all records, one after the other.
  """
  rows = np.frombuffer(identities, ">u8").reshape(-1, SIZE // 8)
  return rows.astype(np.uint64)


def is_among(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Which of N records hold a recording that is one of M others.

  Args:
    rows: uint64 (N, 2).
    others: uint64 (M, 2).

  Returns:
    bool (N,).
  """
  # Both halves of a row being those of different others does not happen.
  return np.isin(rows[:, 0], others[:, 0]) & np.isin(rows[:, 1], others[:, 1])
