"""Writes a recording in formats of hospital devices, from their standards.

A recording is int (leads, samples) in whole microvolts with the names of the
leads; every format here holds these exactly.
"""

import base64
import binascii
import struct
import zlib

import numpy as np

# Seconds in a data record of EDF.
_EDF_SECONDS = 1
# Of leads in ISO 11073-10102 (`2:1`, for DICOM) and in EN 1064.
_CODES = {
  **{"I": 1, "II": 2, "III": 61, "aVR": 62, "aVL": 63, "aVF": 64},
  **{f"V{i}": i + 2 for i in range(1, 7)},
}


def edf(path, names, ecg, rate, unit="uV"):
  """European Data Format (Kemp et al. 1992, the table of the header)."""
  count, length = ecg.shape
  records, rest = divmod(length, rate * _EDF_SECONDS)
  assert not rest
  head = "0".ljust(8) + "X X X X".ljust(80) + "Startdate X X X X".ljust(80)
  head += "01.01.0100.00.00" + str(256 * (count + 1)).ljust(8) + " " * 44
  head += str(records).ljust(8) + str(_EDF_SECONDS).ljust(8)
  head += str(count).ljust(4)
  columns = (
    (16, names), (80, [""] * count), (8, [unit] * count),
    (8, [-32768] * count), (8, [32767] * count), (8, [-32768] * count),
    (8, [32767] * count), (80, [""] * count),
    (8, [rate * _EDF_SECONDS] * count), (32, [""] * count),
  )  # fmt: skip
  for width, values in columns:
    head += "".join(str(x).ljust(width) for x in values)
  blocks = ecg.astype("<i2").reshape(count, records, -1).swapaxes(0, 1)
  path.write_bytes(head.encode("ascii") + blocks.tobytes())


def dicom(path, names, ecg, rate):
  """DICOM 12-lead ECG (PS3.3 A.34.3, C.10.9)."""
  import pydicom
  from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

  meta = FileMetaDataset()
  meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.9.1.1"
  meta.MediaStorageSOPInstanceUID = "1.2.3.4"
  meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
  dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
  dataset.SOPClassUID = meta.MediaStorageSOPClassUID
  dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
  dataset.Modality = "ECG"
  group = Dataset()
  group.MultiplexGroupTimeOffset = 0
  group.WaveformOriginality = "ORIGINAL"
  group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = ecg.shape
  group.SamplingFrequency = rate
  group.ChannelDefinitionSequence = []
  for name in names:
    source, unit, channel = Dataset(), Dataset(), Dataset()
    source.CodeValue = f"2:{_CODES[name]}"
    source.CodingSchemeDesignator = "MDC"
    source.CodeMeaning = f"Lead {name}"
    unit.CodeValue, unit.CodingSchemeDesignator = "uV", "UCUM"
    unit.CodeMeaning = "microvolt"
    channel.ChannelSourceSequence = [source]
    channel.ChannelSensitivity = 1
    channel.ChannelSensitivityUnitsSequence = [unit]
    channel.ChannelSensitivityCorrectionFactor = 1
    channel.ChannelBaseline = 0
    channel.WaveformBitsStored = 16
    group.ChannelDefinitionSequence.append(channel)
  group.WaveformBitsAllocated = 16
  group.WaveformSampleInterpretation = "SS"
  group.WaveformData = ecg.T.astype("<i2").tobytes()
  dataset.WaveformSequence = [group]
  dataset.save_as(path, enforce_file_format=True)


def aecg(path, names, ecg, rate):
  """HL7 annotated ECG (ANSI/HL7 V3 ECG R1, 2004)."""
  sequences = [
    f"""<component><sequence><code code="MDC_ECG_LEAD_{name.upper()}"
    codeSystem="2.16.840.1.113883.6.24"/><value xsi:type="SLIST_PQ">
    <origin value="0" unit="uV"/><scale value="1" unit="uV"/>
    <digits>{" ".join(map(str, row))}</digits></value></sequence></component>"""
    for name, row in zip(names, ecg.tolist(), strict=True)
  ]
  path.write_text(
    f"""<?xml version="1.0" encoding="UTF-8"?>
<AnnotatedECG xmlns="urn:hl7-org:v3"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" type="Observation">
<id root="61d1a24f-b47e-41aa-ae95-f8ac302f4eeb"/>
<component><series><code code="RHYTHM" codeSystem="2.16.840.1.113883.5.4"/>
<effectiveTime><low value="20240101000000"/></effectiveTime>
<component><sequenceSet>
<component><sequence><code code="TIME_ABSOLUTE"
 codeSystem="2.16.840.1.113883.5.4"/>
<value xsi:type="GLIST_TS"><head value="20240101000000.000"/>
<increment value="{1 / rate:.6g}" unit="s"/></value></sequence></component>
{"".join(sequences)}
</sequenceSet></component></series></component></AnnotatedECG>
""",
    "utf-8",
  )


