"""Files written by hand from the standards of their formats."""

import re

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import read, rejected
from tests.recordings import clinic_files

ECG = np.random.default_rng(0).normal(0, 9, (12, 1000)).cumsum(1).astype(int)
ECG[3, 500:] += 3000  # too far for the short codes of SCP
FORMATS = [*clinic_files.WRITERS]
XML = [x for x in FORMATS if "XML" in x or "aECG" in x]


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
  """Format -> content of a file; leads in another order than ours."""
  path = tmp_path_factory.mktemp("clinic") / "file"
  found = {}
  for name, write in clinic_files.WRITERS.items():
    write(path, [*LEADS[::-1]], ECG[::-1], 500)
    found[name] = path.read_bytes()
  return found


@pytest.fixture
def put(contents, tmp_path):
  def write(name, change=lambda x: x):
    path = tmp_path / "file"
    content = change(contents[name])
    assert content != contents[name] or change(b"a") == b"a"
    path.write_bytes(content)
    return path

  return write


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_exactly(put, name):
  found = read.read(put(name))
  assert found.format == name and not found.warnings
  assert found.recording.sampling_rate == 500 and found.recording.present.all()
  np.testing.assert_array_equal(found.recording.signal, ECG)


def test_scp_without_huffman_and_eight_leads(tmp_path):
  names = ["I", "II", *LEADS[6:]]
  rows = ECG[[LEADS.index(x) for x in names]]
  clinic_files.scp(tmp_path / "a", names, rows, 500, huffman=False)
  recording = read.read(tmp_path / "a").recording
  assert [LEADS[i] for i in np.flatnonzero(recording.present)] == names
  np.testing.assert_array_equal(recording.signal[recording.present], rows)


@pytest.mark.parametrize("name", FORMATS)
def test_no_cut_file_is_taken(put, contents, name):
  size = len(contents[name])
  for cut in np.linspace(10, size - 2, 12).astype(int):
    path = put(name, lambda x, cut=cut: x[:cut])
    with pytest.raises(rejected.Rejected):
      read.read(path)


@pytest.mark.parametrize("name", XML)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_never_followed(put, tmp_path, name, encoding):
  secret = tmp_path / "secret"
  secret.write_text("500")
  entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{secret}">]>'
  bomb = '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY e "&a;&a;">]>'
  for declared in (entity, bomb):

    def change(content, declared=declared):
      text = re.sub("<!DOCTYPE[^>]*>", "", content.decode("latin-1"))
      head, body = text.split("\n", 1) if "\n" in text else ("", text)
      head = re.sub('encoding="[^"]*"', f'encoding="{encoding}"', head)
      body = declared + body.replace(">500<", ">&e;<")
      return f"{head}\n{body}".encode(encoding)

    with pytest.raises(rejected.Unreadable, match="entities"):
      read.read(put(name, change))


def swap(old, new):
  def change(content):
    return content.replace(old.encode(), new.encode())

  return change


@pytest.mark.parametrize(
  ("name", "old", "new", "error"),
  [
    ("HL7 aECG", 'increment value="0.002"', 'increment value="0"', "WrongRate"),
    ("HL7 aECG", 'increment value="0.002"', 'increment value="x"', "WrongRate"),
    ("HL7 aECG", '"uV"', '"kg"', "UnknownUnit"),
    ("HL7 aECG", "MDC_ECG_LEAD_", "MDC_FOO_", "Unreadable"),
    ("HL7 aECG", "_LEAD_III", "_LEAD_II", "AmbiguousLeads"),
    ("GE MUSE XML", "CountTotal>1000<", "CountTotal>9999999<", "Truncated"),
    ("GE MUSE XML", "MICROVOLTS", "PARSECS", "UnknownUnit"),
    ("GE MUSE XML", "<LeadDataCRC32>", "<LeadDataCRC32>1", "Corrupt"),
    ("Philips XML", 'numberofleads="12"', 'numberofleads="7"', "Corrupt"),
    ("Philips XML", 'durationperchannel="2000"', 'durationperchannel="9000"',
     "Unreadable"),
    ("EDF", "uV      ", "kg      ", "UnknownUnit"),
    ("EDF", "2       1       ", "99999999" + "1       ", "WrongLength"),
    ("EDF", "2       1       ", "2       0       ", "WrongRate"),
    ("EDF", "2       1       ", "-1      1       ", "Unreadable"),
    ("SCP-ECG", "SCPECG", "SCPECX", "Corrupt"),
    ("DICOM", "UCUM", "XXXX", None),
  ],
)  # fmt: skip
def test_headers_that_say_what_cannot_be(put, name, old, new, error):
  path = put(name, swap(old, new))
  if error is None:  # another name for the same unit
    assert read.read(path).recording.present.all()
    return
  with pytest.raises(getattr(rejected, error)):
    read.read(path)


def test_without_the_packages_of_the_extra(put, monkeypatch):
  monkeypatch.setitem(__import__("sys").modules, "ecgdatakit", None)
  with pytest.raises(rejected.Unreadable, match=r"cgdmer-jax\[formats\]"):
    read.read(put("EDF"))
