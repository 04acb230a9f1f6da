"""Bad input never crashes a build and never yields a wrong signal.

Records are packed here, byte by byte, so that the truth does not depend on the
code under test. Some damage nothing can find: another gain, baseline or unit in
the header, two names exchanged, or other samples where there is no checksum.
"""

import collections
import csv
import dataclasses
import io
import itertools
import json
import pathlib
import shutil
import tempfile
import warnings

import hypothesis
import numpy as np
import ptb_xl_corpus
import pytest
import tensorflow_datasets as tfds
from hypothesis import strategies as st

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from data_builders import build, codec, records, rejects

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
  return Decoded(made["ecg"], made["lead_valid"])


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
  suffixes = ["", "", ".mat", ".dat"] if record.format == "16" else [""]
  files.lines[0][0] += draw(st.sampled_from(suffixes))
  ways = ["", ".0", "/50", "/50(-3)"]
  files.lines[0][2] += draw(st.sampled_from(ways))
  files.lines[0] += draw(st.sampled_from([[], ["0:0:0", "01/01/2000"]]))
  if draw(st.booleans()):
    files.lines.insert(0, ["#", "\u00e4"])
  if draw(st.booleans()):
    files.lines.insert(0, [])
  files.lines += draw(st.sampled_from([[], [["#Dx:", "1,2"], ["#", "x"]]]))
  return files


@examples(100)
@hypothesis.given(st.data())
def test_correct_records_are_decoded(data):
  record = data.draw(correct_records(st.sampled_from(sorted(LOWEST))))
  result = decode_files(data.draw(styled_files(record)), record)
  assert_as_expected(result, record, TRUTH)


# Damage: functions of the source of chance, the record and its files, which
# they change; they return what decoding may then do.

BAD_NUMBERS = (
  "", "0", "-1", "+-1", "x", "1e3", "1_2", "12.5", "0x10", "nan", "inf", "\0",
  "\uff11\uff12", "\u0661\u0662", "1" + "0" * 12, "9" * 400, "9" * 4300,
  "9" * 5000, "-" + "9" * 4300, "1e400", "1e-400", "1 2", "#",
)  # fmt: skip
BAD_NAMES = (
  ".", "..", "/", "~", "-", "", "/etc/passwd", "../r1.dat", "x" * 300,
  "x" * 100_000, "a\0b", "\ufffd", f"{NAME}.hea", "R1.DAT",
)  # fmt: skip
BAD_FORMATS = (
  "", "0", "17", "-16", "16x2", "16:1", "16+1", "16+x", "16x" + "9" * 5000,
  "16:" + "9" * 5000, "16+" + "9" * 5000, "16+" + "9" * 4300, "1\u0666", "161",
  "16 16", "\uff11\uff16", "212x1:0+1", "310:0", "508", "516",
)  # fmt: skip
# Calibration -> microvolts a unit and baseline, or None: rejected.
CALIBRATIONS = {
  "200": (5, 0), "200/mV": (5, 0), "200(0)/mV": (5, 0), "2e2/mV": (5, 0),
  "200.0(-9)/mV": (5, -9), "2E+2(12)/uV": (0.005, 12), ".2/uV": (5, 0),
  "-200/mV": (-5, 0), "200000/V": (5, 0), "0.2/\u03bcV": (5, 0),
  "0": None, "0/mV": None, "0(0)/mV": None, "": None, "/mV": None,
  "nan/mV": None, "inf/mV": None, "1e400/mV": None, "1e-320/mV": None,
  "1e-308/V": None, "1e-300/mV": None, "1e-12/mV": None, "1e308/mV": None,
  "-0/mV": None, "200/": None, "200/adu": None, "200/mmHg": None,
  "200/\ufffdV": None, "200/mV/mV": None, "2_00/mV": None, "1.2.3/mV": None,
  "\uff12\uff10\uff10/mV": None, "200(1_0)/mV": None, "200(x)/mV": None,
  "200(\u0661)/mV": None, "200(" + "9" * 400 + ")/mV": None,
  "200(" + "9" * 5000 + ")/mV": None, "200(-" + "9" * 30 + ")/mV": None,
  "9" * 400 + "/mV": None, "9" * 5000 + "/mV": None, "200(0/mV": None,
  "200(1e5)/mV": None, "200 /mV": None, "mV": None, "\0": None,
}  # fmt: skip


def signal_lines(files):
  """Numbers of the header lines with leads."""
  return range(1, len(files.lines))


