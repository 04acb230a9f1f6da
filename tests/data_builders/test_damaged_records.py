"""Damaged records are rejected, or decoded to the truth.

Some damage nothing can find: another gain, baseline or unit in the header, two
names exchanged, or other samples where there is no checksum.
"""

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.data_builders import wfdb_packer

# Damage: functions of the source of chance, the record and its files, which
# they change; they return what decoding may then do.

BAD_NUMBERS = (
  "", "0", "-1", "+-1", "x", "1e3", "1_2", "12.5", "0x10", "nan", "inf", "\0",
  "\uff11\uff12", "\u0661\u0662", "1" + "0" * 12, "9" * 400, "9" * 4300,
  "9" * 5000, "-" + "9" * 4300, "1e400", "1e-400", "1 2", "#",
)  # fmt: skip
BAD_NAMES = (
  ".", "..", "/", "~", "-", "", "/etc/passwd", "../r1.dat", "x" * 300,
  "x" * 100_000, "a\0b", "\ufffd", f"{wfdb_packer.NAME}.hea", "R1.DAT",
)  # fmt: skip
BAD_FORMATS = (
  "", "0", "17", "-16", "16x2", "16:1", "16+1", "16+x", "16x" + "9" * 5000,
  "16:" + "9" * 5000, "16+" + "9" * 5000, "16+" + "9" * 4300, "1\u0666", "161",
  "16 16", "\uff11\uff16", "212x1:0+1", "310:0", "508", "516",
)  # fmt: skip


def rows_of(files, number):
  """The row of the lead that a header line describes; none if not a lead."""
  row = wfdb_packer.ROW.get(files.lines[number][8].lower())
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
  return wfdb_packer.REJECTED


def lengthen_signal(draw, record, files):
  files.signals[draw_file(draw, files)] += draw(st.binary(min_size=1))
  return wfdb_packer.EITHER


def lose_signal(draw, record, files):
  del files.signals[draw_file(draw, files)]
  return wfdb_packer.REJECTED


def empty_signal(draw, record, files):
  files.signals[draw_file(draw, files)] = b""
  return wfdb_packer.REJECTED


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
  return wfdb_packer.REJECTED


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
  return wfdb_packer.REJECTED


def move_signal(draw, record, files):
  """Bytes are lost at the front and as many are added at the end."""
  hypothesis.assume(record.checksums and record.format == "16")
  name = draw_file(draw, files)
  columns = sum(lead.file == name for lead in record.leads)
  by = draw(st.integers(1, 2 * columns * record.needed))
  hypothesis.assume(by % (2 * columns))  # the sums do not see the order
  content = files.signals[name]
  files.signals[name] = content[by:] + content[:by]
  return wfdb_packer.REJECTED


def wrong_count(draw, record, files):
  right = len(files.lines) - 1
  count = draw(st.integers(-1, 2 * right + 1))
  hypothesis.assume(count != right)
  files.lines[0][1] = str(count)
  return wfdb_packer.REJECTED


def more_samples(draw, record, files):
  more = draw(st.sampled_from([1, 3, 100, 10**6, 10**12, 10**18, 10**400]))
  # An odd number of samples leaves room for another.
  spare = 3 if record.format in ("212", "310", "311") else 0
  files.lines[0][3] = str(int(files.lines[0][3]) + spare + more)
  return wfdb_packer.REJECTED


def fewer_samples(draw, record, files):
  length = draw(st.integers(0, int(files.lines[0][3]) - 1))
  files.lines[0][3] = str(length)
  return wfdb_packer.EITHER if length >= record.needed else wfdb_packer.REJECTED


def bad_record_line(draw, record, files):
  at = draw(st.integers(1, 3))
  hypothesis.assume(
    files.lines[0][at] != (bad := draw(st.sampled_from(BAD_NUMBERS)))
  )
  files.lines[0][at] = bad
  return wfdb_packer.EITHER


def header_of_another_record(draw, record, files):
  name = draw(st.sampled_from(["r2", "r", "r10", "r1/2", "R1", "", "1", "\0"]))
  files.lines[0][0] = name
  return wfdb_packer.REJECTED


