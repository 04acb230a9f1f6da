import collections
import csv
import pathlib
import shutil

import numpy as np
import pytest
import scipy.signal
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import rejected
from data_builders import build, splits
from data_builders.csn import csn_dataset_builder as csn
from tests.data_builders import cinc_corpora, data_sets

README = pathlib.Path(csn.__file__).with_name("README.md").read_text()
# Labels with other positives in the published files: (there, true).
CORRUPTED = {
  "VB": (916, 3),
  "AF": (4753, 3340),
  "ST": (6338, 5154),
  "SA": (2828, 2107),
  "AVB": (913, 176),
  "CR": (216, 75),
  "2AVB": (38, 22),
}
# Acronyms of the published `diagnose` that are no label.
NO_LABEL = {
  "SB", "LVQRSAL", "IDC", "VPE", "VFW", "JPT", "RAH", "VET", "FQRS", "AVRT",
  "3AVB", "ABI",
}  # fmt: skip


def named(vector):
  """Names of the labels in a vector."""
  return {n for n, value in zip(csn.CODES, vector, strict=True) if value}


def header_codes(path):
  """Diagnoses of a header, as the wfdb package reads its comments."""
  comments = wfdb.rdheader(str(path.with_suffix(""))).comments
  (line,) = [c for c in comments if c.startswith("Dx:")]
  return line.removeprefix("Dx:").strip().split(",")


@pytest.fixture(scope="module")
def source(real_data):
  return real_data / "cinc2021" / "CSN"


@pytest.fixture(scope="module")
def published(real_data):
  """Split -> id -> row of the published file."""
  folder = real_data / "splits" / "chapman"
  return {
    split: {
      pathlib.PurePosixPath(row["ecg_path"]).stem: row
      for row in cinc_corpora.read_rows(folder / f"chapman_{name}.csv")
    }
    for split, name in cinc_corpora.PUBLISHED.items()
  }


@pytest.fixture(scope="module")
def acronyms(real_data):
  """Acronym -> code, in the order of the corpus's own table."""
  rows = cinc_corpora.read_rows(
    real_data / "codes" / "ConditionNames_SNOMED-CT.csv"
  )
  return {row["AcronymName"]: row["Snomed_CT"] for row in rows}


@pytest.fixture(scope="module", params=["500hz", "100hz"])
def built(request, source, tmp_path_factory):
  data_dir = tmp_path_factory.mktemp("data")
  dataset = f"csn/{request.param}"
  build.build(dataset, manual_dir=source, data_dir=data_dir, max_rejected=0.0)
  return (request.param, *data_sets.read(dataset, data_dir))


def test_codes_are_those_of_the_corpus(acronyms):
  assert len(csn.CODES) == len(set(csn.CODES.values())) == 38
  for name, code in csn.CODES.items():
    assert acronyms[name] == code


def test_page_lists_the_labels():
  rows = [line for line in README.splitlines() if line.startswith("| `")][:38]
  for row, (name, code) in zip(rows, csn.CODES.items(), strict=True):
    assert row.startswith(f"| `{name}` | `{code}` | ")


def test_colliding_codes_mean_the_first_acronym(acronyms):
  names = collections.defaultdict(list)
  for name, code in acronyms.items():
    names[code].append(name)
  colliding = {c: found for c, found in names.items() if len(found) > 1}
  assert (len(acronyms), len(names)) == (63, 55)
  assert colliding == {
    "164865005": ["MI", "MIBW", "MIFW", "MILW", "MISW"],
    "164909002": ["LBBB", "LBBBB", "LFBBB"],
    "698252002": ["IDC", "IVB"],
    "195101003": ["WAVN", "SAAWR"],
  }
  for code, (first, *_) in colliding.items():
    assert named(csn.labels([code])) == {first} & csn.CODES.keys()
    assert f"{code}  {first}, not " in csn.__doc__
    assert f"| `{code}` | `{first}`" in README


def test_published_labels_are_substrings(published):
  """How the published files came to their labels."""
  rows = data_sets.every(published)
  assert len(rows) == 23_026
  for row in rows.values():
    for name in csn.CODES:
      assert int(row[name]) == (name in row["diagnose"])