def rows_of(files, number):
  """The row of the lead that a header line describes; none if not a lead."""
  row = ROW.get(files.lines[number][8].lower())
  return frozenset() if row is None else frozenset({row})


def draw_file(draw, files):
  return draw(st.sampled_from(sorted(files.signals)))


def truncate_signal(draw, record, files):
  name = draw_file(draw, files)
  content = files.signals[name]
  # Groups of samples are padded to a whole number of bytes.
  spare = {"212": 1, "310": 3, "311": 3}.get(record.format, 0)
  lost = draw(st.integers(spare + 1, len(content)))
  files.signals[name] = content[:-lost]
  return REJECTED


def lengthen_signal(draw, record, files):
  files.signals[draw_file(draw, files)] += draw(st.binary(min_size=1))
  return EITHER


def lose_signal(draw, record, files):
  del files.signals[draw_file(draw, files)]
  return REJECTED


def empty_signal(draw, record, files):
  files.signals[draw_file(draw, files)] = b""
  return REJECTED


def flip_bit(draw, record, files):
  """Found by the checksum alone."""
  hypothesis.assume(record.checksums)
  # It holds 16 bits; formats in groups have bits that mean nothing.
  hypothesis.assume(record.format in ("16", "61", "80", "160"))
  name = draw_file(draw, files)
  content = bytearray(files.signals[name])
  at = draw(st.integers(record.offset, len(content) - 1))
  content[at] ^= 1 << draw(st.integers(0, 7))
  files.signals[name] = bytes(content)
  return REJECTED


def overwrite_signal(draw, record, files):
  """With zeros, spaces or what empty flash memory holds."""
  hypothesis.assume(record.checksums and record.format == "16")
  name = draw_file(draw, files)
  content = files.signals[name]
  start = draw(st.integers(record.offset, len(content) - 1))
  end = draw(st.integers(start + 1, len(content)))
  filler = draw(st.sampled_from([b"\0", b" ", b"\xff"])) * (end - start)
  hypothesis.assume(content[start:end] != filler)
  files.signals[name] = content[:start] + filler + content[end:]
  return REJECTED


def move_signal(draw, record, files):
  """Bytes are lost at the front and as many are added at the end."""
  hypothesis.assume(record.checksums and record.format == "16")
  name = draw_file(draw, files)
  columns = sum(lead.file == name for lead in record.leads)
  by = draw(st.integers(1, 2 * columns * record.needed))
  hypothesis.assume(by % (2 * columns))  # the sums do not see the order
  content = files.signals[name]
  files.signals[name] = content[by:] + content[:by]
  return REJECTED


def wrong_count(draw, record, files):
  right = len(files.lines) - 1
  count = draw(st.integers(-1, 2 * right + 1))
  hypothesis.assume(count != right)
  files.lines[0][1] = str(count)
  return REJECTED


def more_samples(draw, record, files):
  more = draw(st.sampled_from([1, 3, 100, 10**6, 10**12, 10**18, 10**400]))
  # An odd number of samples leaves room for another.
  spare = 3 if record.format in ("212", "310", "311") else 0
  files.lines[0][3] = str(int(files.lines[0][3]) + spare + more)
  return REJECTED


def fewer_samples(draw, record, files):
  length = draw(st.integers(0, int(files.lines[0][3]) - 1))
  files.lines[0][3] = str(length)
  return EITHER if length >= record.needed else REJECTED


def bad_record_line(draw, record, files):
  at = draw(st.integers(1, 3))
  hypothesis.assume(
    files.lines[0][at] != (bad := draw(st.sampled_from(BAD_NUMBERS)))
  )
  files.lines[0][at] = bad
  return EITHER


def header_of_another_record(draw, record, files):
  name = draw(st.sampled_from(["r2", "r", "r10", "r1/2", "R1", "", "1", "\0"]))
  files.lines[0][0] = name
  return REJECTED


def bad_field(draw, files, fields, bad):
  number = draw(st.sampled_from(signal_lines(files)))
  files.lines[number][draw(st.sampled_from(fields))] = draw(bad)
  # Without the field, the next ones move up and the name is lost.
  return dataclasses.replace(EITHER, lost=rows_of(files, number))


def bad_file_name(draw, record, files):
  return bad_field(draw, files, [0], st.sampled_from(BAD_NAMES))


def bad_format(draw, record, files):
  return bad_field(draw, files, [1], st.sampled_from(BAD_FORMATS))


