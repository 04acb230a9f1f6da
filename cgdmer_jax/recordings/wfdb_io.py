"""Reads 12-lead WFDB records (`.hea` with `.dat` or `.mat`).

Headers are parsed here. The `wfdb` package drops characters that are not ASCII,
so that microvolts with a Greek letter become volts; it refuses record names
with a suffix (`E00015.mat`, in a part of the Georgia records of PhysioNet/CinC
2021); it assumes 200 units/mV where there is no gain; and it needs several
milliseconds per header. It does read the samples of every format but 16, the
format of all large 12-lead corpora, which one NumPy call reads.

Format: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
"""

from __future__ import annotations

import codecs
import dataclasses
import math
import os
import pathlib
import re
from fractions import Fraction

import numpy as np

from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.recordings import codec, rejected

_MICROVOLTS = {"uv": 1.0, "\u00b5v": 1.0, "\u03bcv": 1.0, "mv": 1e3, "v": 1e6}
_DEFAULT_UNIT = "mV"  # by the format's definition

# Format -> bytes a sample, digital value that stands for "no sample".
_FORMATS: dict[str, tuple[Fraction, int | None]] = {
  "8": (Fraction(1), None),
  "16": (Fraction(2), -(1 << 15)),
  "24": (Fraction(3), -(1 << 23)),
  "32": (Fraction(4), -(1 << 31)),
  "61": (Fraction(2), -(1 << 15)),
  "80": (Fraction(1), -(1 << 7)),
  "160": (Fraction(2), -(1 << 15)),
  "212": (Fraction(3, 2), -(1 << 11)),
  "310": (Fraction(4, 3), -(1 << 9)),
  "311": (Fraction(4, 3), -(1 << 9)),
}

# `int` and `float` take more than the format knows: 1_000, digits of other
# scripts and numbers of any length.
_SEGMENTS = re.compile(r"[^/]+/[1-9]\d{0,5}", re.ASCII)  # record, number
_INT = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_FLOAT = r"[\d.]+(?:[eE][+-]?\d+)?"
_RATE = re.compile(rf"({_FLOAT})(?:[/(].*)?", re.ASCII)
_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?", re.ASCII)
_FILE = re.compile(r"[\w.~-]+")
_GAIN = re.compile(rf"(-?{_FLOAT})(?:\((-?\d+)\))?(?:/(\S+))?", re.ASCII)
_LEAD_INDEX = {name.lower(): i for i, name in enumerate(LEADS)}


@dataclasses.dataclass(frozen=True)
class Signal:
  """A signal line of a header; physical = (digital - baseline) / gain."""

  file_name: str
  format: str
  byte_offset: int
  gain: float
  baseline: int
  unit: str
  checksum: int | None
  name: str


@dataclasses.dataclass(frozen=True)
class Header:
  """A header; `num_samples` is the number of samples of each signal."""

  name: str
  sampling_rate: float
  num_samples: int
  signals: tuple[Signal, ...]


def read(path: str | os.PathLike[str]) -> codec.Recording:
  """Reads the 12 leads of a record by name.

  Args:
    path: the record without suffix.

  Returns:
    The recording in microvolt; other signals of the file are left out.

  Raises:
    rejected.Rejected: files are missing, short, damaged or not understood, or
      the leads have no known unit; the subclass says which.
  """
  path = pathlib.Path(path)
  header_path = path.parent / f"{path.name}.hea"
  if not os.path.isfile(header_path):  # False for names that cannot exist, too
    raise rejected.MissingFile(header_path.name)
  header = parse_header(read_text(header_path), path.name)
  if path.name not in (header.name, pathlib.PurePath(header.name).stem):
    raise rejected.Unreadable(f"header of the record {header.name!r}")
  rows = _lead_rows(header.signals)
  # Not the calibration of other signals, vx for instance: nobody reads them.
  scales = {column: _scale(header.signals[column]) for column in rows.values()}
  digital = _read_digital(path, header)
  _verify_checksums(digital, header.signals)

  signal = np.full((NUM_LEADS, header.num_samples), np.nan)
  present = np.zeros(NUM_LEADS, bool)
  for row, column in rows.items():
    line, samples = header.signals[column], digital[:, column]
    signal[row] = (samples - float(line.baseline)) * scales[column]
    signal[row, samples == _FORMATS[line.format][1]] = np.nan
    present[row] = True
  return codec.Recording(signal, present, header.sampling_rate)