def test_fixed_labels_differ_where_substrings_do_and_nowhere_else(
  published, acronyms
):
  there, true = collections.Counter(), collections.Counter()
  culprits = collections.defaultdict(set)
  for row in data_sets.every(published).values():
    diagnoses = row["diagnose"].split(",")
    ours = named(csn.labels([acronyms[d] for d in diagnoses]))
    theirs = {name for name in csn.CODES if row[name] == "1"}
    assert ours == set(diagnoses) - NO_LABEL
    assert ours <= theirs
    for extra in theirs - ours:  # part of another acronym, or of two
      assert extra in row["diagnose"] and extra not in diagnoses
      assert extra in CORRUPTED
      culprits[extra] |= {d for d in diagnoses if extra in d}
    there.update(theirs)
    true.update(ours)
  different = {
    name: (there[name], true[name])
    for name in csn.CODES
    if there[name] != true[name]
  }
  assert different == CORRUPTED
  for name, counts in CORRUPTED.items():
    row = " | ".join(map(str, (f"`{name}`", *counts)))
    also = ", ".join(f"`{d}`" for d in sorted(culprits[name]))
    assert f"| {row} | {also}" in README


def test_fixed_labels_of_real_headers(built, source):
  """Every record is kept; its labels are the codes in its header."""
  _, info, members = built
  assert info.metadata["label_mode"] == "fixed"
  examples = data_sets.every(members)
  headers = sorted(source.glob("*.hea"))
  assert {path.stem for path in headers} == examples.keys()
  names = dict(zip(csn.CODES.values(), csn.CODES, strict=True))
  assert info.metadata["label_sets"]["csn"] == list(csn.CODES)
  unlabelled = 0
  for path in headers:
    vector = examples[path.stem]["labels"]["csn"]
    codes = header_codes(path)
    assert named(vector) == {names[c] for c in codes if c in names}
    unlabelled += not vector.any()
  assert unlabelled >= 8  # sinus bradycardia alone is no label


def test_fixed_labels_against_the_published_files(built, published):
  _, _, members = built
  rows = data_sets.every(published)
  compared = 0
  for record_id, example in data_sets.every(members).items():
    if record_id in rows:
      row = rows[record_id]
      expected = set(row["diagnose"].split(",")) - NO_LABEL
      assert named(example["labels"]["csn"]) == expected
      compared += 1
  assert compared >= 14


def test_real_signals_equal_wfdb(built, source):
  config, _, members = built
  for record_id, example in data_sets.every(members).items():
    record = wfdb.rdrecord(str(source / record_id))
    assert record.sig_name == list(LEADS)
    uv = 1e3 * record.p_signal.T
    if config == "100hz":
      uv = scipy.signal.resample_poly(uv, 1, 5, axis=1, padtype="line")
    valid = np.ptp(record.p_signal, axis=0) > 0  # some have constant leads
    np.testing.assert_array_equal(example["lead_valid"], valid)
    bound = 0.5 if config == "500hz" else 1
    error = np.abs(example["ecg"] - uv)[valid]
    assert error.max() <= bound + 1e-9
    assert not example["ecg"][~valid].any()


def test_folders_do_not_matter(built, source, tmp_path):
  config, _, expected = built
  for path in source.iterdir():
    number = path.stem[2:]
    folder = tmp_path / "WFDBRecords" / number[:2] / number[:3]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, folder / path.name)
  build.build(
    f"csn/{config}",
    manual_dir=tmp_path,
    data_dir=tmp_path / "data",
    max_rejected=0.0,
  )
  _, members = data_sets.read(f"csn/{config}", tmp_path / "data")
  for split, examples in expected.items():
    assert members[split].keys() == examples.keys()
    for record_id, example in examples.items():
      np.testing.assert_array_equal(
        members[split][record_id]["ecg"], example["ecg"]
      )


