"""WFDB records packed byte by byte, as strategies, and what they hold.

The truth does not depend on the code under test.
"""

import collections
import dataclasses
import itertools
import pathlib
import tempfile
import warnings

import hypothesis
import numpy as np
from hypothesis import strategies as st

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec
from data_builders import records, rejects

NAME = "r1"
ROW = {name.lower(): i for i, name in enumerate(LEADS)}
OTHERS = ("vx", "vy", "vz", "resp", "EKG 12", "\u00fcber")
MICROVOLTS = {
  "": 1e3, "mV": 1e3, "mv": 1e3, "V": 1e6, "uV": 1, "\u00b5V": 1, "\u03bcv": 1,
}  # fmt: skip
# The lowest digital value of a format, which means that there is no sample.
LOWEST = {
  "16": -(1 << 15), "24": -(1 << 23), "32": -(1 << 31), "61": -(1 << 15),
  "80": -(1 << 7), "160": -(1 << 15), "212": -(1 << 11), "310": -(1 << 9),
  "311": -(1 << 9),
}  # fmt: skip


def examples(number):
  """The same examples in every run, and no folder to remember them in."""
  return hypothesis.settings(
    max_examples=number,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )


@dataclasses.dataclass(frozen=True)
class Lead:
  """A column of a record: what its header line says, and digital samples."""

  name: str
  gain: str
  unit: str
  baseline: int
  in_brackets: bool  # else the baseline is the ADC zero
  digital: np.ndarray = dataclasses.field(repr=False)
  file: str = f"{NAME}.dat"


@dataclasses.dataclass(frozen=True)
class Record:
  """A correct record; `needed` is the number of samples to be decoded."""

  rate: int
  format: str
  offset: int
  checksums: bool
  needed: int
  leads: tuple[Lead, ...]


@dataclasses.dataclass
class Files:
  """A record as it is written: fields of the header's lines, and signals."""

  lines: list[list[str]]
  signals: dict[str, bytes] = dataclasses.field(repr=False)
  separator: str = " "
  newline: str = "\n"
  encoding: str = "utf-8"

  def header(self):
    lines = [self.separator.join(fields) for fields in self.lines]
    text = self.newline.join([*lines, ""])
    return text.encode(self.encoding, errors="replace")


@dataclasses.dataclass(frozen=True)
class Expected:
  """What decoding may do: reject, or give the truth but for some leads."""

  decoded: bool = True
  rejected: bool = False
  lost: frozenset[int] = frozenset()  # rows that may be invalid instead


TRUTH = Expected()
REJECTED = Expected(decoded=False, rejected=True)
EITHER = Expected(rejected=True)


def groups(samples, n):
  padded = [int(s) for s in samples] + [0] * (-len(samples) % n)
  return zip(*[iter(padded)] * n, strict=True)


def pack(format_, frames):
  """Bytes of the samples of a file, (samples, leads)."""
  samples = frames.ravel()
  match format_:
    case "16" | "32":
      return samples.astype(f"<i{int(format_) // 8}").tobytes()
    case "61":
      return samples.astype(">i2").tobytes()
    case "24":
      parts = [int(s).to_bytes(3, "little", signed=True) for s in samples]
    case "80":
      return (samples + 128).astype(np.uint8).tobytes()
    case "160":
      return (samples + (1 << 15)).astype("<u2").tobytes()
    case "212":
      parts = [
        bytes([a & 255, a >> 8 & 15 | (b >> 8 & 15) << 4, b & 255])
        for a, b in groups(samples, 2)
      ]
    case "310":
      parts = [
        ((a & 1023) << 1 | (c & 31) << 11).to_bytes(2, "little")
        + ((b & 1023) << 1 | (c >> 5 & 31) << 11).to_bytes(2, "little")
        for a, b, c in groups(samples, 3)
      ]
    case "311":
      parts = [
        (a & 1023 | (b & 1023) << 10 | (c & 1023) << 20).to_bytes(4, "little")
        for a, b, c in groups(samples, 3)
      ]
  return b"".join(parts)


