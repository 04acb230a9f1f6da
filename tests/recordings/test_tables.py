import numpy as np
import pytest

from cgdmer_jax.recordings import read, rejected, signals, tables
from cgdmer_jax.recordings.tables import Defaults

NAMES = ("V1", "aVR", "II")
ECG = np.random.default_rng(0).integers(-900, 900, (3, 40)).astype(float)


def lines(rows, delimiter=",", decimal="."):
  return "".join(
    delimiter.join(f"{x:.3f}".replace(".", decimal) for x in row) + "\n"
    for row in rows
  )


def check(path, content, defaults=Defaults(), rate=500):  # noqa: B008
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  found = read.read(path, defaults)
  assert found.recording.sampling_rate == pytest.approx(rate)
  assert found.recording.present.tolist() == [i in (1, 3, 6) for i in range(12)]
  np.testing.assert_allclose(found.recording.signal[[6, 3, 1]], ECG, atol=1e-6)
  return found


@pytest.mark.parametrize("layout", ["units", "comments", "flags", "german"])
def test_csv(tmp_path, layout):
  path = tmp_path / "a.csv"
  if layout == "units":
    head = "time (ms),V1 [uV],aVR (mV),Lead II (V)\n"
    rows = [np.arange(40) * 2.0, ECG[0], ECG[1] / 1e3, ECG[2] / 1e6]
    text = head + "".join(
      f"{','.join(map(repr, map(float, r)))}\n" for r in zip(*rows, strict=True)
    )
    check(path, text)
  elif layout == "comments":
    head = "# sampling_rate = 500\n# unit = mV\n\nv1,AVR,ii,remark\n"
    check(path, head + lines(np.vstack([ECG / 1e3, ECG[:1]]).T))
  elif layout == "flags":
    check(path, lines(ECG.T), Defaults(500, "uV", NAMES))
  else:
    head = "sep;V1;aVR;II\n"
    rows = np.vstack([ECG[:1], ECG / 1e3]).T
    check(path, head + lines(rows, ";", ","), Defaults(500, "mV"))


def test_fields_that_are_empty_are_missing_samples(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text("I,II\n1,2\n,4\n5,NaN\n7,8\n")
  signal = read.read(path, Defaults(1, "uV")).recording.signal[:2]
  expected = [[1, np.nan, 5, 7], [2, 4, np.nan, 8]]
  np.testing.assert_array_equal(signal, expected)


def test_numpy(tmp_path):
  path = tmp_path / "a.npz"
  np.savez(path, ecg=ECG / 1e3, leads=NAMES, sampling_rate=500, unit="mV")
  check(path, path.read_bytes())
  np.savez(path, ecg=ECG.T.astype(np.int16), leads=NAMES)
  check(path, path.read_bytes(), Defaults(500, "uV"))
  path = tmp_path / "a.npy"
  np.save(path, ECG / 1e6)
  check(path, path.read_bytes(), Defaults(500, "V", NAMES))


@pytest.mark.parametrize(
  ("text", "defaults", "error", "message"),
  [
    ("I,II\n1,2\n", Defaults(None, "mV"), "WrongRate", "--sampling_rate"),
    ("I,II\n1,2\n", Defaults(500), "UnknownUnit", "--unit"),
    ("1,2\n3,4\n", Defaults(500, "mV"), "MissingLeads", "--leads"),
    ("I,II\n1,2\n3\n", Defaults(1, "mV"), "Unreadable", "sample 2 has 1"),
    ("I,I\n1,2\n", Defaults(1, "mV"), "AmbiguousLeads", "two leads I"),
    ("I,x\n1,b\n", Defaults(1, "mV"), "Unreadable", "no table"),
    ("I,II\n", Defaults(1, "mV"), "WrongLength", "no samples"),
    ("I (kg)\n1\n", Defaults(1, "mV"), "UnknownUnit", "'kg'"),
    ("time (s),I\n0,1\n1,1\n5,1\n", Defaults(1, "mV"), "WrongRate", "even"),
    ("# sampling_rate = x\nI,II\n1,2\n", Defaults(1, "mV"), "WrongRate", "x"),
    ("a note\non nothing\n", Defaults(1, "mV"), "Unreadable", "format"),
    ("", Defaults(), "Unreadable", "empty"),
  ],
)  # fmt: skip
def test_what_is_no_table(tmp_path, text, defaults, error, message):
  path = tmp_path / "a.csv"
  path.write_text(text)
  with pytest.raises(getattr(rejected, error), match=message):
    read.read(path, defaults)


def test_files_that_claim_too_much_are_not_read(tmp_path, monkeypatch):
  path = tmp_path / "a.npz"
  np.savez_compressed(path, ecg=np.zeros((12, 1 << 16)), leads=NAMES)
  with monkeypatch.context() as patch:
    patch.setattr(signals, "MAX_VALUES", 12 << 15)
    with pytest.raises(rejected.WrongLength, match="at most"):
      tables.read_numpy(path, Defaults())
  path = tmp_path / "a.csv"
  with path.open("w") as file:
    file.write("I,II\n")
    file.truncate(1 << 30)  # takes no place on the disk
  with pytest.raises(rejected.WrongLength):
    tables.read_csv(path, Defaults())
  path = tmp_path / "a.hea"
  path.write_text("a 1 500 90000000\na.dat 16 1000/mV 16 0 0 0 0 I\n")
  with pytest.raises(rejected.WrongLength):
    read.read(path)


def test_files_of_a_folder(tmp_path):
  for name in ("b.hea", "b.dat", "c.dat", "a.csv", ".x", "d/e.xml"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
  found = [str(x.relative_to(tmp_path)) for x in read.find(tmp_path)]
  assert found == ["a.csv", "b.hea", "c.dat", "d/e.xml"]