def bad_number(draw, record, files):
  """ADC resolution, ADC zero, first value, checksum or block size."""
  fields = [3, 4, 5, 6, 7]
  if not all(lead.in_brackets for lead in record.leads):
    fields.remove(4)  # which is the baseline
  return bad_field(draw, files, fields, st.sampled_from(BAD_NUMBERS))


def mixed_formats(draw, record, files):
  """Of the same width, in a file that has one."""
  hypothesis.assume(record.format == "16")
  number = draw(st.sampled_from(signal_lines(files)))
  file = files.lines[number][0]
  hypothesis.assume(sum(fields[0] == file for fields in files.lines) > 1)
  new = draw(st.sampled_from(["61", "160"]))
  files.lines[number][1] = files.lines[number][1].replace("16", new)
  return REJECTED


def bad_name(draw, record, files):
  number = draw(st.sampled_from(signal_lines(files)))
  lost = rows_of(files, number)
  bad = st.sampled_from(["", "?", "V7", "avl2", "\0", "V1\0", "\u2160", "I I"])
  files.lines[number][8] = draw(
    bad
    | st.text(max_size=2).filter(lambda text: text.strip().lower() not in ROW)
  )
  return dataclasses.replace(EITHER, lost=lost)


def repeat_name(draw, record, files):
  numbers = [n for n in signal_lines(files) if rows_of(files, n)]
  first, second = draw(st.permutations(numbers))[:2]
  files.lines[second][8] = draw(st.sampled_from([str.upper, str.lower, str]))(
    files.lines[first][8]
  )
  return REJECTED


def lose_line(draw, record, files):
  number = draw(st.sampled_from(signal_lines(files)))
  lost, file = rows_of(files, number), files.lines[number][0]
  del files.lines[number]
  if draw(st.booleans()):  # and the count is adapted
    files.lines[0][1] = str(len(files.lines) - 1)
    if all(fields[0] != file for fields in files.lines[1:]):
      return dataclasses.replace(EITHER, lost=lost)  # a file of its own
  return REJECTED


def repeat_line(draw, record, files):
  number = draw(st.sampled_from(signal_lines(files)))
  files.lines.insert(number, list(files.lines[number]))
  if draw(st.booleans()):
    files.lines[0][1] = str(len(files.lines) - 1)
  return REJECTED


def swap_lines(draw, record, files):
  """Found by the checksums alone."""
  hypothesis.assume(record.checksums)
  first, second = draw(st.permutations(signal_lines(files)))[:2]
  lines = files.lines
  hypothesis.assume(lines[first][6] != lines[second][6])
  lines[first], lines[second] = lines[second], lines[first]
  return REJECTED


def merge_lines(draw, record, files):
  number = draw(st.integers(0, len(files.lines) - 2))
  files.lines[number] += files.lines.pop(number + 1)
  return REJECTED


def rubbish_header(draw, record, files):
  files.lines = [[draw(st.text()) for _ in range(9)] for _ in range(13)]
  files.encoding = draw(st.sampled_from(["utf-8", "utf-16", "latin-1"]))
  return REJECTED


def other_encoding(draw, record, files):
  files.encoding = draw(st.sampled_from(["utf-16", "utf-32", "cp037"]))
  return REJECTED


def no_header(draw, record, files):
  files.lines = draw(st.sampled_from([[], [[""]], [["#"]], [[NAME]]]))
  return REJECTED


DAMAGE = (
  truncate_signal, lengthen_signal, lose_signal, empty_signal, flip_bit,
  overwrite_signal, move_signal, wrong_count, more_samples, fewer_samples,
  bad_record_line, header_of_another_record, bad_file_name, bad_format,
  bad_number, mixed_formats, bad_name, repeat_name, lose_line, repeat_line,
  swap_lines, merge_lines, rubbish_header, other_encoding, no_header,
)  # fmt: skip
# The other formats, which the wfdb package reads, are slower.
MOSTLY_16 = st.sampled_from(["16"] * 20 + sorted(LOWEST))


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
@examples(25)
@hypothesis.given(data=st.data())
def test_damaged_records(damage, data):
  record = data.draw(correct_records(MOSTLY_16))
  files = render(record)
  files.separator = data.draw(st.sampled_from([" ", "\t"]))
  files.newline = data.draw(st.sampled_from(["\n", "\r\n", "\n# note\n"]))
  expected = damage(data.draw, record, files)
  assert_as_expected(decode_files(files, record), record, expected)