def line_of(record, lead):
  """The header line of a lead, field by field."""
  total = (int(lead.digital.sum()) + (1 << 15)) % (1 << 16) - (1 << 15)
  brackets = f"({lead.baseline})" if lead.in_brackets else ""
  return [
    lead.file,
    record.format + (f"+{record.offset}" if record.offset else ""),
    f"{lead.gain}{brackets}" + (f"/{lead.unit}" if lead.unit else ""),
    "16",
    "77" if lead.in_brackets else str(lead.baseline),
    str(lead.digital[0]),
    str(total) if record.checksums else "0",
    "0",
    lead.name,
  ]


def render(record):
  """The record as files."""
  lines = [line_of(record, lead) for lead in record.leads]
  count, length = len(record.leads), len(record.leads[0].digital)
  lines.insert(0, [NAME, str(count), str(record.rate), str(length)])
  signals = {}
  for name, leads in itertools.groupby(record.leads, lambda lead: lead.file):
    frames = np.stack([lead.digital for lead in leads], axis=1)
    signals[name] = b"\7" * record.offset + pack(record.format, frames)
  return Files(lines, signals)


def truth_of(record):
  """Microvolts (12, samples), NaN where there is no sample."""
  truth = np.full((12, len(record.leads[0].digital)), np.nan)
  for lead in record.leads:
    if lead.name.lower() in ROW:
      uv = (lead.digital - lead.baseline) / float(lead.gain)
      missing = lead.digital == LOWEST[record.format]
      uv = np.where(missing, np.nan, uv * MICROVOLTS[lead.unit])
      truth[ROW[lead.name.lower()]] = uv
  return truth


def usable(uv, record):
  """Whether a lead keeps to the rules for gaps and constant leads."""
  runs = [(k, len(list(run))) for k, run in itertools.groupby(np.isnan(uv))]
  longest = max([n for missing, n in runs if missing], default=0)
  used = uv[: record.needed]
  return (
    longest <= 0.2 * record.rate
    and np.isnan(used).mean() <= 0.1
    and np.nanmax(used) - np.nanmin(used) >= 1
  )


Decoded = collections.namedtuple("Decoded", "ecg lead_valid")


def decode(folder, record):
  job = records.RecordJob(NAME, pathlib.Path(folder) / NAME, "", "", {})
  spec = codec.SignalSpec(record.rate, record.needed, source_rate=record.rate)
  with warnings.catch_warnings():
    warnings.simplefilter("error", RuntimeWarning)  # of numpy
    made = records.make_record(job, spec)
  if isinstance(made, rejects.Rejection):
    return made
  return Decoded(made.fields["ecg"], made.fields["lead_valid"])


def decode_files(files, record):
  with tempfile.TemporaryDirectory() as folder:
    for name, content in files.signals.items():
      pathlib.Path(folder, name).write_bytes(content)
    pathlib.Path(folder, f"{NAME}.hea").write_bytes(files.header())
    return decode(folder, record)


def assert_as_expected(result, record, expected):
  truth = truth_of(record)
  valid = np.array([usable(uv, record) for uv in truth])
  kept = valid.copy()
  kept[list(expected.lost)] = False
  if isinstance(result, rejects.Rejection):
    assert result.reason != "rejected" and result.detail
    assert expected.rejected or kept.sum() < codec.MIN_VALID_LEADS, result
    return
  assert expected.decoded and valid.sum() >= codec.MIN_VALID_LEADS
  assert result.ecg.dtype == np.int16
  assert (kept <= result.lead_valid).all()
  assert (result.lead_valid <= valid).all()
  assert not result.ecg[~result.lead_valid].any()
  error = np.abs(result.ecg - truth[:, : record.needed])[result.lead_valid]
  assert np.nanmax(error) <= 0.5 + 1e-6


