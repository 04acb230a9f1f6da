import json
import pathlib
import shutil

import numpy as np
import pytest
import scipy.io
import scipy.signal
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, rejected
from data_builders import build, cinc, splits
from data_builders.cpsc2018 import cpsc2018_dataset_builder as cpsc2018
from tests.data_builders import cinc_corpora, data_sets

# Written down from the challenge's page, independently of the builder.
NUMBERS = {
  "NORM": "1", "AFIB": "2", "1AVB": "3", "CLBBB": "4", "CRBBB": "5",
  "PAC": "6", "VPC": "7", "STD": "8", "STE": "9",
}  # fmt: skip


@pytest.fixture(scope="module")
def source(real_data):
  return real_data / "cinc2021" / "CPSC2018"


@pytest.fixture(scope="module")
def published(real_data):
  """Split -> id -> row of the published file."""
  folder = real_data / "splits" / "icbeb"
  return {
    split: {
      r["filename"]: r
      for r in cinc_corpora.read_rows(folder / f"icbeb_{name}.csv")
    }
    for split, name in cinc_corpora.PUBLISHED.items()
  }


@pytest.fixture(scope="module")
def reference(real_data):
  """Id -> numbers of its diagnoses."""
  path = real_data / "codes" / "CPSC2018_REFERENCE.csv"
  return {
    row["Recording"]: {v for k, v in row.items() if v and k != "Recording"}
    for row in cinc_corpora.read_rows(path)
  }


