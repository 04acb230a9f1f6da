"""What the header of a file promises, compared with what the file holds.

Each check raises `rejected.Rejected` if samples are missing. Entities of XML
are refused before anything parses the file: no ECG format has any.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import pathlib
import struct
import zlib
from typing import Any, NamedTuple

from cgdmer_jax.recordings import rejected, signals

_SCP_HEADER = struct.Struct("<HI")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_DEFLATED = "1.2.840.10008.1.2.1.99"


class Declared(NamedTuple):
  """What a header says of all leads; None where it does not say it.

  Attributes:
    sampling_rate: Hz.
    num_samples: of each lead.
  """

  sampling_rate: float | None = None
  num_samples: int | None = None


def check_edf(path: pathlib.Path) -> Declared:
  """EDF (Kemp et al. 1992): a header of 256 bytes and 256 for each signal."""
  with path.open("rb") as file:
    head = file.read(256)
    try:
      count = int(head[252:256])
      rest = file.read(256 * count) if 0 < count <= 4096 else b""
      records, seconds = int(head[236:244]), float(head[244:252])
      labels = [
        rest[16 * i : 16 * i + 16].decode("latin-1") for i in range(count)
      ]
      at = 216 * count
      samples = [int(rest[at + 8 * i : at + 8 * i + 8]) for i in range(count)]
      start = int(head[184:192])
    except ValueError as e:
      raise rejected.Unreadable(f"header of EDF: {e}") from e
  if start != 256 * (count + 1) or records < 1 or min(samples) < 1:
    raise rejected.Unreadable(
      f"header of EDF: {records} records, {start} bytes, {samples[:12]} samples"
    )
  signals.check_size(records * sum(samples))
  needed = start + 2 * records * sum(samples)
  _check_bytes(path.stat().st_size, needed)
  leads = {
    n
    for label, n in zip(labels, samples, strict=True)
    if signals.lead_index(label) is not None
  }
  if len(leads) > 1:
    raise rejected.WrongRate(f"leads of different rates: {sorted(leads)}")
  if not leads:
    raise rejected.MissingLeads(f"none of the 12 leads in {labels[:20]}")
  [number] = leads
  if not seconds > 0:
    raise rejected.WrongRate(f"data records of {seconds:g} s")
  return Declared(signals.check_rate(number / seconds), records * number)


def check_dicom(path: pathlib.Path) -> Declared:
  """DICOM PS3.3 C.10.9: samples, channels and rate of each waveform."""
  import pydicom

  meta = pydicom.filereader.read_file_meta_info(path)
  if meta.get("TransferSyntaxUID") == _DEFLATED:
    raise rejected.Unreadable("compressed DICOM")
  dataset = pydicom.dcmread(path)
  groups = dataset.get("WaveformSequence")
  if not groups:
    raise rejected.Unreadable("DICOM without a waveform")
  for group in groups:
    samples = int(group.NumberOfWaveformSamples)
    channels = int(group.NumberOfWaveformChannels)
    signals.check_size(samples * channels)
    needed = samples * channels * int(group.WaveformBitsAllocated) // 8
    _check_bytes(len(group.WaveformData), needed)
  rate = signals.check_rate(float(groups[0].SamplingFrequency))
  return Declared(rate, int(groups[0].NumberOfWaveformSamples))


def is_scp(head: bytes) -> bool:
  """Whether a file begins with section 0 of SCP-ECG (EN 1064)."""
  if len(head) < 32:
    return False
  _, size = _SCP_HEADER.unpack_from(head)
  number, length = struct.unpack_from("<HI", head, 8)
  pointers = (length - 16) % 10 == 0 and length >= 26
  return number == 0 and pointers and size >= 6 + length


def check_scp(path: pathlib.Path) -> Declared:
  """EN 1064, 5.3: checksum and length of the whole record."""
  content = path.read_bytes()
  checksum, size = _SCP_HEADER.unpack_from(content)
  if len(content) < size or size < 32:
    raise rejected.Truncated(f"{len(content)} of {size} bytes")
  # CRC-CCITT with the initial value 0xFFFF, which binascii calls CRC-HQX.
  if binascii.crc_hqx(content[2:size], 0xFFFF) != checksum:
    raise rejected.Corrupt("checksum of the record")
  return Declared()


def check_muse(path: pathlib.Path) -> Declared:
  """GE MUSE: samples and bytes of each lead, and their CRC-32 where it is."""
  for lead in _parse(path).iter("LeadData"):
    samples, text = (
      _text(lead, x) for x in ("LeadSampleCountTotal", "WaveFormData")
    )
    size = _text(lead, "LeadSampleSize") or "2"
    name = _text(lead, "LeadID")
    try:
      content = base64.b64decode("".join(text.split()), validate=True)
      needed = int(samples) * int(size)
    except (ValueError, binascii.Error) as e:
      raise rejected.Corrupt(f"lead {name}: {e}") from e
    _check_bytes(len(content), needed, f"lead {name}: ")
    crc = _text(lead, "LeadDataCRC32")
    if crc.isdecimal() and int(crc) and int(crc) != zlib.crc32(content):
      raise rejected.Corrupt(f"checksum of lead {name}")
  return Declared()


def check_aecg(path: pathlib.Path) -> Declared:
  """HL7 aECG says no number; a cut file is no XML any more."""
  increments = {
    (x.get("value"), x.get("unit")) for x in _parse(path).iter("increment")
  }
  if len(increments) != 1 or next(iter(increments))[1] not in _SECONDS:
    return Declared()
  [(value, unit)] = increments
  try:
    step = float(value) * _SECONDS[unit]
  except (TypeError, ValueError):
    raise rejected.WrongRate(f"increment {value!r}") from None
  if not step > 0:
    raise rejected.WrongRate(f"increment {value} {unit}")
  return Declared(signals.check_rate(1 / step))


def check_philips(path: pathlib.Path) -> Declared:
  """Philips: number of leads, and their duration in ms."""
  for wave in _parse(path).iter("parsedwaveforms"):
    field = {k.rpartition("}")[2]: v for k, v in wave.attrib.items()}
    names = field.get("leadlabels", "").split()
    if names and field.get("numberofleads", str(len(names))) != str(len(names)):
      raise rejected.Corrupt(
        f"{field['numberofleads']} leads, {len(names)} names of leads"
      )
    try:
      rate = float(field["samplespersecond"])
      number = round(float(field["durationperchannel"]) * rate / 1000)
    except (KeyError, ValueError, OverflowError):
      continue
    return Declared(signals.check_rate(rate), number)
  return Declared()


def decode(content: bytes) -> str:
  """Text of XML, as far as it can be read; UTF-16 needs its mark."""
  if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return content.decode("utf-16", "replace")
  return content.decode("utf-8-sig", "replace")


def _parse(path: pathlib.Path) -> Any:
  """The root of an XML file, tags without name spaces.

  Raises:
    rejected.Unreadable: it is not well-formed, or declares entities.
  """
  from defusedxml import ElementTree

  content = path.read_bytes()
  if b"<!ENTITY" in content.replace(b"\0", b""):  # of UTF-16, too
    raise rejected.Unreadable("XML with entities, which no ECG format has")
  try:
    root = ElementTree.fromstring(content)
  except (ElementTree.ParseError, ValueError, LookupError) as e:
    raise rejected.Unreadable(f"damaged XML: {e}") from e
  for element in root.iter():
    element.tag = str(element.tag).rpartition("}")[2]
  return root


def _text(element: Any, tag: str) -> str:
  return (element.findtext(tag) or "").strip()


def _check_bytes(found: int, needed: int, what: str = "") -> None:
  if found < needed:
    raise rejected.Truncated(f"{what}{found:,} of {needed:,} bytes")