def test_merl_compat_equals_the_published_files(source, published, tmp_path):
  """Rows of real records, one of them moved to the empty validation split."""
  present = {path.stem for path in source.glob("*.hea")}
  rows = {
    split: [r for i, r in members.items() if i in present]
    for split, members in published.items()
  }
  assert not rows["validation"]
  rows["validation"].append(rows["train"].pop())
  for split, name in cinc_corpora.PUBLISHED.items():
    with (tmp_path / f"chapman_{name}.csv").open("w", newline="") as f:
      writer = csv.DictWriter(f, rows[split][0])
      writer.writeheader()
      writer.writerows(rows[split])
  build.build(
    "csn/500hz_merl_compat",
    manual_dir=source,
    splits_dir=tmp_path,
    data_dir=tmp_path / "data",
    max_rejected=0.0,
  )
  info, members = data_sets.read("csn/500hz_merl_compat", tmp_path / "data")
  assert info.metadata["label_mode"] == "merl_compat"
  bugs = 0
  for split, expected in rows.items():
    assert len(members[split]) == len(expected)
    for row in expected:
      record_id = pathlib.PurePosixPath(row["ecg_path"]).stem
      found = named(members[split][record_id]["labels"]["csn"])
      assert found == {name for name in csn.CODES if row[name] == "1"}
      bugs += bool(found - set(row["diagnose"].split(",")))
  assert bugs >= 1  # JS00001 has fibrillation and gets flutter
  assert {"AF", "AFIB"} <= named(members["train"]["JS00001"]["labels"]["csn"])


def test_all_published_rows_are_listed(source, real_data, published, tmp_path):
  """The real tables, read without the signals."""
  builder = csn.Builder(
    config="500hz_merl_compat",
    data_dir=tmp_path,
    splits_dir=real_data / "splits" / "chapman",
  )
  jobs = builder._list_jobs(source)
  for split, rows in published.items():
    assert {job.id for job in jobs[split]} == rows.keys()
    for job in jobs[split]:
      row = rows[job.id]
      assert job.labels["csn"].tolist() == [int(row[n]) for n in csn.CODES]


def test_fixed_splits_at_the_size_of_the_corpus(published, acronyms):
  """All labelled records, and as many without a label."""
  rows = data_sets.every(published)
  ids = [*rows, *(f"none{i}" for i in range(len(rows)))]
  labels = np.zeros((len(ids), 38), np.uint8)
  for i, row in enumerate(rows.values()):
    labels[i] = csn.labels(acronyms[d] for d in row["diagnose"].split(","))
  assert labels[:, list(csn.CODES).index("VB")].sum() == 3
  found = splits.stratified(ids, labels, [""] * len(ids))
  found = np.array([found[i] for i in ids])
  for split, share in splits.FRACTIONS.items():
    chosen = found == split
    assert abs(chosen.mean() - share) < 0.001
    assert labels[chosen].any(axis=0).all()
    difference = labels[chosen].sum(axis=0) - share * labels.sum(axis=0)
    assert np.abs(difference).max() < 6


def test_header_without_diagnosis_is_rejected(source, tmp_path):
  folder = tmp_path / "source"
  shutil.copytree(source, folder)
  folder.chmod(0o755)
  header = folder / "JS00001.hea"
  header.chmod(0o644)
  lines = header.read_text().splitlines()
  header.write_text("\n".join(x for x in lines if "Dx" not in x))
  (folder / "JS00004.hea").unlink()
  build.build(
    "csn/100hz", manual_dir=folder, data_dir=tmp_path, max_rejected=0.1
  )
  info, members = data_sets.read("csn/100hz", tmp_path)
  assert not {"JS00001", "JS00004"} & data_sets.every(members).keys()
  listing = pathlib.Path(info.data_dir) / "rejected.jsonl"
  text = listing.read_text()
  assert '"JS00001", "reason": "bad_metadata"' in text
  assert '"JS00004", "reason": "missing_file"' in text


def test_user_mistakes(source, tmp_path):
  def fail(dataset, message, **kwargs):
    with pytest.raises(UserError, match=message) as error:
      build.build(dataset, data_dir=tmp_path / "data", **kwargs)
    assert "\n" not in str(error.value)

  other = source.parent / "CPSC2018"
  fail("csn/100hz", "no JS00001.hea in .*CPSC2018", manual_dir=other)
  compat = "csn/500hz_merl_compat"
  fail(compat, "--splits_dir is missing. Download .*chapman", manual_dir=source)
  (tmp_path / "chapman_train.csv").write_text("ecg_path,AQW\nJS00001,1\n")
  fail(
    compat,
    "chapman_train.csv has no column 'UW'",
    manual_dir=source,
    splits_dir=tmp_path,
  )


def test_what_is_no_code_is_rejected():
  assert named(csn.labels(["164889003", "1"])) == {"AFIB"}
  with pytest.raises(rejected.BadMetadata, match="16488"):
    csn.labels(["164889003", "16488\ufffd003"])
