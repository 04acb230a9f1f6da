"""Correct records, every calibration, and headers edited at random."""

import dataclasses
import pathlib
import tempfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import rejected, wfdb_io
from data_builders import rejects
from tests.data_builders import wfdb_packer


@wfdb_packer.examples(100)
@hypothesis.given(st.data())
def test_correct_records_are_decoded(data):
  record = data.draw(
    wfdb_packer.correct_records(st.sampled_from(sorted(wfdb_packer.LOWEST)))
  )
  result = wfdb_packer.decode_files(
    data.draw(wfdb_packer.styled_files(record)), record
  )
  wfdb_packer.assert_as_expected(result, record, wfdb_packer.TRUTH)


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


def plain_record(**kwargs):
  """12 leads of noise."""
  rng = np.random.default_rng(0)
  columns = [
    wfdb_packer.Lead(name, "200", "mV", 0, True, rng.integers(-200, 200, 50))
    for name in LEADS
  ]
  fields = {"rate": 100, "format": "16", "offset": 0, "checksums": True}
  return wfdb_packer.Record(**fields, needed=50, leads=tuple(columns), **kwargs)


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("text", CALIBRATIONS)
def test_calibrations(text, every):
  record = plain_record()
  files = wfdb_packer.render(record)
  for number in wfdb_packer.signal_lines(files)[: None if every else 1]:
    files.lines[number][2:5] = [text, "16", "0"]
  result = wfdb_packer.decode_files(files, record)
  if CALIBRATIONS[text] is None:
    # A gain that is too large makes a constant lead; others are rejected.
    constant = not every and text == "1e308/mV"
    assert isinstance(result, wfdb_packer.Decoded) == constant
    assert not constant or result.lead_valid.tolist() == [False] + [True] * 11
    return
  step, baseline = CALIBRATIONS[text]
  truth = wfdb_packer.truth_of(record)
  for lead, column in enumerate(record.leads):
    if every or not lead:
      truth[lead] = (column.digital - baseline) * step
  valid = np.ptp(truth, axis=1) >= 1
  if not valid.any():
    assert result.reason == "no_signal"
    return
  assert result.lead_valid.tolist() == valid.tolist()
  assert np.abs(result.ecg - truth)[valid].max() <= 0.5 + 1e-6


# Name in the record line, name of the file -> what is said, or nothing.
NAMES = {
  ("100", "100"): None,
  ("d/100", "100"): None,
  ("d/e/100.mat", "100"): None,
  ("d\\e\\100", "100"): None,
  ("s1/40689238", "40689238"): None,
  ("100/2", "100"): "multi-segment record 100/2",
  ("0000/00001", "00002"): "header of the record '00001'",
  ("d/e/100", "200"): "header of the record '100'",
}


@pytest.mark.parametrize(("names", "message"), NAMES.items())
def test_names_of_records(names, message, tmp_path):
  record = plain_record()
  files = wfdb_packer.render(record)
  files.lines[0][0] = names[0]
  for name, content in files.signals.items():
    (tmp_path / name).write_bytes(content)
  (tmp_path / f"{names[1]}.hea").write_bytes(files.header())
  if message is None:
    assert wfdb_io.read(tmp_path / names[1]).present.all()
    return
  with pytest.raises(rejected.Unreadable, match=message):
    wfdb_io.read(tmp_path / names[1])


@pytest.mark.parametrize(
  ("column", "text", "message"),
  [
    (0, "d/x.dat", "signal file in another folder: 'd/x.dat 16 "),
    (1, "508", "signal format 508: "),
    (1, "x", "signal line "),
  ],
)
def test_reasons(column, text, message):
  record = plain_record()
  files = wfdb_packer.render(record)
  files.lines[1][column] = text
  result = wfdb_packer.decode_files(files, record)
  assert result.reason == "unreadable" and result.detail.startswith(message)


def test_signals_beside_the_header():
  record = plain_record()
  files = wfdb_packer.render(record)
  expected = wfdb_packer.decode_files(files, record)
  files.lines[1][0] = f"./{files.lines[1][0]}"
  found = wfdb_packer.decode_files(files, record)
  np.testing.assert_array_equal(found.ecg, expected.ecg)


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


@wfdb_packer.examples(200)
@hypothesis.given(data=st.data())
def test_edited_files(data):
  """Whatever is decoded are columns of the record, whatever their gain."""
  record = data.draw(wfdb_packer.correct_records(wfdb_packer.MOSTLY_16))
  record = dataclasses.replace(record, checksums=True)
  files = wfdb_packer.render(record)
  with tempfile.TemporaryDirectory() as folder:
    for name, content in {
      f"{wfdb_packer.NAME}.hea": files.header(),
      **files.signals,
    }.items():
      if name.endswith(".hea") or data.draw(st.integers(0, 9)) == 0:
        content = data.draw(edits(content))
      pathlib.Path(folder, name).write_bytes(content)
    result = wfdb_packer.decode(folder, record)
  if isinstance(result, rejects.Rejection):
    assert result.reason != "rejected" and result.detail
    return
  assert not result.ecg[~result.lead_valid].any()
  for lead in result.ecg[result.lead_valid].astype(float):
    assert max(likeness(lead, column, record) for column in record.leads) > 0.98


def likeness(lead, column, record):
  """Correlation with a column where it has samples; 1 for tiny signals."""
  known = column.digital[: record.needed] != wfdb_packer.LOWEST[record.format]
  lead, samples = lead[known], column.digital[: record.needed][known]
  if np.ptp(lead) < 20:
    return 1
  if len(samples) < 2 or np.ptp(samples) == 0:
    return 0
  return abs(np.corrcoef(lead, samples)[0, 1])
