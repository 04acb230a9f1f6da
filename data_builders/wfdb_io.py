"""Reads 12-lead WFDB records (`.hea` with `.dat` or `.mat`).

Headers are parsed here. The `wfdb` package drops characters that are not ASCII,
so that microvolts with a Greek letter become volts; it refuses record names
with a suffix (`E00015.mat`, in a part of the Georgia records of PhysioNet/CinC
2021); it assumes 200 units/mV where there is no gain; and it needs several
milliseconds a header. It does read the samples of every format but 16, the
format of all large 12-lead corpora, which one NumPy call reads.

Format: https://physionet.org/physiotools/wag/header-5.htm and signal-5.htm.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import re

import numpy as np

from data_builders import codec, rejects, schema

_MICROVOLTS = {"uv": 1.0, "\u00b5v": 1.0, "\u03bcv": 1.0, "mv": 1e3, "v": 1e6}
_DEFAULT_UNIT = "mV"  # by the format's definition

# Format -> bytes a sample, digital value that stands for "no sample".
_FORMATS: dict[str, tuple[float, int | None]] = {
  "8": (1, None),
  "16": (2, -(1 << 15)),
  "24": (3, -(1 << 23)),
  "32": (4, -(1 << 31)),
  "61": (2, -(1 << 15)),
  "80": (1, -(1 << 7)),
  "160": (2, -(1 << 15)),
  "212": (1.5, -(1 << 11)),
  "310": (4 / 3, -(1 << 9)),
  "311": (4 / 3, -(1 << 9)),
}

_FORMAT = re.compile(r"(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$")
_FILE = re.compile(r"[\w.~-]+$")  # no folders
_GAIN = re.compile(r"(-?[\d.]+(?:[eE][+-]?\d+)?)(?:\((-?\d+)\))?(?:/(\S+))?$")
_LEAD_INDEX = {name.lower(): i for i, name in enumerate(schema.LEADS)}


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
    rejects.Rejected: files are missing, short, damaged or not understood, or
      the leads have no known unit; the subclass says which.
  """
  path = pathlib.Path(path)
  header_path = path.with_name(path.name + ".hea")
  if not header_path.is_file():
    raise rejects.MissingFile(header_path.name)
  try:
    text = header_path.read_bytes().decode("utf-8", errors="replace")
  except OSError as e:
    raise rejects.Unreadable(f"{header_path.name}: {e}") from e
  header = parse_header(text)
  rows = _lead_rows(header.signals)
  # Not the calibration of other signals, vx for instance: nobody reads them.
  scales = {column: _scale(header.signals[column]) for column in rows.values()}
  digital = _read_digital(path, header)
  _verify_checksums(digital, header.signals)

  signal = np.full((len(schema.LEADS), header.num_samples), np.nan)
  present = np.zeros(len(schema.LEADS), bool)
  for row, column in rows.items():
    line, samples = header.signals[column], digital[:, column]
    signal[row] = (samples - float(line.baseline)) * scales[column]
    signal[row, samples == _FORMATS[line.format][1]] = np.nan
    present[row] = True
  return codec.Recording(signal, present, header.sampling_rate)


def parse_header(text: str) -> Header:
  """Parses a single-segment header.

  Args:
    text: the content of a `.hea` file.

  Raises:
    rejects.Unreadable: the text is no such header.
    rejects.WrongRate: it has no sampling rate, or one for each signal.
  """
  lines = [
    line
    for line in map(str.strip, text.splitlines())
    if line and not line.startswith("#")
  ]
  if not lines:
    raise rejects.Unreadable("empty header")
  # The record name is not needed: the file was found by it. Dates are neither.
  name, *fields = lines[0].split()
  if "/" in name:
    raise rejects.Unreadable(f"multi-segment record {name}")
  if len(fields) < 3:
    raise rejects.Unreadable(f"record line {lines[0]!r} has no length")
  try:
    count, num_samples = int(fields[0]), int(fields[2])
  except ValueError:
    raise rejects.Unreadable(f"record line {lines[0]!r}") from None
  if count < 1 or num_samples < 1 or len(lines) - 1 < count:
    raise rejects.Unreadable(
      f"{count} signals of {num_samples} samples, {len(lines) - 1} signal lines"
    )
  try:
    rate = float(re.split(r"[/(]", fields[1])[0])
  except ValueError:
    raise rejects.WrongRate(f"record line {lines[0]!r}") from None
  signals = tuple(_parse_signal(line) for line in lines[1 : count + 1])
  return Header(rate, num_samples, signals)


