"""Reads CSV, NPY and NPZ files with named leads and a sampling rate.

CSV (also with semicolons or tabs, and then with decimal commas): lines of the
form `# key = value` may come first, with the keys `sampling_rate` and `unit`;
then a line of names, then a line for each sample. A name may carry its unit:
`V1 (uV)`. A column `time (s)` or `time (ms)` gives the rate. Empty fields and
`NaN` are missing samples.

NPZ: the array `ecg` (leads, samples), `leads`, `sampling_rate` and `unit`. NPY:
the array alone. What a file does not say comes from `Defaults`.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
import zipfile
from collections.abc import Sequence

import numpy as np

from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.recordings import codec, rejected, signals

MAX_TEXT_BYTES = 1 << 28

_KEY = re.compile(r"#\s*(sampling_rate|unit)\s*[=:,]\s*(\S+)", re.I)
_NAME = re.compile(r"(.*?)\s*(?:[(\[]\s*([^)\]]*)\s*[)\]])?\s*")
_TIME = re.compile(r"(time|t)(?:_(s|ms))?", re.I)
_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3}


@dataclasses.dataclass(frozen=True)
class Defaults:
  """What holds where a file does not say it.

  Attributes:
    sampling_rate: Hz.
    unit: of all leads: uV, mV or V.
    leads: names of the columns or rows, in their order.
  """

  sampling_rate: float | None = None
  unit: str | None = None
  leads: tuple[str, ...] | None = None


def read_csv(path: pathlib.Path, defaults: Defaults) -> codec.Recording:
  """Reads a table of text; for its layout see the module.

  Raises:
    rejected.Rejected: it is no such table, or lacks its rate, unit or leads.
  """
  if path.stat().st_size > MAX_TEXT_BYTES:
    raise rejected.WrongLength(f"{path.stat().st_size:,} bytes of text")
  try:
    text = path.read_bytes().decode("utf-8-sig")
  except ValueError:
    raise rejected.Unreadable("neither text nor a known format") from None
  given = {k.lower(): v for k, v in _KEY.findall(text[:4096])}
  lines = [x for x in text.splitlines() if x.strip() and x.lstrip()[0] != "#"]
  if not lines:
    raise rejected.Unreadable("an empty table")
  delimiter = max(";\t,", key=lines[0].count)
  head = [x.strip().strip("\"'") for x in lines[0].split(delimiter)]
  if any(map(_is_number, head)):
    if not defaults.leads:
      raise rejected.MissingLeads("no line of names; give --leads=I,II,...")
    head = list(defaults.leads)
  else:
    lines = lines[1:]
  signals.check_size(len(lines) * len(head))
  table = _parse(lines, delimiter)
  if table.shape[1] != len(head):
    raise rejected.Unreadable(f"{len(head)} names, {table.shape[1]} columns")
  parts = [_NAME.fullmatch(name).groups() for name in head]
  rate, time = given.get("sampling_rate"), _rate_of_times(parts, table)
  rate = _number(rate) if rate else time or defaults.sampling_rate
  unit = given.get("unit") or defaults.unit
  return _recording(
    [p[0] for p in parts], table.T, [p[1] for p in parts], unit, rate
  )


def read_numpy(path: pathlib.Path, defaults: Defaults) -> codec.Recording:
  """Reads an NPY or NPZ file; for its layout see the module.

  Raises:
    rejected.Rejected: it is damaged, or lacks its rate, unit or leads.
  """
  try:
    if zipfile.is_zipfile(path):
      with zipfile.ZipFile(path) as archive:
        signals.check_size(sum(x.file_size for x in archive.infolist()) // 8)
      with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    else:
      # Mapped, so that its size is known before it is read.
      arrays = {"ecg": np.load(path, mmap_mode="r", allow_pickle=False)}
  except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as e:
    raise rejected.Unreadable(f"damaged NumPy file: {e}") from e
  if "ecg" not in arrays:
    raise rejected.Unreadable(f"no array 'ecg', only {sorted(arrays)[:10]}")
  ecg = arrays["ecg"]
  if ecg.ndim != 2 or ecg.dtype.kind not in "fiu":
    raise rejected.Unreadable(
      f"ecg: {ecg.dtype} {ecg.shape}, not (leads, samples)"
    )
  signals.check_size(ecg.size)
  leads = arrays.get("leads", defaults.leads)
  if leads is None:
    raise rejected.MissingLeads("no names of leads; give --leads=I,II,...")
  names = [str(x) for x in np.ravel(leads)]
  if len(names) not in ecg.shape or len(names) > 10 * NUM_LEADS:
    raise rejected.Unreadable(f"{len(names)} names for an array {ecg.shape}")
  rows = ecg if ecg.shape[0] == len(names) else ecg.T
  rate = arrays.get("sampling_rate", defaults.sampling_rate)
  unit = arrays.get("unit", defaults.unit)
  return _recording(
    names,
    rows,
    [None] * len(names),
    None if unit is None else str(np.ravel(unit)[0]),
    None if rate is None else _number(str(np.ravel(rate)[0])),
  )


def _recording(
  names: Sequence[str],
  rows: np.ndarray,
  units: Sequence[str | None],
  unit: str | None,
  rate: float | None,
) -> codec.Recording:
  if rate is None:
    raise rejected.WrongRate("the file has no rate; give --sampling_rate=HZ")
  factors = []
  for name, own in zip(names, units, strict=True):
    if signals.lead_index(name) is None:
      factors.append(1.0)
    elif own or unit:
      factors.append(signals.microvolts(own or unit))
    else:
      raise rejected.UnknownUnit(
        f"lead {name} has no unit; give --unit={'|'.join(signals.UNITS)}"
      )
  return signals.recording(names, rows, factors, rate)


def _parse(lines: list[str], delimiter: str) -> np.ndarray:
  """The numbers, float64 (samples, columns); empty fields are NaN."""
  if not lines:
    raise rejected.WrongLength("no samples")
  if delimiter != "," and any("," in x for x in lines[:100]):
    lines = [x.replace(",", ".") for x in lines]
  try:
    return np.loadtxt(
      io.StringIO("\n".join(lines)), delimiter=delimiter, ndmin=2, comments=None
    )
  except ValueError:
    pass  # empty fields, or no numbers
  try:
    rows = [
      [float(x.strip().strip("\"'") or "nan") for x in line.split(delimiter)]
      for line in lines
    ]
    lengths = [len(row) for row in rows]
    if len(set(lengths)) > 1:
      at = next(i for i, n in enumerate(lengths) if n != lengths[0])
      raise rejected.Unreadable(
        f"sample {at + 1} has {lengths[at]} fields, the first {lengths[0]}"
      )
    return np.array(rows, np.float64)
  except ValueError as e:
    raise rejected.Unreadable(f"no table of numbers: {e}") from None


def _rate_of_times(
  parts: Sequence[tuple[str, str | None]], table: np.ndarray
) -> float | None:
  """Hz, from a column of times with a unit, if there is one."""
  for column, (name, unit) in enumerate(parts):
    match = _TIME.fullmatch(name)
    unit = (unit or match[2]) if match else None
    if not match or (unit or "").lower() not in _SECONDS or len(table) < 2:
      continue
    steps = np.diff(table[:, column]) * _SECONDS[unit.lower()]
    step = np.median(steps)
    if not step > 0 or np.abs(steps - step).max() > 0.51 * step:
      raise rejected.WrongRate(f"the times in {name!r} are not evenly spaced")
    span = (table[-1, column] - table[0, column]) * _SECONDS[unit.lower()]
    rate = (len(table) - 1) / span
    # Times are rounded; rates are not.
    return float(round(rate)) if abs(rate - round(rate)) < 1e-3 * rate else rate
  return None


def _is_number(text: str) -> bool:
  try:
    float(text.replace(",", "."))
  except ValueError:
    return False
  return True


def _number(text: str) -> float:
  try:
    return float(text)
  except ValueError:
    raise rejected.WrongRate(f"sampling rate {text!r}") from None
