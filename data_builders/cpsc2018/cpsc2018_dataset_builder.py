"""CPSC2018: 6,877 12-lead ECGs of 6 to 144 s with nine diagnoses."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.data import schema
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, rejected, wfdb_io
from data_builders import cinc, downloads, records, splits, tables
from data_builders.cpsc2018 import matlab

_SECONDS = 10
_MIN_SECONDS = 5
_MERL_SECONDS = 5  # MERL keeps 5 s, "as METS did", and pads them to 10 s
_SOURCE_RATE = 500
_REFERENCE = "REFERENCE.csv"
_REFERENCE_COLUMNS = (
  "Recording", "First_label", "Second_label", "Third_label",
)  # fmt: skip
_SOURCE = (
  "the CPSC2018 part of PhysioNet/CinC 2021"
  " (https://physionet.org/content/challenge-2021/1.0.3/, training/cpsc_2018)"
  f" or the original training set (A0001.mat .. and {_REFERENCE},"
  " http://2018.icbeb.org/Challenge.html)"
)


@dataclasses.dataclass(frozen=True)
class Label:
  """A diagnosis and how each distribution writes it.

  Attributes:
    name: label name, as in the published split files.
    number: number in `REFERENCE.csv`.
    snomed: SNOMED code in the headers of PhysioNet.
    acronym: what PhysioNet's first version has (February 2020).
  """

  name: str
  number: str
  snomed: str
  acronym: str


LABELS = (
  Label("AFIB", "2", "164889003", "AF"),
  Label("VPC", "7", "164884008", "PVC"),
  Label("NORM", "1", "426783006", "Normal"),
  Label("1AVB", "3", "270492004", "I-AVB"),
  Label("CRBBB", "5", "59118001", "RBBB"),
  Label("STE", "9", "164931005", "STE"),
  Label("PAC", "6", "284470004", "PAC"),
  Label("CLBBB", "4", "164909002", "LBBB"),
  Label("STD", "8", "429622005", "STD"),
)
LABEL_NAMES = tuple(label.name for label in LABELS)
_NAMES = {
  code: label.name
  for label in LABELS
  for code in (label.number, label.snomed, label.acronym)
}


class Builder(cinc.CincBuilder):
  """CPSC2018 in either of its two distributions."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "Training set of CPSC2018."}
  BUILDER_CONFIGS = cinc.configs()
  DOWNLOAD = downloads.PhysioNet(
    "challenge-2021", "1.0.3", "1.3 GB", folder="training/cpsc_2018/"
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f"Download {_SOURCE}. manual_dir is the folder with the records, or one"
    f" above it; {_REFERENCE} must be directly in it."
  )
  SOURCE = _SOURCE
  RECORD = re.compile(r"A\d{4}", re.ASCII)  # Q0001.. are CPSC-Extra
  EXAMPLE = "A0001.mat"
  LABEL_SET = "cpsc2018"
  LABELS = LABEL_NAMES
  PUBLISHED = splits.merl_files("icbeb", "filename")
  HOMEPAGE = "http://2018.icbeb.org/Challenge.html"
  CLEANING = (
    f"{codec.CLEANING} Recordings shorter than {_SECONDS} s are followed by"
    f" zeros; merl_compat keeps {_MERL_SECONDS} s of each."
  )

  def _signal_spec(self) -> codec.SignalSpec:
    rate = self.builder_config.sampling_rate
    seconds = (_MIN_SECONDS, _SECONDS)
    if self.builder_config.label_mode == schema.MERL_COMPAT:
      seconds = (_MERL_SECONDS, _MERL_SECONDS)
    return codec.SignalSpec(
      rate,
      _SECONDS * rate,
      source_rate=_SOURCE_RATE,
      signal_samples=(seconds[0] * rate, seconds[1] * rate),
    )

  def _reader(self) -> records.Reader:
    return read

  def _read_labels(
    self, source_dir: pathlib.Path, files: Mapping[str, pathlib.Path]
  ) -> dict[str, np.ndarray]:
    if any(_has_header(path) for path in files.values()):
      codes = {}
      for record_id, path in files.items():
        try:
          codes[record_id] = cinc.read_dx(path)
        except rejected.Rejected as e:
          self.rejects.add(record_id, e.reason, str(e))
    else:
      codes = read_reference(source_dir / _REFERENCE)
      for record_id in sorted(files.keys() - codes.keys()):
        detail = f"no row in {_REFERENCE}"
        self.rejects.add(record_id, rejected.BadMetadata.reason, detail)
    vectors = {}
    for record_id, found in codes.items():
      try:
        vectors[record_id] = labels(found)
      except rejected.BadMetadata as e:
        self.rejects.add(record_id, e.reason, str(e))
    return vectors


def labels(codes: Iterable[str]) -> np.ndarray:
  """Turns the diagnoses of a record into labels.

  Args:
    codes: the diagnoses, as any distribution writes them.

  Returns:
    uint8 (9,), order of `LABELS`.

  Raises:
    rejected.BadMetadata: there is none, or an unknown one. Every record has one
      to three of the nine diagnoses, so the copy is another data set's.
  """
  codes = tuple(codes)
  if not codes or any(code not in _NAMES for code in codes):
    raise rejected.BadMetadata(f"diagnoses {', '.join(codes) or 'none'}")
  return cinc.multi_hot((_NAMES[code] for code in codes), LABEL_NAMES)


def read_reference(path: pathlib.Path) -> dict[str, tuple[str, ...]]:
  """Reads the diagnoses in the table of the original distribution.

  Args:
    path: `REFERENCE.csv`.

  Returns:
    Id -> numbers of its diagnoses.

  Raises:
    UserError: there is no such table, or it lists a record twice.
  """
  recording, *columns = _REFERENCE_COLUMNS
  found: dict[str, tuple[str, ...]] = {}
  for row in tables.read(path, _REFERENCE_COLUMNS, _SOURCE):
    if row[recording] in found:
      raise UserError(f"{path} lists {row[recording]!r} twice")
    found[row[recording]] = tuple(row[c] for c in columns if row[c])
  return found


def read(path: pathlib.Path) -> codec.Recording:
  """Reads a record of either distribution.

  Args:
    path: the record without suffix. With a header it is a WFDB record, without
      one it is the original's: a MATLAB struct `ECG` whose `data` is
      (12, samples), mV at 500 Hz, in the canonical lead order.

  Raises:
    rejected.Rejected: the record cannot be read; the subclass says why.
  """
  if _has_header(path):
    return wfdb_io.read(path)
  file = _file(path, ".mat")
  if not os.path.isfile(file):
    raise rejected.MissingFile(file.name)
  try:
    mv = matlab.read_field(file.read_bytes(), "ECG", "data")
  except (OSError, ValueError) as e:
    raise rejected.Unreadable(f"{file.name}: {e}") from e
  num_leads = NUM_LEADS
  if len(mv) != num_leads:
    raise rejected.Unreadable(f"{file.name}: data of shape {mv.shape}")
  with np.errstate(over="ignore"):  # infinite: no sample
    uv = 1e3 * mv
  return codec.Recording(uv, np.ones(num_leads, bool), _SOURCE_RATE)


def _file(path: pathlib.Path, suffix: str) -> pathlib.Path:
  return path.parent / f"{path.name}{suffix}"


def _has_header(path: pathlib.Path) -> bool:
  return os.path.isfile(_file(path, ".hea"))  # False for impossible names, too
