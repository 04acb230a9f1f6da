"""What a split says about its records, without the signals.

One pass over the files collects reports, labels, patients and what tells
recordings apart. The result is kept beside the data set, so a split needs one
pass only.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from absl import logging

from cgdmer_jax import keyed
from cgdmer_jax.data import cache, identity
from cgdmer_jax.data.source import EcgSource

_FORMAT = "2"  # raise it when the content of the cache file changes


@dataclasses.dataclass(frozen=True)
class RecordIndex:
  """Everything but the signals of the N records of a split, in source order.

  Attributes:
    ids: the data set's record ids, str (N,).
    subject_ids: patients, str (N,).
    reports: the distinct report texts in order of first appearance.
    report_ids: int32 (N,) into `reports`; equal exactly when the texts are.
    recordings: uint64 (N, 2), equal exactly for records of the same recording,
      also between data sets of one sampling rate; see `identity.py`.
    labels: label set -> multi-hot uint8 (N, number of labels).
  """

  ids: np.ndarray
  subject_ids: np.ndarray
  reports: tuple[str, ...]
  report_ids: np.ndarray
  recordings: np.ndarray
  labels: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.ids)


def load_index(source: EcgSource) -> RecordIndex:
  """Loads the index of `source` from its cache file, or builds and caches it.

  It is built again when the data set or the split has changed; see `cache.py`.
  """
  key = keyed.make_key(_FORMAT, source.fingerprint)
  arrays = cache.read_arrays(source, ".npz", key)
  if arrays is None:
    index = build_index(source)
    _write(source, key, index)
    return index
  reports = json.loads(arrays.pop("reports").tobytes())
  return RecordIndex(
    arrays.pop("ids"),
    arrays.pop("subject_ids"),
    tuple(reports),
    arrays.pop("report_ids"),
    arrays.pop("recordings"),
    {name.removeprefix("labels/"): rows for name, rows in arrays.items()},
  )


def build_index(source: EcgSource) -> RecordIndex:
  """Reads every record of `source` once."""
  n = len(source)
  logging.info("reading the reports and labels of %d records: %r", n, source)
  ids, subject_ids, report_ids = [], [], np.empty(n, np.int32)
  recordings = bytearray()
  reports: dict[str, int] = {}
  labels = {
    key: np.empty((n, len(names)), np.uint8)
    for key, names in source.label_sets.items()
  }
  for i in range(n):
    record = source[i]
    ids.append(record["id"])
    subject_ids.append(record["subject_id"])
    report_ids[i] = reports.setdefault(record["report"], len(reports))
    recordings += identity.identify(record["ecg"], source.sampling_rate)
    for key, rows in labels.items():
      rows[i] = record["labels"][key]
  return RecordIndex(
    np.array(ids),
    np.array(subject_ids),
    tuple(reports),
    report_ids,
    identity.to_rows(bytes(recordings)),
    labels,
  )


def _write(source: EcgSource, key: str, index: RecordIndex) -> None:
  cache.write_arrays(
    source,
    ".npz",
    key,
    ids=index.ids,
    subject_ids=index.subject_ids,
    # Texts as JSON: a NumPy string array would pad each to the longest.
    reports=np.frombuffer(json.dumps(index.reports).encode(), np.uint8),
    report_ids=index.report_ids,
    recordings=index.recordings,
    **{f"labels/{key}": rows for key, rows in index.labels.items()},
  )
