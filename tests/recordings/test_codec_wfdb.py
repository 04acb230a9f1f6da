import numpy as np
import pytest
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec, rejected, wfdb_io

LEADS = list(LEADS)
MIMIC_ORDER = [
  "I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6",
]  # fmt: skip


def millivolts(samples=1000, seed=0):
  """Noise, (samples, 12) mV in canonical order: every lead is different."""
  return np.random.default_rng(seed).normal(0, 0.3, (samples, 12)).round(3)


def write(
  folder, names=LEADS, mv=None, *, fs=100, unit="mV", gain=1000.0, fmt="16"
):
  """Writes a record whose columns are `names`; other names get noise."""
  mv = millivolts() if mv is None else mv
  index = {n.lower(): i for i, n in enumerate(LEADS)}
  noise = np.random.default_rng(1).normal(0, 0.3, (len(mv), len(names)))
  columns = [
    mv[:, index[n.lower()]] if n.lower() in index else noise[:, i]
    for i, n in enumerate(names)
  ]
  scale = {"mV": 1, "mv": 1, "uV": 1e3, "V": 1e-3}.get(unit, 1)
  wfdb.wrsamp(
    "r",
    fs=fs,
    units=[unit] * len(names),
    sig_name=list(names),
    p_signal=np.stack(columns, axis=1) * scale,
    fmt=[fmt] * len(names),
    adc_gain=[gain / scale] * len(names),
    baseline=[0] * len(names),
    write_dir=str(folder),
  )
  return folder / "r"


def edit_header(path, old, new):
  header = path.with_suffix(".hea")
  text = header.read_text(encoding="utf-8")
  assert old in text
  header.write_text(text.replace(old, new), encoding="utf-8")


def assert_leads(recording, mv, tolerance_uv=0.5001):
  assert recording.present.all()
  np.testing.assert_allclose(
    recording.signal, 1e3 * mv.T, rtol=0, atol=tolerance_uv
  )


@pytest.mark.parametrize(
  "names",
  [
    LEADS,
    MIMIC_ORDER,
    LEADS[::-1],
    [n.upper() for n in LEADS],
    [n.lower() for n in MIMIC_ORDER],
    ["vx", *LEADS[6:], "vy", *LEADS[:6], "vz"],
  ],
)
def test_leads_are_found_by_name(tmp_path, names):
  recording = wfdb_io.read(write(tmp_path, names))
  assert_leads(recording, millivolts())


@pytest.mark.parametrize("unit", ["mV", "mv", "uV", "V"])
@pytest.mark.parametrize("gain", [200.0, 1000.0, 4880.0])
def test_units_and_gains(tmp_path, unit, gain):
  recording = wfdb_io.read(write(tmp_path, unit=unit, gain=gain))
  assert recording.sampling_rate == 100
  assert_leads(recording, millivolts(), 500 / gain + 1e-6)


@pytest.mark.parametrize("micro", ["\u00b5", "\u03bc"])
def test_greek_microvolts_are_no_volts(tmp_path, micro):
  path = write(tmp_path, unit="uV")
  edit_header(path, "/uV", f"/{micro}V")
  assert_leads(wfdb_io.read(path), millivolts())


def test_baseline(tmp_path):
  path = write(tmp_path)
  edit_header(path, "1000.0(0)/mV", "1000.0(-250)/mV")
  assert_leads(wfdb_io.read(path), millivolts() + 0.25)


def test_adc_zero_is_the_default_baseline(tmp_path):
  path = write(tmp_path)
  edit_header(path, "1000.0(0)/mV 16 0 ", "1000.0/mV 16 -250 ")
  assert_leads(wfdb_io.read(path), millivolts() + 0.25)


def test_unit_defaults_to_millivolt(tmp_path):
  path = write(tmp_path)
  edit_header(path, "1000.0(0)/mV", "1000")
  assert_leads(wfdb_io.read(path), millivolts())


@pytest.mark.parametrize("fmt", ["16", "24", "32", "212"])
def test_formats(tmp_path, fmt):
  recording = wfdb_io.read(write(tmp_path, fmt=fmt))
  assert_leads(recording, millivolts())


@pytest.mark.parametrize("fmt", ["16", "24", "32", "212"])
def test_missing_samples_become_nan(tmp_path, fmt):
  mv = millivolts()
  mv[50:60, 4] = np.nan
  recording = wfdb_io.read(write(tmp_path, mv=mv, fmt=fmt))
  np.testing.assert_array_equal(np.isnan(recording.signal), np.isnan(mv.T))


def test_several_signal_files(tmp_path):
  mv = millivolts()
  path = write(tmp_path)
  digital = np.rint(mv * 1000).astype("<i2")
  (tmp_path / "a.dat").write_bytes(digital[:, :5].tobytes())
  (tmp_path / "b.dat").write_bytes(b"\0" * 24 + digital[:, 5:].tobytes())
  lines = path.with_suffix(".hea").read_text().splitlines()
  for i in range(1, 13):
    file = "a.dat 16" if i <= 5 else "b.dat 16+24"
    lines[i] = lines[i].replace("r.dat 16", file)
  path.with_suffix(".hea").write_text("\n".join(lines))
  assert_leads(wfdb_io.read(path), mv)


