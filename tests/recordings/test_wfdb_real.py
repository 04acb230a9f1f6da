"""Real recordings of the corpora of CinC 2021, against the wfdb package."""

import pathlib
import shutil

import numpy as np
import pytest
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec, wfdb_io

DATA_SETS = ["CPSC2018", "CSN", "CPSC-Extra", "Georgia", "PTB", "PTB-XL"]


def paths_of(folder):
  found = sorted(h.with_suffix("") for h in folder.rglob("*.hea"))
  assert found
  return found


def reference(path, tmp_path):
  """Microvolts by lead, as the wfdb package reads them."""
  header = path.with_suffix(".hea").read_text()
  first = header.split()[0]
  if first != path.name:  # a suffix that wfdb refuses
    shutil.copy(path.with_suffix(".mat"), tmp_path)
    fixed = tmp_path / path.with_suffix(".hea").name
    fixed.write_text(header.replace(first, path.name, 1))
    path = pathlib.Path(tmp_path / path.name)
  record = wfdb.rdrecord(str(path))
  scale = {"mv": 1e3}[record.units[0].lower()]
  columns = {n.lower(): i for i, n in enumerate(record.sig_name)}
  order = [columns[n.lower()] for n in LEADS]
  return scale * record.p_signal[:, order].T, record.fs


@pytest.mark.parametrize("name", DATA_SETS)
def test_real_records_equal_wfdb(real_data, tmp_path, name):
  for path in paths_of(real_data / "cinc2021" / name):
    expected, rate = reference(path, tmp_path)
    recording = wfdb_io.read(path)
    assert recording.sampling_rate == rate
    np.testing.assert_allclose(recording.signal, expected, rtol=1e-12)
    if rate == 500:
      spec = codec.SignalSpec(500, 5000, 500)
      ecg, valid, _ = codec.encode(recording, spec)
      error = np.abs(ecg - expected[:, :5000])[valid]
      assert error.max() <= 0.5 + 1e-9
      flat = np.ptp(expected[:, :5000], axis=1) == 0
      np.testing.assert_array_equal(valid, ~flat)


def test_real_suffixed_headers(real_data, tmp_path):
  """Some Georgia headers start with `E00015.mat`; wfdb refuses those."""
  suffixed = [
    path
    for path in paths_of(real_data / "cinc2021" / "Georgia")
    if path.with_suffix(".hea").read_text().split()[0].endswith(".mat")
  ]
  assert suffixed
  with pytest.raises(ValueError):
    wfdb.rdheader(str(suffixed[0]))
  spec = codec.SignalSpec(500, 5000, source_rate=500)
  for path in suffixed:
    expected, _ = reference(path, tmp_path)
    ecg, valid, _ = codec.encode(wfdb_io.read(path), spec)
    assert valid.all()
    assert np.abs(ecg - expected[:, :5000]).max() <= 0.5 + 1e-9


def test_real_ptb_is_resampled(real_data):
  for path in paths_of(real_data / "cinc2021" / "PTB"):
    recording = wfdb_io.read(path)
    assert recording.sampling_rate == 1000
    ecg, valid, _ = codec.encode(recording, codec.SignalSpec(500, 5000))
    simple = recording.signal[:, :10_000:2]
    correlation = [
      np.corrcoef(a, b)[0, 1] for a, b in zip(ecg, simple, strict=True)
    ]
    assert valid.all() and min(correlation) > 0.99


def test_real_records_lose_nothing(real_data):
  """Every real record of 10 s or more is usable."""
  spec = codec.SignalSpec(100, 1000)
  for path in paths_of(real_data / "cinc2021"):
    codec.encode(wfdb_io.read(path), spec)