def muse(path, names, ecg, rate):
  """GE MUSE XML: rhythm leads as base64 of int16, with counts and CRC-32."""
  leads = []
  for name, row in zip(names, ecg.astype("<i2"), strict=True):
    content = row.tobytes()
    leads.append(f"""<LeadData>
<LeadByteCountTotal>{len(content)}</LeadByteCountTotal>
<LeadTimeOffset>0</LeadTimeOffset>
<LeadSampleCountTotal>{len(row)}</LeadSampleCountTotal>
<LeadAmplitudeUnitsPerBit>1</LeadAmplitudeUnitsPerBit>
<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>
<LeadHighLimit>32767</LeadHighLimit><LeadLowLimit>-32768</LeadLowLimit>
<LeadID>{name}</LeadID><LeadOffsetFirstSample>0</LeadOffsetFirstSample>
<FirstSampleBaseline>0</FirstSampleBaseline>
<LeadSampleSize>2</LeadSampleSize><LeadOff>FALSE</LeadOff>
<BaselineSway>FALSE</BaselineSway>
<LeadDataCRC32>{zlib.crc32(content)}</LeadDataCRC32>
<WaveFormData>{base64.encodebytes(content).decode()}</WaveFormData>
</LeadData>""")
  path.write_text(
    f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE RestingECG SYSTEM "restecg.dtd">
<RestingECG><MuseInfo><MuseVersion>8.0</MuseVersion></MuseInfo>
<Waveform><WaveformType>Rhythm</WaveformType>
<NumberofLeads>{len(names)}</NumberofLeads>
<SampleType>CONTINUOUS_SAMPLES</SampleType><SampleBase>{rate}</SampleBase>
<SampleExponent>0</SampleExponent>{"".join(leads)}</Waveform></RestingECG>
""",
    "latin-1",
  )


def philips(path, names, ecg, rate):
  """Philips ECG XML 1.04, samples of one lead after the other, no XLI."""
  content = base64.encodebytes(ecg.astype("<i2").tobytes()).decode()
  path.write_text(
    f"""<?xml version="1.0" encoding="UTF-8"?>
<restingecgdata xmlns="http://www3.medical.philips.com">
<documentinfo><documentname>a</documentname><filename>a</filename>
<documenttype>PhilipsECG</documenttype>
<documentversion>1.04</documentversion></documentinfo>
<dataacquisition><signalcharacteristics>
<samplingrate>{rate}</samplingrate><resolution>1</resolution>
<bitspersample>16</bitspersample><signaloffset>0</signaloffset>
<signalsigned>True</signalsigned>
<numberchannelsallocated>{len(names)}</numberchannelsallocated>
<numberchannelsvalid>{len(names)}</numberchannelsvalid>
</signalcharacteristics></dataacquisition>
<waveforms><parsedwaveforms dataencoding="Base64" compressflag="False"
 numberofleads="{len(names)}" leadlabels="{" ".join(names)}"
 durationperchannel="{1000 * ecg.shape[1] // rate}" samplespersecond="{rate}"
 resolution="1" signalsigned="True">
{content}</parsedwaveforms></waveforms></restingecgdata>
""",
    "utf-8",
  )


def scp(path, names, ecg, rate, huffman=True):
  """SCP-ECG (EN 1064): second differences, with or without the default code."""
  length = ecg.shape[1]
  rows = [_huffman(row) if huffman else _plain(row) for row in ecg.tolist()]
  leads = struct.pack("<BB", len(names), len(names) << 3 | 4)
  for name in names:
    leads += struct.pack("<IIB", 1, length, _CODES[name])
  rhythm = struct.pack("<HHBB", 1000, 1_000_000 // rate, 2, 0)
  rhythm += struct.pack(f"<{len(rows)}H", *map(len, rows)) + b"".join(rows)
  patient = struct.pack("<BHB", 2, 2, 0x31) + b"\0"  # patient id "1"
  patient += struct.pack("<BHHBB", 25, 4, 2024, 1, 1)
  patient += struct.pack("<BHBBB", 26, 3, 0, 0, 0)
  machine = bytearray(36)
  machine[14], machine[15] = 20, 0xC0  # protocol 2.0, 12 leads
  patient += struct.pack("<BH", 14, len(machine) + 1) + machine + b"\0"
  patient += struct.pack("<BH", 255, 0)
  parts = {1: patient, 3: leads, 6: rhythm}
  if huffman:
    parts[2] = struct.pack("<H", 19999)
  path.write_bytes(_scp_record(parts))


def _scp_record(parts):
  """Preamble, section 0 with its pointers, and the other sections."""
  count = 12
  at, pointers, body = 6 + 16 + 10 * count, b"", b""
  for number in range(1, count):
    section = b""
    if number in parts:
      content = parts[number] + b"\0" * (len(parts[number]) % 2)
      section = _scp_section(number, content)
    pointers += struct.pack(
      "<HII", number, len(section), at + 1 if section else 0
    )
    at, body = at + len(section), body + section
  first = struct.pack("<HII", 0, 16 + 10 * count, 7) + pointers
  content = _scp_section(0, first, b"SCPECG") + body
  content = struct.pack("<I", len(content) + 6) + content
  return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF)) + content


def _scp_section(number, content, reserved=b"\0" * 6):
  head = struct.pack("<HIBB", number, len(content) + 16, 20, 20) + reserved
  crc = binascii.crc_hqx(head + content, 0xFFFF)
  return struct.pack("<H", crc) + head + content


def _second_differences(row):
  steps = np.diff(np.array([0, 0, *row]), n=2)
  return [row[0], row[1], *steps[2:].tolist()]


def _plain(row):
  return np.array(_second_differences(row), "<i2").tobytes()


def _huffman(row):
  """EN 1064, table of 5.5.3: zeros of 1 bit to originals of 16 bits."""
  bits = []
  for x in _second_differences(row):
    if x == 0:
      bits.append("0")
    elif abs(x) <= 8:
      bits.append("1" * abs(x) + "0" + ("0" if x > 0 else "1"))
    elif -128 <= x < 128:
      bits.append("1" * 9 + "0" + f"{x & 0xFF:08b}")
    else:
      bits.append("1" * 10 + f"{x & 0xFFFF:016b}")
  text = "".join(bits)
  text += "0" * (-len(text) % 16)
  return int(text, 2).to_bytes(len(text) // 8, "big")


WRITERS = {
  "EDF": edf,
  "DICOM": dicom,
  "HL7 aECG": aecg,
  "GE MUSE XML": muse,
  "Philips XML": philips,
  "SCP-ECG": scp,
}