def plain_record(**kwargs):
  """12 leads of noise."""
  rng = np.random.default_rng(0)
  columns = [
    Lead(name, "200", "mV", 0, True, rng.integers(-200, 200, 50))
    for name in LEADS
  ]
  fields = {"rate": 100, "format": "16", "offset": 0, "checksums": True}
  return Record(**fields, needed=50, leads=tuple(columns), **kwargs)


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("text", CALIBRATIONS)
def test_calibrations(text, every):
  record = plain_record()
  files = render(record)
  for number in signal_lines(files)[: None if every else 1]:
    files.lines[number][2:5] = [text, "16", "0"]
  result = decode_files(files, record)
  if CALIBRATIONS[text] is None:
    # A gain that is too large makes a constant lead; others are rejected.
    constant = not every and text == "1e308/mV"
    assert isinstance(result, Decoded) == constant
    assert not constant or result.lead_valid.tolist() == [False] + [True] * 11
    return
  step, baseline = CALIBRATIONS[text]
  truth = truth_of(record)
  for lead, column in enumerate(record.leads):
    if every or not lead:
      truth[lead] = (column.digital - baseline) * step
  valid = np.ptp(truth, axis=1) >= 1
  if not valid.any():
    assert result.reason == "no_signal"
    return
  assert result.lead_valid.tolist() == valid.tolist()
  assert np.abs(result.ecg - truth)[valid].max() <= 0.5 + 1e-6


@st.composite
def edits(draw, content):
  """Bytes replaced, put in, taken out, repeated."""
  for _ in range(draw(st.integers(1, 4))):
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.integers(0, 8)))
    # Mostly what could pass for a header.
    new = st.sampled_from(
      [b"0", b"9", b" ", b"\n", b"/", b"(", b"#", b"I", b"."]
    )
    new = new | st.binary(max_size=4) | st.just(2 * content[start:end])
    content = content[:start] + draw(new) + content[end:]
  return content


@examples(200)
@hypothesis.given(data=st.data())
def test_edited_files(data):
  """Whatever is decoded are columns of the record, whatever their gain."""
  record = data.draw(correct_records(MOSTLY_16))
  record = dataclasses.replace(record, checksums=True)
  files = render(record)
  with tempfile.TemporaryDirectory() as folder:
    for name, content in {
      f"{NAME}.hea": files.header(),
      **files.signals,
    }.items():
      if name.endswith(".hea") or data.draw(st.integers(0, 9)) == 0:
        content = data.draw(edits(content))
      pathlib.Path(folder, name).write_bytes(content)
    result = decode(folder, record)
  if isinstance(result, rejects.Rejection):
    assert result.reason != "rejected" and result.detail
    return
  assert not result.ecg[~result.lead_valid].any()
  for lead in result.ecg[result.lead_valid].astype(float):
    assert max(likeness(lead, column, record) for column in record.leads) > 0.98


def likeness(lead, column, record):
  """Correlation with a column where it has samples; 1 for tiny signals."""
  known = column.digital[: record.needed] != LOWEST[record.format]
  lead, samples = lead[known], column.digital[: record.needed][known]
  if np.ptp(lead) < 20:
    return 1
  if len(samples) < 2 or np.ptp(samples) == 0:
    return 0
  return abs(np.corrcoef(lead, samples)[0, 1])


# Data sets. Damage changes the tables, as bytes by name, and the folder; it
# returns the ids of the records that must then be rejected.

IDS = [str(i) for i in ptb_xl_corpus.FOLDS][:20]  # two of every fold
DATABASE, STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"