def _parse_signal(line: str) -> Signal:
  """Parses a signal line; fields from the gain on may be absent."""
  fields = line.split(maxsplit=8)
  match = _FORMAT.match(fields[1]) if len(fields) > 1 else None
  if not match or match[1] not in _FORMATS or not _FILE.match(fields[0]):
    raise rejects.Unreadable(f"signal line {line!r}")
  format_, samples_per_frame, skew, byte_offset = match.groups()
  if int(samples_per_frame or 1) != 1:
    raise rejects.WrongRate(f"signals of different rates: {line!r}")
  if int(skew or 0):
    raise rejects.Unreadable(f"signals are shifted in time: {line!r}")
  fields += [""] * (9 - len(fields))
  gain = _GAIN.match(fields[2] or "0")
  try:
    value, baseline, unit = gain.groups() if gain else ("", None, None)
    adc_zero = int(fields[4] or 0)
    return Signal(
      file_name=fields[0],
      format=format_,
      byte_offset=int(byte_offset or 0),
      gain=float(value),
      baseline=adc_zero if baseline is None else int(baseline),
      unit=unit or _DEFAULT_UNIT,
      checksum=int(fields[6]) if fields[6] else None,
      name=fields[8].strip(),
    )
  except ValueError:
    raise rejects.Unreadable(f"signal line {line!r}") from None


def _lead_rows(signals: tuple[Signal, ...]) -> dict[int, int]:
  """Row of each lead in a record -> its column in the file."""
  rows: dict[int, int] = {}
  for column, signal in enumerate(signals):
    row = _LEAD_INDEX.get(signal.name.lower())
    if row in rows:
      raise rejects.AmbiguousLeads(f"two leads {signal.name!r}")
    if row is not None:
      rows[row] = column
  if not rows:
    names = [s.name for s in signals]
    raise rejects.MissingLeads(f"none of the 12 leads in {names}")
  return rows


def _scale(signal: Signal) -> float:
  """Microvolt a digital unit."""
  factor = _MICROVOLTS.get(signal.unit.lower())
  if factor is None:
    raise rejects.UnknownUnit(f"unit {signal.unit!r} of lead {signal.name}")
  if signal.gain == 0 or not math.isfinite(signal.gain):
    raise rejects.UnknownUnit(f"no gain for lead {signal.name}")
  return factor / signal.gain


def _read_digital(path: pathlib.Path, header: Header) -> np.ndarray:
  """Digital values, int (samples, signals)."""
  files: dict[str, list[Signal]] = {}
  for signal in header.signals:
    files.setdefault(signal.file_name, []).append(signal)
  for name, signals in files.items():
    _check_size(path.with_name(name), signals, header.num_samples)
  if any(s.format != "16" for s in header.signals):
    return _read_with_wfdb(path, header)
  if sum(files.values(), []) != list(header.signals):
    raise rejects.Unreadable("the signals of a file are not listed together")
  parts = [
    _read_int16(path.with_name(name), header.num_samples, signals)
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
    raise rejects.Unreadable(f"{path.name}: {e}") from e
  return values.reshape(shape)


def _check_size(
  path: pathlib.Path, signals: list[Signal], num_samples: int
) -> None:
  """Checks that a signal file is there and as long as its header says."""
  if not path.is_file():
    raise rejects.MissingFile(path.name)
  size = path.stat().st_size
  samples = num_samples * len(signals)
  expected = signals[0].byte_offset + math.ceil(
    samples * _FORMATS[signals[0].format][0]
  )
  if size < expected:
    raise rejects.Truncated(f"{path.name}: {size} of {expected} bytes")


def _read_with_wfdb(path: pathlib.Path, header: Header) -> np.ndarray:
  """Digital values of formats other than 16, int (samples, signals)."""
  import wfdb  # takes a second to import and is rarely needed

  try:
    digital = wfdb.rdrecord(str(path), physical=False).d_signal
  except Exception as e:  # it raises whatever a damaged file leads to
    raise rejects.Unreadable(f"{type(e).__name__}: {e}") from e
  if digital.shape != (header.num_samples, len(header.signals)):
    raise rejects.Truncated(f"{digital.shape[0]} samples")
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
      raise rejects.Corrupt(f"checksum of signal {signal.name}")