@st.composite
def leads(draw, names, format_, length, rng):
  """Leads of noise, some with gaps and some constant."""
  low, unit = LOWEST[format_], draw(st.sampled_from(sorted(MICROVOLTS)))
  step = draw(st.sampled_from([0.5, 1.0, 4.88, 10.0]))  # microvolt
  gain = MICROVOLTS[unit] / step
  gain = draw(st.sampled_from([repr(gain), f"{gain:.9e}", f"{gain:.9E}"]))
  in_brackets = draw(st.booleans())
  baseline = low * draw(st.integers(-4, 4)) // 16
  kinds = draw(st.sampled_from(["", "short", "long", "constant", "mixed"]))
  found = []
  for name in names:
    samples = np.rint(rng.normal(0, 300, length) / step).astype(int) + baseline
    samples = samples.clip(low + 1, -low - 1)
    kind = rng.choice(["", "", "short", "long", "constant"])
    kind = kind if kinds == "mixed" else rng.choice(["", "", "", kinds])
    start = rng.integers(length)
    if kind == "short":
      samples[start : start + 3] = low
    elif kind == "long":
      samples[start : start + length // 5] = low
    elif kind == "constant":
      samples[:] = samples[0]
    found.append(Lead(name, gain, unit, baseline, in_brackets, samples))
  return found


@st.composite
def correct_records(draw, formats):
  """A record of any layout that the format allows."""
  format_ = draw(formats)
  rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
  length = draw(st.integers(30, 120))
  case = draw(st.sampled_from([str, str.lower, str.upper]))
  names = [case(n) for n in LEADS]
  names = draw(st.permutations([*names, *OTHERS[: draw(st.integers(0, 6))]]))
  names = names[draw(st.sampled_from([0, 0, 0, 0, 1, 5, 7])) :]
  # One lead may be calibrated unlike the others.
  other = draw(st.integers(0, len(names)))
  columns = draw(leads(names[:other], format_, length, rng))
  columns += draw(leads(names[other:], format_, length, rng))
  if draw(st.booleans()):
    first = draw(st.integers(0, len(columns)))
    columns[first:] = [
      dataclasses.replace(lead, file=f"{NAME}_b.dat")
      for lead in columns[first:]
    ]
  return Record(
    rate=draw(st.sampled_from([100, 250, 400, 500, 1000])),
    format=format_,
    offset=draw(st.sampled_from([0, 0, 24])),
    checksums=draw(st.booleans()),
    needed=length - draw(st.integers(0, 10)),
    leads=tuple(columns),
  )


@st.composite
def styled_files(draw, record):
  """The files of a record, written in one of the ways that are all correct."""
  files = render(record)
  files.separator = draw(st.sampled_from([" ", "\t", "  "]))
  files.newline = draw(st.sampled_from(["\n", "\r\n", "\n\n", "\n# note\n"]))
  if record.format == "16":  # read without the wfdb package
    encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])
    files.encoding = draw(encodings)
    suffix = draw(st.sampled_from(["", "", ".mat", ".dat"]))
    folder = draw(st.sampled_from(["", "", "a/", "records/2/"]))
    files.lines[0][0] = f"{folder}{NAME}{suffix}"
  if draw(st.booleans()):
    for number in signal_lines(files):
      files.lines[number] += draw(st.sampled_from([[], ["#", "I"], ["#x"]]))
  ways = ["", ".0", "/50", "/50(-3)"]
  files.lines[0][2] += draw(st.sampled_from(ways))
  files.lines[0] += draw(st.sampled_from([[], ["0:0:0", "01/01/2000"]]))
  if draw(st.booleans()):
    files.lines.insert(0, ["#", "\u00e4"])
  if draw(st.booleans()):
    files.lines.insert(0, [])
  files.lines += draw(st.sampled_from([[], [["#Dx:", "1,2"], ["#", "x"]]]))
  return files


def signal_lines(files):
  """Numbers of the header lines with leads."""
  return range(1, len(files.lines))


# The other formats, which the wfdb package reads, are slower.
MOSTLY_16 = st.sampled_from(["16"] * 20 + sorted(LOWEST))