class Failure(Exception):
  """The build must end with a `UserError`."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  """20 records in the layout of PTB-XL."""
  tfds.disable_progress_bar()
  folder = tmp_path_factory.mktemp("corpus")
  ptb_xl_corpus.write_statements(folder)
  rows = [ptb_xl_corpus.row(int(i)) for i in IDS]
  ptb_xl_corpus.write_csv(folder / DATABASE, rows)
  for row in rows:
    mv = ptb_xl_corpus.signal(int(row["ecg_id"]), 100)
    ptb_xl_corpus.write_record(folder / row["filename_lr"], mv, 100)
  return folder


def read_table(content):
  """Rows of a table, the header first."""
  return list(csv.reader(io.StringIO(content.decode(), newline="")))


def write_table(rows):
  text = io.StringIO(newline="")
  csv.writer(text).writerows(rows)
  return text.getvalue().encode()


def other_ways(draw, folder, tables):
  """Columns in another order, more of them, BOM, blank lines, line ends."""
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  rows = [[*row, str(i)] for i, row in enumerate(read_table(tables[name]))]
  order = draw(st.permutations(range(len(rows[0]))))
  content = write_table([[row[i] for i in order] for row in rows])
  if draw(st.booleans()):
    content = content.replace(b"\r\n", b"\n")
  start = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\n \r\n"]))
  tables[name] = start + content + draw(st.sampled_from([b"", b"\n\n"]))
  return set()


def columns_that_are_not_needed(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  at = rows[0].index("filename_hr")
  tables[DATABASE] = write_table([row[:at] + row[at + 1 :] for row in rows])
  return set()


def missing_column(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  at = draw(st.integers(0, rows[0].index("filename_lr")))
  renamed = draw(st.booleans())
  for row in rows:
    row[at : at + 1] = [row[at] + "?"] if renamed else []
  tables[DATABASE] = write_table(rows)
  raise Failure


def repeated_column(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  at = draw(st.integers(0, rows[0].index("filename_lr")))
  other = draw(st.permutations(range(1, len(rows))))
  rows = [
    [*row, rows[i][at] if i else row[at]]
    for row, i in zip(rows, [0, *other], strict=True)
  ]
  tables[DATABASE] = write_table(rows)
  raise Failure


def repeated_row(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  rows.append(draw(st.sampled_from(rows[1:])))
  tables[DATABASE] = write_table(rows)
  raise Failure


def cut_table(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  content = tables[name]
  cut = content[: draw(st.integers(0, len(content) - 3))]
  if name == DATABASE:
    # Nothing tells that whole rows are missing from the end, or a part of the
    # last column.
    last = (read_table(cut) or [[]])[-1]
    hypothesis.assume(len(last) < len(read_table(content)[0]))
  tables[name] = cut
  raise Failure


def broken_text(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  content = tables[name]
  at = draw(st.integers(0, len(content)))
  bad = draw(st.sampled_from([b"\xff", b"\xc3(", b"\xed\xa0\x80"]))
  tables[name] = content[:at] + bad + content[at:]
  raise Failure


def other_content(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  content = tables[name]
  tables[name] = draw(
    st.sampled_from(
      [
        b"", b"\n", b"\0" * 500, b"\xef\xbb\xbf", content.split(b"\n")[0],
        content.decode().encode("utf-16"), content.replace(b",", b";"),
        content + b'"', content + b"1\n", content.replace(b"\n", b",x\n"),
      ]
    )
    | st.binary()
  )  # fmt: skip
  raise Failure


def no_table(draw, folder, tables):
  name = draw(st.sampled_from([DATABASE, STATEMENTS]))
  del tables[name]
  if draw(st.booleans()):
    (folder / name).mkdir()
  raise Failure


def bad_cells(draw, folder, tables):
  """Cells that cannot be right in one to three rows."""
  rubbish = st.sampled_from(
    ["", " ", "x", "-1", "nan", "\0", "\u0661", "{}x", "{[]: 1}", "-" * 10**5]
  )
  bad = {
    "patient_id": rubbish,
    "report": st.sampled_from(["a\0b", "\x1b[2J", "\ufffdPNG", "\x7fELF"]),
    "scp_codes": rubbish | st.just("{'NORM': 100.0, 'UNHEARD': 0.0}"),
    "strat_fold": rubbish | st.sampled_from(["0", "11", "1.0"]),
    "filename_lr": rubbish
    | st.sampled_from(["/", "..", "y" * 5000, "records100/00000/00061_lr"]),
  }
  rows = read_table(tables[DATABASE])
  chosen = draw(st.permutations(range(1, len(rows))))[: draw(st.integers(1, 3))]
  for row in chosen:
    column = draw(st.sampled_from(sorted(bad)))
    rows[row][rows[0].index(column)] = draw(bad[column])
  tables[DATABASE] = write_table(rows)
  return {rows[row][0] for row in chosen}


def bad_id(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  row = draw(st.sampled_from(rows[1:]))
  row[0] = draw(st.sampled_from(["", "x", "1\n2", "\0", "-3", "99", "../1"]))
  tables[DATABASE] = write_table(rows)
  return {row[0]}


def exchanged_files(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  first, second = draw(st.permutations(rows[1:]))[:2]
  at = rows[0].index("filename_lr")
  first[at], second[at] = second[at], first[at]
  tables[DATABASE] = write_table(rows)
  return {first[0], second[0]}


def long_field(draw, folder, tables):
  rows = read_table(tables[DATABASE])
  row = draw(st.sampled_from(rows[1:]))
  row[2] = "x" * (csv.field_size_limit() + 1)
  tables[DATABASE] = write_table(rows)
  raise Failure


def open_quote(draw, folder, tables):
  """A quote that nothing closes would swallow the rest of the table."""
  rows = read_table(tables[DATABASE])
  lines = [write_table([row]) for row in rows]
  at = draw(st.integers(1, len(lines) - 1))
  before, comma, last = lines[at].rpartition(b",")
  # In the last column it leaves the number of fields as it is.
  first = draw(st.booleans())
  lines[at] = b'"' + lines[at] if first else before + comma + b'"' + last
  tables[DATABASE] = b"".join(lines)
  raise Failure


def damaged_signals(draw, folder, tables):
  chosen = draw(st.permutations(IDS))[: draw(st.integers(1, 4))]
  for record_id in chosen:
    path = folder / "records100" / "00000" / f"{int(record_id):05d}_lr"
    header, data = path.with_suffix(".hea"), path.with_suffix(".dat")
    match draw(st.integers(0, 5)):
      case 0:
        data.write_bytes(data.read_bytes()[: -draw(st.integers(1, 24000))])
      case 1:
        header.write_bytes(draw(st.binary()))
      case 2:
        header.unlink()
      case 3:
        data.write_bytes(data.read_bytes()[::-1])
      case 4:
        text = header.read_text().replace(" 100 1000", " 500 1000")
        header.write_text(text)
      case 5:
        other = folder / "records100" / "00000" / "00061_lr"
        ptb_xl_corpus.write_record(other, np.zeros((1000, 12)), 100)
        shutil.copy(other.with_suffix(".hea"), header)
  return set(chosen)


TABLE_DAMAGE = (
  other_ways, columns_that_are_not_needed, missing_column, repeated_column,
  repeated_row, cut_table, broken_text, other_content, no_table, bad_cells,
  bad_id, exchanged_files, long_field, open_quote, damaged_signals,
)  # fmt: skip


@pytest.mark.parametrize("damage", TABLE_DAMAGE, ids=lambda f: f.__name__)
@examples(4)
@hypothesis.given(data=st.data())
def test_damaged_data_sets(corpus, damage, data):
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary, "corpus")
    shutil.copytree(corpus, folder)
    tables = {n: (folder / n).read_bytes() for n in (DATABASE, STATEMENTS)}
    for name in tables:
      (folder / name).unlink()
    try:
      rejected = damage(data.draw, folder, tables)
    except Failure:
      rejected = None
    for name, content in tables.items():
      (folder / name).write_bytes(content)
    data_dir = pathlib.Path(temporary, "data")
    if rejected is None:
      assert_fails(folder, data_dir)
    else:
      assert_builds(folder, data_dir, rejected)


def build_corpus(folder, data_dir):
  return build.build(
    "ptb_xl/100hz", manual_dir=folder, data_dir=data_dir, max_rejected=0.9
  )


def assert_fails(folder, data_dir):
  with pytest.raises(UserError) as error:
    build_corpus(folder, data_dir)
  assert str(error.value).isprintable()  # one line
  left = {path.name for path in data_dir.rglob("*") if path.is_file()}
  assert left <= {"rejected.jsonl"}


def assert_builds(folder, data_dir, rejected):
  final = build_corpus(folder, data_dir)
  lines = (final / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
  listed = [json.loads(line) for line in lines]
  assert {entry["id"] for entry in listed} == rejected
  assert all(entry["reason"] and entry["detail"] for entry in listed)
  builder = tfds.builder("ptb_xl/100hz", data_dir=data_dir)
  found = {}
  for split in builder.info.splits:
    for example in builder.as_data_source(split):
      found[example["id"].decode()] = example
      i = int(example["id"])
      truth = np.rint(1e3 * ptb_xl_corpus.signal(i, 100).T)
      np.testing.assert_array_equal(example["ecg"], truth)
      assert example["report"].decode() == f"Bericht {i} \u00fcberdreht"
  assert len(found) + len(rejected) == len(IDS)
  assert not found.keys() & rejected