def bad_field(draw, files, fields, bad):
  number = draw(st.sampled_from(wfdb_packer.signal_lines(files)))
  files.lines[number][draw(st.sampled_from(fields))] = draw(bad)
  # Without the field, the next ones move up and the name is lost.
  return dataclasses.replace(wfdb_packer.EITHER, lost=rows_of(files, number))


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
  number = draw(st.sampled_from(wfdb_packer.signal_lines(files)))
  file = files.lines[number][0]
  hypothesis.assume(sum(fields[0] == file for fields in files.lines) > 1)
  new = draw(st.sampled_from(["61", "160"]))
  files.lines[number][1] = files.lines[number][1].replace("16", new)
  return wfdb_packer.REJECTED


def bad_name(draw, record, files):
  number = draw(st.sampled_from(wfdb_packer.signal_lines(files)))
  lost = rows_of(files, number)
  bad = st.sampled_from(["", "?", "V7", "avl2", "\0", "V1\0", "\u2160", "I I"])
  files.lines[number][8] = draw(
    bad
    | st.text(max_size=2).filter(
      lambda text: text.strip().lower() not in wfdb_packer.ROW
    )
  )
  return dataclasses.replace(wfdb_packer.EITHER, lost=lost)


def repeat_name(draw, record, files):
  numbers = [n for n in wfdb_packer.signal_lines(files) if rows_of(files, n)]
  first, second = draw(st.permutations(numbers))[:2]
  files.lines[second][8] = draw(st.sampled_from([str.upper, str.lower, str]))(
    files.lines[first][8]
  )
  return wfdb_packer.REJECTED


def lose_line(draw, record, files):
  number = draw(st.sampled_from(wfdb_packer.signal_lines(files)))
  lost, file = rows_of(files, number), files.lines[number][0]
  del files.lines[number]
  if draw(st.booleans()):  # and the count is adapted
    files.lines[0][1] = str(len(files.lines) - 1)
    if all(fields[0] != file for fields in files.lines[1:]):
      return dataclasses.replace(
        wfdb_packer.EITHER, lost=lost
      )  # a file of its own
  return wfdb_packer.REJECTED


def repeat_line(draw, record, files):
  number = draw(st.sampled_from(wfdb_packer.signal_lines(files)))
  files.lines.insert(number, list(files.lines[number]))
  if draw(st.booleans()):
    files.lines[0][1] = str(len(files.lines) - 1)
  return wfdb_packer.REJECTED


def swap_lines(draw, record, files):
  """Found by the checksums alone."""
  hypothesis.assume(record.checksums)
  first, second = draw(st.permutations(wfdb_packer.signal_lines(files)))[:2]
  lines = files.lines
  hypothesis.assume(lines[first][6] != lines[second][6])
  lines[first], lines[second] = lines[second], lines[first]
  return wfdb_packer.REJECTED


def merge_lines(draw, record, files):
  number = draw(st.integers(0, len(files.lines) - 2))
  files.lines[number] += files.lines.pop(number + 1)
  return wfdb_packer.REJECTED


def rubbish_header(draw, record, files):
  files.lines = [[draw(st.text()) for _ in range(9)] for _ in range(13)]
  files.encoding = draw(st.sampled_from(["utf-8", "utf-16", "latin-1"]))
  return wfdb_packer.REJECTED


def other_encoding(draw, record, files):
  files.encoding = draw(st.sampled_from(["utf-16-le", "utf-32", "cp037"]))
  return wfdb_packer.REJECTED


def no_header(draw, record, files):
  files.lines = draw(
    st.sampled_from([[], [[""]], [["#"]], [[wfdb_packer.NAME]]])
  )
  return wfdb_packer.REJECTED


DAMAGE = (
  truncate_signal, lengthen_signal, lose_signal, empty_signal, flip_bit,
  overwrite_signal, move_signal, wrong_count, more_samples, fewer_samples,
  bad_record_line, header_of_another_record, bad_file_name, bad_format,
  bad_number, mixed_formats, bad_name, repeat_name, lose_line, repeat_line,
  swap_lines, merge_lines, rubbish_header, other_encoding, no_header,
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
@wfdb_packer.examples(25)
@hypothesis.given(data=st.data())
def test_damaged_records(damage, data):
  record = data.draw(wfdb_packer.correct_records(wfdb_packer.MOSTLY_16))
  files = wfdb_packer.render(record)
  files.separator = data.draw(st.sampled_from([" ", "\t"]))
  files.newline = data.draw(st.sampled_from(["\n", "\r\n", "\n# note\n"]))
  expected = damage(data.draw, record, files)
  wfdb_packer.assert_as_expected(
    wfdb_packer.decode_files(files, record), record, expected
  )
