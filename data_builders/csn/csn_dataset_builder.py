"""Chapman-Shaoxing-Ningbo: 45,152 12-lead ECGs of 10 s, SNOMED diagnoses.

The corpus names its diagnoses by acronyms (`ConditionNames_SNOMED-CT.csv`), but
its headers hold codes only, and some acronyms share a code. Such a code means
the acronym that comes first in that table, as in the published split files:

  164865005  MI, not MIBW, MIFW, MILW, MISW (infarction by wall)
  164909002  LBBB, not LBBBB, LFBBB (back and front fascicle)
  698252002  IDC, not IVB; no label
  195101003  WAVN, not SAAWR; no label

So MI and LBBB include the finer diagnoses, which nothing could tell apart.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow_datasets as tfds

from cgdmer_jax.recordings import codec, rejected
from data_builders import cinc, downloads, splits

_SECONDS = 10
_SOURCE_RATE = 500
_SOURCE = (
  "ecg-arrhythmia 1.0.0 (https://physionet.org/content/ecg-arrhythmia/1.0.0/)"
  " or its copy in PhysioNet/CinC 2021"
  " (https://physionet.org/content/challenge-2021/1.0.3/,"
  " training/chapman_shaoxing and training/ningbo)"
)

# Label, named as in the published split files -> SNOMED code. `AF` is flutter.
CODES = {
  "AQW": "164917005",
  "UW": "164937009",
  "SR": "426783006",
  "WPW": "74390002",
  "2AVB": "195042002",
  "AT": "713422000",
  "VB": "11157007",
  "ARS": "47665007",
  "STTC": "428750005",
  "SA": "427393009",
  "STE": "164930006",
  "VPB": "17338001",
  "TWO": "59931005",
  "STTU": "164931005",
  "ALS": "39732003",
  "APB": "284470004",
  "2AVB1": "54016002",
  "PRIE": "164947007",
  "CCR": "251199005",
  "CR": "251198002",
  "AF": "164890007",
  "AVB": "233917008",
  "QTIE": "111975006",
  "LBBB": "164909002",
  "VEB": "75532003",
  "SVT": "426761007",
  "RBBB": "59118001",
  "1AVB": "270492004",
  "STDD": "429622005",
  "MI": "164865005",
  "AFIB": "164889003",
  "TWC": "164934002",
  "PWC": "164912004",
  "ERV": "428417006",
  "RVH": "89792004",
  "LVH": "164873001",
  "ST": "427084000",
  "JEB": "426995002",
}


class Builder(cinc.CincBuilder):
  """Chapman-Shaoxing-Ningbo, from its own or PhysioNet/CinC's files."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES = {"1.0.0": "ecg-arrhythmia 1.0.0."}
  BUILDER_CONFIGS = cinc.configs()
  DOWNLOAD = downloads.PhysioNet(
    "ecg-arrhythmia",
    "1.0.0",
    "2.3 GB",
    archive="a-large-scale-12-lead-electrocardiogram-database-for-arrhythmia"
    "-study",
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = (
    f"Download {_SOURCE}. manual_dir is the folder with the records"
    " (JS00001.hea, JS00001.mat ..), or one above it."
  )
  SOURCE = _SOURCE
  RECORD = re.compile(r"JS\d{5}", re.ASCII)
  EXAMPLE = "JS00001.hea"
  LABEL_SET = "csn"
  LABELS = tuple(CODES)
  PUBLISHED = splits.merl_files("chapman", "ecg_path")
  HOMEPAGE = "https://physionet.org/content/ecg-arrhythmia/1.0.0/"

  def _signal_spec(self) -> codec.SignalSpec:
    rate = self.builder_config.sampling_rate
    return codec.SignalSpec(rate, _SECONDS * rate, source_rate=_SOURCE_RATE)

  def _read_labels(
    self, source_dir: pathlib.Path, files: Mapping[str, pathlib.Path]
  ) -> dict[str, np.ndarray]:
    vectors = {}
    for record_id, path in files.items():
      try:
        vectors[record_id] = labels(cinc.read_dx(path))
      except rejected.Rejected as e:
        self.rejects.add(record_id, e.reason, str(e))
    return vectors


def labels(codes: Iterable[str]) -> np.ndarray:
  """Turns the diagnoses of a record into labels.

  Codes are compared whole. Those of no label, sinus bradycardia for instance,
  do not count; a record that has no other keeps an all-zero vector and does
  not belong to the label set.

  Args:
    codes: the SNOMED codes of the record.

  Returns:
    uint8 (38,), order of `CODES`.

  Raises:
    rejected.BadMetadata: one of them is not a code.
  """
  codes = tuple(codes)
  if not all(code.isdecimal() for code in codes):
    raise rejected.BadMetadata(f"diagnoses {', '.join(codes)}")
  return cinc.multi_hot(codes, CODES.values())