def test_missing_lead(tmp_path):
  recording = wfdb_io.read(write(tmp_path, [n for n in LEADS if n != "V3"]))
  row = LEADS.index("V3")
  assert np.flatnonzero(~recording.present).tolist() == [row]
  assert np.isnan(recording.signal[row]).all()
  ecg, valid, _ = codec.encode(recording, codec.SignalSpec(100, 1000))
  assert not valid[row] and not ecg[row].any()


@pytest.mark.parametrize("rate", [100, 500])
@pytest.mark.parametrize(("fs", "seconds"), [(1000, 100), (400, 12)])
def test_long_15_lead_records_of_other_rates(tmp_path, fs, seconds, rate):
  """Like the PTB diagnostic database: 1000 Hz, vx vy vz; and 400 Hz."""

  def waves(t):
    return np.sin(2 * np.pi * np.arange(1, 13) * t[:, None])

  mv = waves(np.arange(fs * seconds) / fs).round(3)
  path = write(tmp_path, [*LEADS, "vx", "vy", "vz"], mv, fs=fs)
  spec = codec.SignalSpec(rate, 10 * rate)
  ecg, lead_valid, _ = codec.encode(wfdb_io.read(path), spec)
  assert lead_valid.all()
  truth = 1e3 * waves(np.arange(10 * rate) / rate).T
  start = 0 if rate == 500 else 10  # half a filter, whose input starts at once
  assert np.abs(ecg - truth)[:, start:].max() < 15


@pytest.mark.parametrize(
  ("old", "new", "error"),
  [
    ("1000.0(0)/mV", "1000.0(0)/adu", rejected.UnknownUnit),
    ("1000.0(0)/mV", "1000.0(0)/mmHg", rejected.UnknownUnit),
    ("1000.0(0)/mV", "0(0)/mV", rejected.UnknownUnit),
    ("1000.0(0)/mV", "gain/mV", rejected.Unreadable),
    (" V1", " V2", rejected.AmbiguousLeads),
    ("r 12 100 1000", "r 12 100 1001", rejected.Truncated),
    ("r 12 100 1000", "r 12 100 999999999999", rejected.Truncated),
    ("r 12 100 1000", "r 12 100 999", rejected.Corrupt),
    ("r 12 100 1000", "r 12 100", rejected.Unreadable),
    ("r 12 100 1000", "r 12 fast 1000", rejected.WrongRate),
    ("r 12 100 1000", "r 13 100 1000", rejected.Unreadable),
    ("r 12 100 1000", "r 0 100 1000", rejected.Unreadable),
    ("r 12 100 1000", "r/2 12 100 1000", rejected.Unreadable),
    ("r.dat 16", "r.dat 16x4", rejected.WrongRate),
    ("r.dat 16", "r.dat 16:3", rejected.Unreadable),
    ("r.dat 16", "r.dat 77", rejected.Unreadable),
    ("r.dat 16", "../r.dat 16", rejected.Unreadable),
    ("r.dat 16", "absent.dat 16", rejected.MissingFile),
    ("r.dat 16", "..  16", rejected.MissingFile),
    ("r.dat 16", ". 16", rejected.MissingFile),
    ("r.dat 16", "r" * 999 + " 16", rejected.MissingFile),
    ("r.dat 16", "r.dat 16x" + "9" * 5000, rejected.Unreadable),
    ("r.dat 16", "r.dat 16+" + "9" * 4300, rejected.Unreadable),
    ("r 12 100 1000", "r 12 100 " + "9" * 4300, rejected.Unreadable),
    ("r 12 100 1000", "r 12 100 1_000", rejected.Unreadable),
    ("r 12 100 1000", "r 12 1_00 1000", rejected.WrongRate),
    ("r 12 100 1000", "r 12 \uff11\uff10\uff10 1000", rejected.WrongRate),
    ("r 12 100 1000", "r 11 100 1000", rejected.Unreadable),
    ("r 12 100 1000", "q 12 100 1000", rejected.Unreadable),
    ("1000.0(0)/mV", "1000(" + "9" * 400 + ")/mV", rejected.Unreadable),
    ("1000.0(0)/mV", "1e-320(0)/mV", rejected.UnknownUnit),
    (" 0 I\n", "9" * 30 + " 0 I\n", rejected.Unreadable),
  ],
)
def test_headers_that_lie(tmp_path, old, new, error):
  path = write(tmp_path)
  edit_header(path, old, new)
  with pytest.raises(error):
    wfdb_io.read(path)


def test_unit_of_an_unused_signal_does_not_matter(tmp_path):
  path = write(tmp_path, [*LEADS, "resp"])
  header = path.with_suffix(".hea")
  head, tail = header.read_text().rsplit("/mV", 1)
  header.write_text(f"{head}/Ohm{tail}")
  assert_leads(wfdb_io.read(path), millivolts())


