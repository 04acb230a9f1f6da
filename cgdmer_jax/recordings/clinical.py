"""Reads files of hospital devices through ECGDataKit, and checks what it says.

DICOM waveform, HL7 aECG, GE MUSE XML, Philips XML, SCP-ECG and EDF. ECGDataKit
takes what it can decode of a damaged file, so `declared` compares the file with
what its own header promises before.
"""

from __future__ import annotations

import pathlib
import re
import warnings
from typing import Any

from cgdmer_jax.errors import one_line
from cgdmer_jax.recordings import codec, declared, rejected, signals

MAX_BYTES = 1 << 28

DICOM, EDF, SCP = "DICOM", "EDF", "SCP-ECG"
AECG, MUSE, PHILIPS = "HL7 aECG", "GE MUSE XML", "Philips XML"

_EXTRA = "needs the extra 'formats': pip install 'cgdmer-jax[formats]'"
_REPEATED = re.compile(r"_\d+$")  # what ECGDataKit appends to a second `II`
_XML = (  # in this order: the tags of two begin alike
  (AECG, re.compile(r"<(?:[\w.-]+:)?AnnotatedECG\b")),
  (PHILIPS, re.compile(r"<restingecgdata\b", re.I)),
  (MUSE, re.compile(r"<RestingECG\b", re.I)),
)
_CHECKS = {
  DICOM: declared.check_dicom,
  EDF: declared.check_edf,
  SCP: declared.check_scp,
  AECG: declared.check_aecg,
  MUSE: declared.check_muse,
  PHILIPS: declared.check_philips,
}


def recognise(path: pathlib.Path, head: bytes) -> str:
  """The format of a file, empty if it is none of these.

  Args:
    path: the file.
    head: its first 4,096 bytes.
  """
  del path
  if head[128:132] == b"DICM":
    return DICOM
  if len(head) >= 256 and head.startswith(b"0" + b" " * 7):
    return EDF
  if declared.is_scp(head):
    return SCP
  text = declared.decode(head).lstrip()
  if not text.startswith("<"):
    return ""
  return next((name for name, tag in _XML if tag.search(text)), "")


def read(
  path: pathlib.Path, format_: str
) -> tuple[codec.Recording, tuple[str, ...]]:
  """Reads a file of one of these formats.

  Returns:
    The recording, and what ECGDataKit warns of.

  Raises:
    rejected.Rejected: the file is damaged, incomplete, or says no unit; or the
      packages of the extra `formats` are not installed.
  """
  if path.stat().st_size > MAX_BYTES:
    raise rejected.WrongLength(f"{path.stat().st_size:,} bytes")
  try:
    import ecgdatakit

    promised = _CHECKS[format_](path)
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter("always")
      parsed = ecgdatakit.FileParser.parse(path, units="uV")
  except rejected.Rejected:
    raise
  except ImportError as e:
    raise rejected.Unreadable(f"{format_} {_EXTRA}") from e
  # It raises its own errors, and what damaged values lead to.
  except Exception as e:
    raise rejected.Unreadable(f"damaged {format_}: {one_line(e, 150)}") from e
  texts = dict.fromkeys(one_line(w.message, 160) for w in caught)
  return _recording(parsed, promised), tuple(texts)


def _recording(parsed: Any, promised: declared.Declared) -> codec.Recording:
  """Checks and converts what ECGDataKit found."""
  named = [(_REPEATED.sub("", x.label), x) for x in parsed.leads]
  named = [x for x in named if signals.lead_index(x[0]) is not None]
  names, leads = [x[0] for x in named], [x[1] for x in named]
  if not leads:
    others = [x.label for x in parsed.leads][:20]
    raise rejected.MissingLeads(f"none of the 12 leads in {others}")
  rates = {x.sampling_rate for x in leads}
  if len(rates) > 1:
    raise rejected.WrongRate(f"leads of different rates: {sorted(rates)} Hz")
  [whole] = rates  # an integer, in that package
  rate = promised.sampling_rate or float(whole)
  if abs(rate - whole) > 1:
    raise rejected.WrongRate(f"{whole} Hz read, {rate:g} Hz in the header")
  for lead in leads:
    if lead.is_raw or lead.units != "uV":
      raise rejected.UnknownUnit(f"lead {lead.label} has no unit of voltage")
  signals.check_size(sum(len(x.samples) for x in leads))
  number, expected = len(leads[0].samples), promised.num_samples
  if expected is not None and abs(number - expected) > 1:
    raise rejected.Truncated(f"{number} of {expected} samples")
  return signals.recording(names, [x.samples for x in leads], 1.0, rate)