def read_text(header: pathlib.Path) -> str:
  """Reads a header, with or without the byte order mark of Windows' editors.

  Raises:
    rejected.Unreadable: the file cannot be read.
  """
  try:
    content = header.read_bytes()
  except OSError as e:
    raise rejected.Unreadable(f"{header.name}: {e}") from e
  if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return content.decode("utf-16", errors="replace")
  return content.decode("utf-8-sig", errors="replace")


def parse_header(text: str, file_name: str = "") -> Header:
  """Parses a single-segment header.

  Comments may stand behind a line, as in `V1 # noisy`, and the name of the
  record behind a folder. A name such as `100/2` says that the record 100 has
  two segments, unless `2` is the name of the file.

  Args:
    text: the content of a `.hea` file.
    file_name: name of that file without suffix.

  Raises:
    rejected.Unreadable: the text is not such a header.
    rejected.WrongRate: it has no sampling rate, or one for each signal.
  """
  lines = [line.partition("#")[0].strip() for line in text.splitlines()]
  lines = list(filter(None, lines))
  if not lines:
    raise rejected.Unreadable("empty header")
  name, *fields = lines[0].split()  # dates at the end are not needed
  base = name.replace("\\", "/").rpartition("/")[2]  # or of Windows
  if _SEGMENTS.fullmatch(name) and base != file_name:
    raise rejected.Unreadable(f"multi-segment record {name}")
  if len(fields) < 3:
    raise rejected.Unreadable(f"record line {lines[0]!r} has no length")
  try:
    count, num_samples = _int(fields[0]), _int(fields[2])
  except ValueError:
    raise rejected.Unreadable(f"record line {lines[0]!r}") from None
  if count < 1 or num_samples < 1 or len(lines) - 1 != count:
    raise rejected.Unreadable(
      f"{count} signals of {num_samples} samples, {len(lines) - 1} signal lines"
    )
  rate = _RATE.fullmatch(fields[1])
  try:
    rate = float(rate[1] if rate else "")
  except ValueError:
    raise rejected.WrongRate(f"record line {lines[0]!r}") from None
  return Header(base, rate, num_samples, tuple(map(_parse_signal, lines[1:])))


def _int(text: str) -> int:
  if not _INT.fullmatch(text):
    raise ValueError(f"{text!r} is not an integer")
  return int(text)


def _parse_signal(line: str) -> Signal:
  """Parses a signal line; fields from the gain on may be absent."""
  fields = line.split(maxsplit=8)
  fields[0] = fields[0].removeprefix("./")
  if "/" in fields[0]:  # perhaps of another record
    raise rejected.Unreadable(f"signal file in another folder: {line!r}")
  match = _FORMAT.fullmatch(fields[1]) if len(fields) > 1 else None
  if not match or not _FILE.fullmatch(fields[0]):
    raise rejected.Unreadable(f"signal line {line!r}")
  if match[1] not in _FORMATS:
    raise rejected.Unreadable(f"signal format {match[1]}: {line!r}")
  format_, samples_per_frame, skew, byte_offset = match.groups()
  fields += [""] * (9 - len(fields))
  gain = _GAIN.fullmatch(fields[2] or "0")
  try:
    if _int(samples_per_frame or "1") != 1:
      raise rejected.WrongRate(f"signals of different rates: {line!r}")
    if _int(skew or "0"):
      raise rejected.Unreadable(f"signals are shifted in time: {line!r}")
    value, baseline, unit = gain.groups() if gain else ("", None, None)
    return Signal(
      file_name=fields[0],
      format=format_,
      byte_offset=_int(byte_offset or "0"),
      gain=float(value),
      baseline=_int(baseline or fields[4] or "0"),  # the ADC zero by default
      unit=unit or _DEFAULT_UNIT,
      checksum=_int(fields[6]) if fields[6] else None,
      name=fields[8].strip(),
    )
  except ValueError:
    raise rejected.Unreadable(f"signal line {line!r}") from None


