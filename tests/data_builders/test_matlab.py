"""The reader of MATLAB files, against scipy and against damage."""

import numpy as np
import pytest
import scipy.io
import scipy.signal

from data_builders.cpsc2018 import matlab


@pytest.mark.parametrize("compressed", [True, False])
def test_matlab_files(tmp_path, compressed):
  rng = np.random.default_rng(0)
  for data in (rng.normal(0, 1, (12, 50)), rng.integers(-9, 9, (12, 7)) * 1.0):
    ecg = {"sex": "Male", "age": 60, "data": data}
    other = {"note": "x", "ECG": ecg, "after": np.eye(2)}
    scipy.io.savemat(tmp_path / "x.mat", other, do_compression=compressed)
    content = (tmp_path / "x.mat").read_bytes()
    np.testing.assert_array_equal(
      matlab.read_field(content, "ECG", "data"), data
    )
    for variable, field in (("ECG", "date"), ("ecg", "data"), ("note", "data")):
      with pytest.raises(ValueError):
        matlab.read_field(content, variable, field)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_matlab_files(tmp_path, compressed):
  """`scipy.io.loadmat` ends the process on some of these.

  Compressed variables have a checksum; in others a sample may be wrong.
  """
  rng = np.random.default_rng(0)
  data = rng.normal(0, 1, (12, 50))
  ecg = {"sex": "Male", "age": 60, "data": data}
  scipy.io.savemat(tmp_path / "x.mat", {"ECG": ecg}, do_compression=compressed)
  content = (tmp_path / "x.mat").read_bytes()
  rejected = 0
  for trial in range(2000):
    damaged = bytearray(content)
    end = 500 if trial % 2 else len(content)
    for at in rng.integers(124, end, rng.integers(1, 4)):
      damaged[at] = rng.integers(256)
    if trial % 5 == 0:
      damaged = damaged[: rng.integers(len(content))]
    try:
      found = matlab.read_field(bytes(damaged), "ECG", "data")
    except ValueError:
      rejected += 1
    else:
      assert compressed <= np.array_equal(found, data)
      if found.shape == data.shape:
        assert np.count_nonzero(found != data) <= 3
  assert 500 < rejected < 2000