@pytest.mark.parametrize("fmt", ["16", "212"])
@pytest.mark.parametrize("lost", [1, 24, 6000, 10**9])
def test_truncated(tmp_path, fmt, lost):
  path = write(tmp_path, fmt=fmt)
  data = path.with_suffix(".dat")
  content = data.read_bytes()
  data.write_bytes(content[: max(len(content) - lost, 0)])
  with pytest.raises(rejected.Truncated):
    wfdb_io.read(path)


@pytest.mark.parametrize("fmt", ["16", "212"])
def test_damaged_samples(tmp_path, fmt):
  path = write(tmp_path, fmt=fmt)
  data = path.with_suffix(".dat")
  content = bytearray(data.read_bytes())
  content[5000] ^= 0x10
  data.write_bytes(content)
  with pytest.raises(rejected.Corrupt):
    wfdb_io.read(path)


def test_damaged_files_never_raise_anything_else(tmp_path):
  """Random damage gives a rejection or exactly the signal that was written."""
  path = write(tmp_path)
  spec = codec.SignalSpec(100, 1000)
  truth, _, _ = codec.encode(wfdb_io.read(path), spec)
  header, data = path.with_suffix(".hea"), path.with_suffix(".dat")
  contents = {f: f.read_bytes() for f in (header, data)}
  rng = np.random.default_rng(0)
  reasons = set()
  for trial in range(300):
    file = (header, data)[trial % 2]
    damaged = bytearray(contents[file])
    for at in rng.integers(0, len(damaged), rng.integers(1, 6)):
      damaged[at] = rng.integers(256)
    file.write_bytes(damaged[: rng.integers(1, 2 * len(damaged))])
    try:
      ecg, _, _ = codec.encode(wfdb_io.read(path), spec)
      if file == data:
        np.testing.assert_array_equal(ecg, truth)
    except rejected.Rejected as e:
      reasons.add(e.reason)
    file.write_bytes(contents[file])
  assert reasons >= {"truncated", "corrupt", "unreadable"}


def without_checksums(path):
  header = path.with_suffix(".hea")
  lines = header.read_text().splitlines()
  for i in range(1, 13):
    fields = lines[i].split()
    fields[6] = "0"
    lines[i] = " ".join(fields)
  header.write_text("\n".join(lines))
  return path


def test_header_without_checksums(tmp_path):
  path = without_checksums(write(tmp_path))
  assert_leads(wfdb_io.read(path), millivolts())


def test_longer_file_without_checksums(tmp_path):
  """A checksum shows that the rest does not matter; else the header lies."""
  path = write(tmp_path)
  with path.with_suffix(".dat").open("ab") as f:
    f.write(b"\0\0")
  assert_leads(wfdb_io.read(path), millivolts())
  with pytest.raises(rejected.Unreadable, match="24002 bytes instead of 24000"):
    wfdb_io.read(without_checksums(path))


def test_signals_of_a_file_differ_in_format(tmp_path):
  path = write(tmp_path)
  header = path.with_suffix(".hea")
  header.write_text(header.read_text().replace("dat 16", "dat 16+0", 3))
  assert_leads(wfdb_io.read(path), millivolts())
  header.write_text(header.read_text().replace("dat 16+0", "dat 16+2", 1))
  with pytest.raises(rejected.Unreadable, match="differ in format"):
    wfdb_io.read(path)


def test_headers_that_only_wfdb_refuses(tmp_path):
  """It reads the formats other than 16, and knows no suffixes."""
  path = write(tmp_path, fmt="212")
  edit_header(path, "r 12", "r.mat 12")
  with pytest.raises(rejected.Unreadable, match="HeaderSyntaxError"):
    wfdb_io.read(path)


def test_record_name_in_the_header(tmp_path):
  path = write(tmp_path)
  for name in ("r.mat ", "r.dat "):
    edit_header(path, "r 12" if name == "r.mat " else "r.mat 12", f"{name}12")
    assert_leads(wfdb_io.read(path), millivolts())


def test_missing_files(tmp_path):
  with pytest.raises(rejected.MissingFile, match="r.hea"):
    wfdb_io.read(tmp_path / "r")
  path = write(tmp_path)
  path.with_suffix(".dat").unlink()
  with pytest.raises(rejected.MissingFile, match="r.dat"):
    wfdb_io.read(path)


@pytest.mark.parametrize(
  "content", [b"", b"\n\n", b"#only\n", b"\xff\x00 \x01"]
)
def test_files_that_are_no_header(tmp_path, content):
  (tmp_path / "r.hea").write_bytes(content)
  with pytest.raises(rejected.Unreadable):
    wfdb_io.read(tmp_path / "r")


def test_folder_instead_of_header(tmp_path):
  (tmp_path / "r.hea").mkdir()
  with pytest.raises(rejected.MissingFile):
    wfdb_io.read(tmp_path / "r")