def _lead_rows(signals: tuple[Signal, ...]) -> dict[int, int]:
  """Row of each lead in a record -> its column in the file."""
  rows: dict[int, int] = {}
  for column, signal in enumerate(signals):
    row = _LEAD_INDEX.get(signal.name.lower())
    if row in rows:
      raise rejected.AmbiguousLeads(f"two leads {signal.name!r}")
    if row is not None:
      rows[row] = column
  if not rows:
    names = [s.name for s in signals]
    raise rejected.MissingLeads(f"none of the 12 leads in {names}")
  return rows


def _scale(signal: Signal) -> float:
  """Microvolts per digital unit."""
  factor = _MICROVOLTS.get(signal.unit.lower())
  if factor is None:
    raise rejected.UnknownUnit(f"unit {signal.unit!r} of lead {signal.name}")
  if signal.gain == 0 or not math.isfinite(signal.gain):
    raise rejected.UnknownUnit(f"no gain for lead {signal.name}")
  scale = factor / signal.gain
  if abs(scale) > codec.MAX_VALUE:  # one step leaves the range of a record
    raise rejected.UnknownUnit(f"gain {signal.gain:g} of lead {signal.name}")
  return scale


def _read_digital(path: pathlib.Path, header: Header) -> np.ndarray:
  """Digital values, int (samples, signals)."""
  files: dict[str, list[Signal]] = {}
  for signal in header.signals:
    files.setdefault(signal.file_name, []).append(signal)
  for name, signals in files.items():
    if len({(s.format, s.byte_offset) for s in signals}) > 1:
      raise rejected.Unreadable(f"the signals of {name} differ in format")
    _check_size(path.parent / name, signals, header.num_samples)
  if sum(files.values(), []) != list(header.signals):
    raise rejected.Unreadable("the signals of a file are not listed together")
  if any(s.format != "16" for s in header.signals):
    return _read_with_wfdb(path, header)
  parts = [
    _read_int16(path.parent / name, header.num_samples, signals)
    for name, signals in files.items()
  ]
  return np.concatenate(parts, axis=1)


def _read_int16(
  path: pathlib.Path, num_samples: int, signals: list[Signal]
) -> np.ndarray:
  """Digital values of a file in format 16, int16 (samples, signals)."""
  shape, offset = (num_samples, len(signals)), signals[0].byte_offset
  try:
    values = np.fromfile(path, "<i2", math.prod(shape), offset=offset)
  except OSError as e:
    raise rejected.Unreadable(f"{path.name}: {e}") from e
  return values.reshape(shape)


def _check_size(
  path: pathlib.Path, signals: list[Signal], num_samples: int
) -> None:
  """Checks that a signal file is there and as long as its header says."""
  if not os.path.isfile(path):
    raise rejected.MissingFile(path.name)
  size = path.stat().st_size - signals[0].byte_offset
  samples, width = num_samples * len(signals), _FORMATS[signals[0].format][0]
  fewest = math.ceil(samples * width)
  if size < fewest:
    raise rejected.Truncated(f"{path.name}: {size} of {fewest} bytes")
  most = math.ceil(samples / width.denominator) * width.numerator
  # Nothing else would tell that the header is not of this file.
  if size > most and not any(s.checksum for s in signals):
    raise rejected.Unreadable(
      f"{path.name}: {size} bytes instead of {most}, and no checksum"
    )


def _read_with_wfdb(path: pathlib.Path, header: Header) -> np.ndarray:
  """Digital values of formats other than 16, int (samples, signals)."""
  import wfdb  # takes a second to import and is rarely needed

  try:
    digital = wfdb.rdrecord(str(path), physical=False).d_signal
  except Exception as e:  # it raises whatever a damaged file leads to
    raise rejected.Unreadable(f"{type(e).__name__}: {e}") from e
  if digital.shape != (header.num_samples, len(header.signals)):
    raise rejected.Truncated(f"{digital.shape[0]} samples")
  return digital


def _verify_checksums(digital: np.ndarray, signals: tuple[Signal, ...]) -> None:
  """Compares the sums of all samples, modulo 2^16, with the header's.

  This finds damage that leaves the length alone. Writers that compute no sum
  leave it out or write zeros everywhere.
  """
  if not any(s.checksum for s in signals):
    return
  sums = digital.sum(axis=0, dtype=np.int64)
  for total, signal in zip(sums, signals, strict=True):
    if signal.checksum is not None and (total - signal.checksum) % (1 << 16):
      raise rejected.Corrupt(f"checksum of signal {signal.name}")