@pytest.fixture(scope="module", params=["500hz", "100hz"])
def built(request, source, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("data")
  dataset = f"cpsc2018/{request.param}"
  build.build(dataset, manual_dir=source, data_dir=data_dir, max_rejected=0.0)
  return (request.param, *data_sets.read(dataset, data_dir))


@pytest.fixture(scope="module")
def merl(source, real_data, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("merl")
  final = build.build(
    "cpsc2018/500hz_merl_compat",
    manual_dir=source,
    splits_dir=real_data / "splits" / "icbeb",
    data_dir=data_dir,
    max_rejected=1.0,
  )
  return (final, *data_sets.read("cpsc2018/500hz_merl_compat", data_dir))


def write_original(source, folder):
  """The records of `source` as the challenge distributed them."""
  for header in source.glob("*.hea"):
    record = wfdb.rdrecord(str(header.with_suffix("")))
    scipy.io.savemat(
      folder / f"{header.stem}.mat",
      {"ECG": {"sex": "Male", "age": 60, "data": record.p_signal.T}},
    )


def write_reference(path, numbers):
  names = ("Recording", "First_label", "Second_label", "Third_label")
  lines = [",".join(names)]
  for record_id, found in numbers.items():
    lines.append(",".join([record_id, *(sorted(found) + [""] * 3)[:3]]))
  path.write_text("\n".join(lines) + "\n")


def test_all_published_labels_equal_the_reference(real_data, published):
  path = real_data / "codes" / "CPSC2018_REFERENCE.csv"
  codes = cpsc2018.read_reference(path)
  rows = data_sets.every(published)
  assert len(codes) == 6877 and codes.keys() == rows.keys()
  several = 0
  for record_id, row in rows.items():
    vector = cpsc2018.labels(codes[record_id])
    assert vector.tolist() == [int(row[n]) for n in cpsc2018.LABEL_NAMES]
    several += vector.sum() > 1
  assert several == 476


def test_page_lists_the_labels(reference):
  page = pathlib.Path(cpsc2018.__file__).with_name("README.md").read_text()
  for label in cpsc2018.LABELS:
    n = sum(label.number in found for found in reference.values())
    cells = f"`{label.snomed}` | {label.number} | `{label.acronym}` | {n} |"
    (row,) = [r for r in page.splitlines() if r.startswith(f"| `{label.name}`")]
    assert row.endswith(cells)


def test_distributions_write_the_same_label(reference):
  assert {label.name: label.number for label in cpsc2018.LABELS} == NUMBERS
  for label in cpsc2018.LABELS:
    expected = cpsc2018.labels([label.number]).tolist()
    assert sum(expected) == 1
    assert cpsc2018.labels([label.snomed]).tolist() == expected
    assert cpsc2018.labels([label.acronym]).tolist() == expected


def test_codes_occur_as_often_as_the_challenge_counts(real_data, reference):
  """The codes of PhysioNet against its own count of them."""
  counts = {}
  for name in ("scored", "unscored"):
    for row in cinc_corpora.read_rows(
      real_data / "codes" / f"dx_mapping_{name}.csv"
    ):
      counts[row["SNOMEDCTCode"]] = int(row["CPSC"])
  for label in cpsc2018.LABELS:
    n = sum(label.number in found for found in reference.values())
    assert counts.pop(label.snomed) == n
  assert not any(counts.values())


def test_real_records_have_the_labels_of_the_reference(built, reference):
  _, info, members = built
  names = info.metadata["label_sets"]["cpsc2018"]
  assert info.metadata["label_mode"] == "fixed"
  assert len(data_sets.every(members)) == 12
  for record_id, example in data_sets.every(members).items():
    found = {
      NUMBERS[name]
      for name, value in zip(names, example["labels"]["cpsc2018"], strict=True)
      if value
    }
    assert found == reference[record_id]
    assert example["report"] == example["subject_id"] == b""


def test_real_signals_equal_wfdb(built, source):
  config, info, members = built
  for record_id, example in data_sets.every(members).items():
    record = wfdb.rdrecord(str(source / record_id))
    assert record.sig_name == list(LEADS)
    uv = 1e3 * record.p_signal.T
    if config == "500hz":
      assert np.abs(example["ecg"] - uv[:, :5000]).max() <= 0.5 + 1e-9
    else:
      low = scipy.signal.resample_poly(uv, 1, 5, axis=1, padtype="line")
      error = np.abs(example["ecg"] - low[:, :1000])
      assert error[:, :950].max() <= 1  # later ones depend on the crop
    assert example["lead_valid"].all()


@pytest.mark.parametrize(("rate", "config"), [(500, "500hz"), (100, "100hz")])
@pytest.mark.parametrize("length", [2500, 3001, 4999])
def test_short_recordings_are_followed_by_zeros(rate, config, length, tmp_path):
  spec = cpsc2018.Builder(config=config, data_dir=tmp_path)._signal_spec()
  rng = np.random.default_rng(0)
  smooth = scipy.signal.resample(rng.normal(0, 500, (12, 300)), 5000, axis=1)
  signal = smooth[:, :length] + 200
  recording = codec.Recording(signal, np.ones(12, bool), 500)
  ecg, valid, _ = codec.encode(recording, spec)
  kept = -(-length * rate // 500)
  assert ecg.shape == (12, 10 * rate) and valid.all()
  assert not ecg[:, kept:].any() and ecg[:, kept - 1].any()
  if rate == 500:
    np.testing.assert_array_equal(ecg[:, :kept], np.rint(signal))
  else:
    truth = signal[:, ::5]
    assert np.abs(ecg[:, :kept] - truth)[:, 20:-20].max() < 20


def test_unusable_recordings_are_rejected(source, tmp_path):
  folder = tmp_path / "source"
  folder.mkdir()
  write_original(source, folder)
  ids = [path.stem for path in source.glob("*.hea")]
  write_reference(folder / "REFERENCE.csv", {i: {"2"} for i in ids})
  arguments = {"manual_dir": folder, "data_dir": tmp_path, "max_rejected": 0.5}
  build.build("cpsc2018/100hz", **arguments)
  _, members = data_sets.read("cpsc2018/100hz", tmp_path)
  short, damaged, narrow, absent = sorted(members["train"])[:4]
  data = np.random.default_rng(0).normal(0, 0.5, (12, 2499))
  scipy.io.savemat(folder / f"{short}.mat", {"ECG": {"data": data}})
  (folder / f"{damaged}.mat").write_bytes(b"no MATLAB file")
  scipy.io.savemat(folder / f"{narrow}.mat", {"ECG": {"data": data[:8]}})
  (folder / f"{absent}.mat").unlink()
  scipy.io.savemat(folder / "A9999.mat", {"ECG": {"data": data}})
  final = build.build("cpsc2018/100hz", overwrite=True, **arguments)
  lines = (final / "rejected.jsonl").read_text().splitlines()
  assert {r["id"]: r["reason"] for r in map(json.loads, lines)} == {
    short: "wrong_length",
    damaged: "unreadable",
    narrow: "unreadable",
    absent: "missing_file",
    "A9999": "bad_metadata",
  }


def test_original_distribution_gives_the_same_records(
  built, source, reference, tmp_path
):
  config, _, expected = built
  folder = tmp_path / "source"
  folder.mkdir()
  write_original(source, folder)
  ids = {path.stem for path in source.glob("*.hea")}
  write_reference(folder / "REFERENCE.csv", {i: reference[i] for i in ids})
  build.build(
    f"cpsc2018/{config}",
    manual_dir=folder,
    data_dir=tmp_path / "data",
    max_rejected=0.0,
  )
  _, members = data_sets.read(f"cpsc2018/{config}", tmp_path / "data")
  assert members.keys() == expected.keys()
  for split, examples in expected.items():
    assert members[split].keys() == examples.keys()
    for record_id, example in examples.items():
      other = members[split][record_id]
      np.testing.assert_array_equal(other["ecg"], example["ecg"])
      np.testing.assert_array_equal(
        other["labels"]["cpsc2018"], example["labels"]["cpsc2018"]
      )


def test_splits_do_not_depend_on_folders(built, source, tmp_path):
  """PhysioNet's g1, g2 .. and other corpora beside it."""
  config, _, expected = built
  for i, path in enumerate(sorted(source.iterdir())):
    folder = tmp_path / "all" / "cpsc_2018" / f"g{i // 5}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)
  # A header and its signal lie in one folder.
  for header in (tmp_path / "all").rglob("*.hea"):
    signal = next((tmp_path / "all").rglob(f"{header.stem}.mat"))
    signal.rename(header.with_suffix(".mat"))
  extra = tmp_path / "all" / "cpsc_2018_extra"
  shutil.copytree(source.parent / "CPSC-Extra", extra)
  build.build(
    f"cpsc2018/{config}",
    manual_dir=tmp_path / "all",
    data_dir=tmp_path / "data",
    max_rejected=0.0,
  )
  _, members = data_sets.read(f"cpsc2018/{config}", tmp_path / "data")
  assert {k: set(v) for k, v in members.items()} == {
    k: set(v) for k, v in expected.items()
  }


def test_merl_compat_equals_the_published_files(merl, source, published):
  final, info, members = merl
  assert info.metadata["label_mode"] == "merl_compat"
  present = {path.stem for path in source.glob("*.hea")}
  for split, rows in published.items():
    assert set(members[split]) == present & rows.keys()
    for record_id, example in members[split].items():
      found = dict(
        zip(
          info.metadata["label_sets"]["cpsc2018"],
          example["labels"]["cpsc2018"],
          strict=True,
        )
      )
      assert found == {n: int(rows[record_id][n]) for n in cpsc2018.LABEL_NAMES}
  lines = (final / "rejected.jsonl").read_text().splitlines()
  assert len(lines) == 6877 - len(present)
  assert {json.loads(line)["reason"] for line in lines} == {"missing_file"}


def test_merl_compat_keeps_five_seconds(merl, source):
  _, _, members = merl
  for record_id, example in data_sets.every(members).items():
    uv = 1e3 * wfdb.rdrecord(str(source / record_id)).p_signal.T
    assert example["ecg"].shape == (12, 5000)
    assert np.abs(example["ecg"][:, :2500] - uv[:, :2500]).max() <= 0.5 + 1e-9
    assert not example["ecg"][:, 2500:].any()


def test_fixed_splits_of_the_whole_corpus(reference):
  ids = sorted(reference)
  labels = np.stack([cpsc2018.labels(reference[i]) for i in ids])
  found = splits.stratified(ids, labels, [""] * len(ids))
  found = np.array([found[i] for i in ids])
  for split, share in splits.FRACTIONS.items():
    chosen = found == split
    assert abs(chosen.mean() - share) < 0.002
    expected = share * labels.sum(axis=0)
    assert np.abs(labels[chosen].sum(axis=0) - expected).max() < 3


def test_reference_that_lists_a_record_twice(tmp_path):
  path = tmp_path / "REFERENCE.csv"
  write_reference(path, {"A0001": "1", "A0002": "2"})
  assert cpsc2018.read_reference(path) == {"A0001": ("1",), "A0002": ("2",)}
  path.write_text(path.read_text() + "A0001,3,,\n")
  with pytest.raises(UserError, match="lists 'A0001' twice"):
    cpsc2018.read_reference(path)


@pytest.mark.parametrize("name", ["", "x" * 300, "a\0b", "absent"])
def test_impossible_names_are_missing_files(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(rejected.MissingFile):
    cpsc2018.read(pathlib.Path() / name)


@pytest.mark.parametrize("codes", [(), ("426177001",), ("2", "10"), ("SB",)])
def test_other_diagnoses_are_rejected(codes):
  with pytest.raises(cinc.rejected.BadMetadata):
    cpsc2018.labels(codes)


def test_user_mistakes(source, real_data, tmp_path):
  def fail(dataset, message, **kwargs):
    with pytest.raises(UserError, match=message) as error:
      build.build(dataset, data_dir=tmp_path / "data", **kwargs)
    assert "\n" not in str(error.value)

  other = source.parent / "CPSC-Extra"
  fail("cpsc2018/100hz", "no A0001.mat in .*CPSC-Extra", manual_dir=other)
  compat = "cpsc2018/500hz_merl_compat"
  fail(compat, "--splits_dir is missing. Download .*icbeb", manual_dir=source)
  fail(
    compat,
    "no icbeb_train.csv in .*chapman; expected the split files",
    manual_dir=source,
    splits_dir=real_data / "splits" / "chapman",
  )
  fail(
    "cpsc2018/500hz",
    "--splits_dir does not apply to cpsc2018/500hz",
    manual_dir=source,
    splits_dir=real_data / "splits" / "icbeb",
  )
  original = tmp_path / "original"
  original.mkdir()
  shutil.copyfile(source / "A0001.mat", original / "A0001.mat")
  fail("cpsc2018/500hz", "no REFERENCE.csv in", manual_dir=original)
  twice = tmp_path / "twice"
  for name in ("a", "b"):
    shutil.copytree(source, twice / name)
  fail("cpsc2018/500hz", "record A0001 is in .*one copy", manual_dir=twice)
