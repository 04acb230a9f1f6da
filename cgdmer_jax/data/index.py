"""What a split says about its records, without the signals.

One pass over the files collects reports, labels and patients; the result is
kept beside the data set, so that the pass is paid once per split.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import uuid
import zipfile
from urllib.parse import quote

import numpy as np
from absl import logging
from etils import epath

from cgdmer_jax.data.source import EcgSource

_FORMAT = "1"  # raise it when the content of the cache file changes


@dataclasses.dataclass(frozen=True)
class RecordIndex:
  """Everything small about the N records of a split, in source order.

  Attributes:
    ids: the data set's record ids, str (N,).
    subject_ids: patients, str (N,).
    reports: the distinct report texts in order of first appearance.
    report_ids: int32 (N,) into `reports`; equal exactly when the texts are.
    labels: label set -> multi-hot uint8 (N, number of labels).
  """

  ids: np.ndarray
  subject_ids: np.ndarray
  reports: tuple[str, ...]
  report_ids: np.ndarray
  labels: dict[str, np.ndarray]

  def __len__(self) -> int:
    return len(self.ids)


def load_index(source: EcgSource) -> RecordIndex:
  """The index of `source`: from its cache file, else built and cached.

  The file lies in `cgdmer_index/` beside the records, or below
  `$XDG_CACHE_HOME/cgdmer_jax` (default `~/.cache`) where that is not writable.
  It is renewed when the data set or the split has changed. Several processes
  may call this at once.
  """
  candidates = _cache_paths(source)
  for path in candidates:
    index = _read(path, source.fingerprint)
    if index is not None:
      return index
  index = build_index(source)
  for path in candidates:
    try:
      _write(path, source.fingerprint, index)
      break
    except OSError as e:
      logging.info("cannot write %s: %s", path, e)
  return index


def build_index(source: EcgSource) -> RecordIndex:
  """Reads every record of `source` once."""
  n = len(source)
  logging.info("reading the reports and labels of %d records: %r", n, source)
  ids, subject_ids, report_ids = [], [], np.empty(n, np.int32)
  reports: dict[str, int] = {}
  labels = {
    key: np.empty((n, len(names)), np.uint8)
    for key, names in source.label_sets.items()
  }
  for i in range(n):
    record = source.annotations(i)
    ids.append(record["id"])
    subject_ids.append(record["subject_id"])
    report_ids[i] = reports.setdefault(record["report"], len(reports))
    for key, rows in labels.items():
      rows[i] = record["labels"][key]
  return RecordIndex(
    np.array(ids), np.array(subject_ids), tuple(reports), report_ids, labels
  )


def _cache_paths(source: EcgSource) -> tuple[epath.Path, epath.Path]:
  name = f"{quote(source.split, safe='')}.npz"
  where = hashlib.sha256(os.fspath(source.path).encode()).hexdigest()[:16]
  root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  cache = epath.Path(root).expanduser() / "cgdmer_jax" / where
  return source.path / "cgdmer_index" / name, cache / name


def _read(path: epath.Path, fingerprint: str) -> RecordIndex | None:
  """The index in `path`; None if there is none, or one of other records."""
  try:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:
      arrays = dict(data)
  except (OSError, EOFError, ValueError, zipfile.BadZipFile):
    return None
  if str(arrays.pop("version", "")) != _FORMAT + fingerprint:
    return None
  reports = json.loads(arrays.pop("reports").tobytes())
  return RecordIndex(
    arrays.pop("ids"),
    arrays.pop("subject_ids"),
    tuple(reports),
    arrays.pop("report_ids"),
    {key.removeprefix("labels/"): rows for key, rows in arrays.items()},
  )


def _write(path: epath.Path, fingerprint: str, index: RecordIndex) -> None:
  """Writes the cache file; readers see a complete file or none."""
  buffer = io.BytesIO()
  # Texts as JSON: a NumPy string array would pad each to the longest.
  np.savez_compressed(
    buffer,
    version=np.array(_FORMAT + fingerprint),
    ids=index.ids,
    subject_ids=index.subject_ids,
    reports=np.frombuffer(json.dumps(index.reports).encode(), np.uint8),
    report_ids=index.report_ids,
    **{f"labels/{key}": rows for key, rows in index.labels.items()},
  )
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.parent / f"{path.name}.{uuid.uuid4().hex}.tmp"
  temporary.write_bytes(buffer.getvalue())
  temporary.replace(path)
