import csv
import hashlib
import json
import re
import shutil

from tests.data_builders import mimic_iv_ecg_corpus as corpus
import numpy as np
import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from data_builders import build, rejects, scp, tables
from data_builders.mimic_iv_ecg import mimic_iv_ecg_dataset_builder as mimic
from data_builders.mimic_iv_ecg import report_labels, reports


@pytest.fixture(autouse=True)
def no_progress_bar():
  tfds.disable_progress_bar()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  folder = tmp_path_factory.mktemp("source")
  corpus.write(folder)
  return folder


@pytest.fixture(scope="module")
def built(source, tmp_path_factory):
  """Split -> id -> example at 500 Hz."""
  return _read(source, tmp_path_factory.mktemp("data"), "500hz")


def _read(source, data_dir, config, **kwargs):
  name = f"mimic_iv_ecg/{config}"
  build.build(name, manual_dir=source, data_dir=data_dir, **kwargs)
  builder = tfds.builder(name, data_dir=data_dir)
  return {
    split: {e["id"].decode(): e for e in builder.as_data_source(split)}
    for split in builder.info.splits
  }


def _all(splits):
  return {i: e for members in splits.values() for i, e in members.items()}


def _names(vector):
  names = zip(report_labels.NAMES, vector, strict=True)
  return {name for name, value in names if value}


# Records.


def test_signals_are_found_by_study_and_lead(built):
  """Tables in other orders, aVF before aVL in the files, 5 uV steps."""
  found = _all(built)
  assert found.keys() == {study for _, study in corpus.studies()}
  order = [corpus.LEADS.index(lead) for lead in LEADS]
  assert order != sorted(order)
  for study, example in found.items():
    uv = 5 * np.rint(200 * corpus.signal(study)).T[order]
    np.testing.assert_array_equal(example["ecg"], uv)
    assert example["lead_valid"].all()


def test_frequencies_of_the_leads_at_100_hz(source, tmp_path):
  """The k-th lead of the files is a sine of k Hz."""
  for example in _all(_read(source, tmp_path, "100hz")).values():
    assert example["ecg"].shape == (12, 1000)
    peaks = np.abs(np.fft.rfft(example["ecg"])).argmax(axis=1) / 10
    assert peaks.tolist() == [1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11, 12]


def test_reports_and_labels_belong_to_the_study(built):
  """Both tables are shuffled; a join by row would mix them up."""
  for study, example in _all(built).items():
    (rhythm, _), label = corpus.statements(study)
    report = f"{rhythm.lower()}. borderline ecg."
    assert example["report"].decode() == report
    assert _names(example["labels"]["report_labels"]) == {label}


def test_tables_in_true_order_do_not_agree_by_row(source):
  """The corpus would catch a join by row."""
  columns = ("study_id", "subject_id")
  files = ("record_list.csv", "machine_measurements.csv")
  a, b = ([*tables.stream(source / f, columns, "")] for f in files)
  assert sorted(a) == sorted(b)
  assert sum(x == y for x, y in zip(a, b, strict=True)) < 5


def test_patients_are_in_the_split_of_their_hash(built):
  for split, members in built.items():
    assert len(members) == 2 * corpus.NUM_PATIENTS[split]
    for example in members.values():
      assert mimic.split_of(example["subject_id"].decode()) == split
  assert {(e["subject_id"].decode(), i) for i, e in _all(built).items()} == set(
    corpus.studies()
  )


def test_case_is_kept_on_demand(source, tmp_path):
  found = _all(_read(source, tmp_path, "100hz_keep_case"))
  for study, example in found.items():
    (rhythm, _), label = corpus.statements(study)
    assert example["report"].decode() == f"{rhythm}. Borderline ECG."
    assert _names(example["labels"]["report_labels"]) == {label}


def test_metadata_says_how_to_read_the_records(source, tmp_path):
  metadata = mimic.Builder(config="100hz", data_dir=tmp_path).info.metadata
  assert metadata["sampling_rate"] == 100
  assert metadata["label_sets"]["report_labels"] == list(report_labels.NAMES)
  assert "fewer than 4 words" in metadata["cleaning"]
  assert "lower case" in metadata["cleaning"]
  assert {*mimic.Builder.builder_configs} == {
    "100hz",
    "500hz",
    "100hz_keep_case",
    "500hz_keep_case",
  }


def test_gaps_are_repaired_within_their_lead(source, tmp_path):
  """Gaps far behind the first 12 samples, each in one lead only."""
  folder = shutil.copytree(source, tmp_path / "own")
  subject, study = corpus.studies()[0]
  mv = corpus.signal(study)
  short, long = corpus.LEADS.index("aVF"), corpus.LEADS.index("V6")
  mv[3000:3050, short] = np.nan
  mv[4000:4101, long] = np.nan
  corpus.write_record(folder / corpus.record_row(subject, study)["path"], mv)
  splits = _read(folder, tmp_path / "d", "500hz", max_rejected=0.0)
  example = _all(splits)[study]
  ecg = dict(zip(LEADS, example["ecg"].astype(float), strict=True))
  valid = dict(zip(LEADS, example["lead_valid"], strict=True))
  assert [lead for lead in LEADS if not valid[lead]] == ["V6"]
  assert not ecg["V6"].any()
  for i, lead in enumerate(corpus.LEADS):
    expected = 5 * np.rint(200 * corpus.signal(study)[:, i])
    if lead == "aVF":
      ends = expected[[2999, 3050]]
      expected[3000:3050] = np.interp(range(3000, 3050), [2999, 3050], ends)
    if lead != "V6":
      np.testing.assert_allclose(ecg[lead], expected, atol=0.5)


# The join: which patient, report and files belong together.


def _listed(folder, config="100hz", **kwargs):
  builder = mimic.Builder(config=config, data_dir=folder / "d", **kwargs)
  jobs = builder._list_jobs(folder)
  found = {job.id: job for members in jobs.values() for job in members}
  return found, builder.rejects


def _rejected(found, folder):
  path = folder / "rejected.jsonl"
  found.write(path)
  lines = path.read_text().splitlines()
  return {e["id"]: e["detail"] for e in map(json.loads, lines)}


def _rows():
  members = corpus.studies()
  return (
    [corpus.record_row(*m) for m in members],
    [corpus.measurement_row(*m) for m in members],
  )


def test_uncertain_matches_are_rejected(tmp_path):
  listed, measured = _rows()
  ids = [row["study_id"] for row in listed]
  del measured[0]
  measured[0]["subject_id"] = "10009999"  # the second study
  measured.append(measured[1])  # the third
  listed.append(listed[3])
  listed[4]["path"] = f"files/p1000/../{ids[4]}"
  listed[5]["path"] = listed[6]["path"]
  listed[7]["path"] = f"/{ids[7]}"
  listed[8]["subject_id"] = ""
  unlisted = listed.pop(9)["study_id"]
  corpus.write_tables(tmp_path, listed, measured)
  jobs, found = _listed(tmp_path)
  details = _rejected(found, tmp_path)
  for i, text in {
    0: "is not in machine_measurements.csv",
    1: "and of 10009999 in machine_measurements.csv",
    2: "is in machine_measurements.csv repeatedly",
    3: "is in record_list.csv repeatedly",
    4: "has the path 'files/p1000/../",
    5: "has the path 'files/",
    7: "has the path '/",
    8: "subject ''",
  }.items():
    assert text in details[ids[i]]
  assert found.counts == {"bad_metadata": 9}  # both rows of the fourth study
  assert not jobs.keys() & details.keys()
  assert unlisted not in jobs.keys() | details.keys()
  assert jobs.keys() == {*ids[6:7], *ids[10:]}


def test_a_table_of_other_studies_fails_the_build(source, tmp_path):
  folder = shutil.copytree(source, tmp_path / "own")
  _, measured = _rows()
  for row in measured[::2]:  # one record of each patient
    row["study_id"] = str(int(row["study_id"]) + 1)
  corpus.write_csv(folder / "machine_measurements.csv", measured)
  message = "9 of the first 9 of 18 records cannot be used .bad_metadata 9"
  with pytest.raises(UserError, match=message):
    _read(folder, tmp_path / "d", "100hz")


@pytest.mark.parametrize(
  "name", ["record_list.csv", "machine_measurements.csv"]
)
def test_other_tables_are_an_error(tmp_path, name):
  listed, measured = _rows()
  for content, message in (
    (None, f"no {name} in "),
    (b"", "has no column 'subject_id'"),
    (b"study_id,subject_id\n1,2\n", "has no column '(path|report_0)'"),
    (b"subject_id,study_id,\xff\n", "is no table of MIMIC-IV-ECG"),
  ):
    corpus.write_tables(tmp_path, listed, measured)
    (tmp_path / name).unlink()
    if content is not None:
      (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as e:
      _listed(tmp_path)
    assert "\n" not in str(e.value)


def test_equal_reports_and_labels_are_one_object(tmp_path):
  """800,035 records would not fit otherwise."""
  listed, measured = _rows()
  for i, row in enumerate(measured):
    row["report_0"] = ("Sinus rhythm", "Atrial flutter")[i % 2]
    row["report_4"] = ("Low P waves", "Borderline ECG", "Abnormal ECG")[i % 3]
  corpus.write_tables(tmp_path, listed, measured)
  jobs, _ = _listed(tmp_path)
  assert len({id(job.report) for job in jobs.values()}) == 6
  vectors = [job.labels["report_labels"] for job in jobs.values()]
  assert [*map(_names, vectors)] == 9 * [{"SR"}, {"AFLT"}]
  assert len({*map(id, vectors)}) == 2


def test_stream_reads_columns_by_name(tmp_path):
  path = tmp_path / "t.csv"
  path.write_text('\ufeff\nc,a,b\n1,"x, y",3\n\n4,5,\n', "utf-8")
  rows = list(tables.stream(path, ("b", "a"), "a test"))
  assert rows == [("3", "x, y"), ("", "5")]


@pytest.mark.parametrize("row", ["4,5", "6,7,8,9", '4,"5'])
def test_broken_rows_are_errors(tmp_path, row):
  path = tmp_path / "t.csv"
  path.write_text(f"c,a,b\n1,2,3\n{row}\n")
  with pytest.raises(UserError, match=r"row 2 of .*t.csv|no table of a test"):
    list(tables.stream(path, ("b", "a"), "a test"))


# Records that are left out.


def test_short_reports_are_left_out_and_listed(source, tmp_path, capsys):
  folder = shutil.copytree(source, tmp_path / "own")
  listed, measured = _rows()
  short = {0: [], 2: ["--- ---", " "], 4: ["Sinus rhythm"], 6: ["A b - c"]}
  for i, texts in short.items():
    measured[i] = corpus.measurement_row(*corpus.studies()[i], texts)
  corpus.write_tables(folder, listed, measured)
  found = _all(_read(folder, tmp_path / "d", "100hz", max_rejected=0.0))
  ids = [study for _, study in corpus.studies()]
  assert found.keys() == {*ids} - {ids[i] for i in short}
  out = capsys.readouterr().out
  assert "rejected 0 of 14: none\nleft out 4: short_report 4\n" in out
  (path,) = (tmp_path / "d").rglob("rejected.jsonl")
  entries = list(map(json.loads, path.read_text().splitlines()))
  assert entries == [
    {"id": ids[i], "reason": "short_report", "detail": text}
    for i, text in {0: "", 2: "", 4: "sinus rhythm.", 6: "a b - c."}.items()
  ]


def test_min_words_is_an_option(tmp_path):
  listed, measured = _rows()
  texts = [[], ["Sinus rhythm"], ["Normal ECG", "Sinus rhythm"]]
  for i, row in enumerate(listed):
    ids = row["subject_id"], row["study_id"]
    measured[i] = corpus.measurement_row(*ids, texts[i % 3])
  corpus.write_tables(tmp_path, listed, measured)
  for min_words, expected in {0: 18, 1: 12, 2: 12, 3: 6, 5: 0}.items():
    config = mimic.MimicIvEcgConfig(
      name=f"w{min_words}", sampling_rate=100, min_words=min_words
    )
    jobs, found = _listed(tmp_path, config)
    assert len(jobs) == expected
    assert found.left_out.total() == 18 - expected
    assert not found.counts
  assert {job.report for job in _listed(tmp_path)[0].values()} == {
    "normal ecg. sinus rhythm."
  }


def test_left_out_records_do_not_count_against_the_limit():
  found = rejects.Rejects(0.1)
  found.total = 10
  for i in range(5):
    found.leave_out(str(i), "short_report", "")
  found.add("5", "corrupt", "")
  found.check()
  assert found.summary() == "corrupt 1"
  assert found.left_out_summary() == "short_report 5"
  found.add("6", "corrupt", "")
  with pytest.raises(rejects.TooManyRejected, match="^2 of"):
    found.check()


# Splits.


def test_shares_of_the_splits():
  splits = [mimic.split_of(str(10_000_000 + i)) for i in range(100_000)]
  for split in ("validation", "test"):
    # Five standard deviations of a binomial share.
    assert abs(splits.count(split) - 2000) < 5 * np.sqrt(2000 * 0.98)
  assert set(splits) == {"train", "validation", "test"}


def test_split_is_the_documented_hash():
  for i in range(10_000_000, 10_002_000):
    digest = hashlib.sha256(str(i).encode()).hexdigest()
    position = int(digest[:16], 16) / 16**16
    below = [
      s for s, x in (("validation", 0.02), ("test", 0.04)) if position < x
    ]
    assert mimic.split_of(str(i)) == (below or ["train"])[0]
  assert mimic.split_of("10000032") == "train"
  assert mimic.split_of("10000078") == "validation"
  assert mimic.split_of("10000041") == "test"


def test_patients_keep_their_split_when_the_corpus_grows(tmp_path):
  listed, measured = _rows()
  corpus.write_tables(tmp_path, listed[:9], measured[:9])
  builder = mimic.Builder(config="100hz", data_dir=tmp_path / "d")
  few = builder._list_jobs(tmp_path)
  corpus.write_tables(tmp_path, listed[::-1], measured)
  many = builder._list_jobs(tmp_path)
  for split, jobs in few.items():
    assert {job.id for job in jobs} <= {job.id for job in many[split]}


# Reports.

CLEANED = {
  ("Sinus rhythm", "Normal ECG"): "Sinus rhythm. Normal ECG.",
  ("Sinus rhythm.", " ", "Normal ECG. "): "Sinus rhythm. Normal ECG.",
  ("*** INFERIOR INFARCT - POSSIBLY ACUTE ***",): (
    "INFERIOR INFARCT - POSSIBLY ACUTE."
  ),
  ("*** EXTENSIVE INFARCT *** with possible changes",): (
    "EXTENSIVE INFARCT with possible changes."
  ),
  ("--- Possible measurement error ---.",): "Possible measurement error.",
  ("=-Sinus  rhythm=-", "=Abnormal = ECG"): "Sinus rhythm. Abnormal ECG.",
  ("- first degree A-V block",): "first degree A-V block.",
  ("Sinus rhythm", "*UnconfirmedAnalysis*"): "Sinus rhythm.",
  ("Inferior ST elevation", "(9@128) suggests early repolarization"): (
    "Inferior ST elevation suggests early repolarization."
  ),
  ("(9@192) - cannot rule out myocardial injury",): (
    "cannot rule out myocardial injury."
  ),
  ("Abnormal EKG", "Repeat ekg advised", "Ekgs"): (
    "Abnormal ECG. Repeat ecg advised. Ecgs."
  ),
  ("Summary: NORMAL ECG",): "NORMAL ECG.",
  ("LONG QTc : POSSIBLE HYPOCALCEMIA",): "LONG QTc: POSSIBLE HYPOCALCEMIA.",
  ("PROBABLE SINUS TACHYCARDIA.CONSIDER FLUTTER",): (
    "PROBABLE SINUS TACHYCARDIA. CONSIDER FLUTTER."
  ),
  ("I.V. CONDUCTION DEFECT",): "I.V. CONDUCTION DEFECT.",
  ("ST elevation- possible early repolarization",): (
    "ST elevation - possible early repolarization."
  ),
  ("Warning: may affect interpretation!!",): (
    "Warning: may affect interpretation."
  ),
  ("Atrial flutter with varied AV block,",): (
    "Atrial flutter with varied AV block."
  ),
  ("MULTIFOCAL PVCs", "OR ABERRANT VENTRICULAR CONDUCTION"): (
    "MULTIFOCAL PVCs OR ABERRANT VENTRICULAR CONDUCTION."
  ),
  ("Atrial fibrillation", "with rapid ventricular response"): (
    "Atrial fibrillation with rapid ventricular response."
  ),
  ("with fusion complexes",): "with fusion complexes.",
  ("ORTHODROMIC", "Without", "Island"): "ORTHODROMIC. Without. Island.",
  ("Age not entered,\n assumed  to be\t50",): (
    "Age not entered, assumed to be 50."
  ),
  ("Lead(s) unsuitable: I,aVR", "R'>R in V1/V2", "SV1 + RV5", "2:1 block"): (
    "Lead(s) unsuitable: I,aVR. R'>R in V1/V2. SV1 + RV5. 2:1 block."
  ),
  ("? FAULTY V2 - OMITTED",): "? FAULTY V2 - OMITTED.",
  ("***", " - ", "", "==", "..."): "",
  (): "",
}


@pytest.mark.parametrize(("statements", "expected"), CLEANED.items())
def test_clean_report(statements, expected):
  assert reports.clean_report(statements, keep_case=True) == expected
  assert reports.clean_report(statements) == expected.lower()


def test_num_words():
  assert reports.num_words("") == 0
  assert reports.num_words("left axis deviation - 2:1 block.") == 5


# Labels.

LABELLED = {
  "Sinus rhythm": "SR",
  "Sinus rhythm with sinus arrhythmia": "SR SARRH",
  "Sinus or ectopic atrial rhythm": "",
  "Marked sinus bradycardia.": "SBRAD",
  "Probable sinus (? atrial) tachycardia": "STACH",
  "Sinus bradycardia - consider sinus rhythm with 2:1 S-A block": "SBRAD",
  "Sinus tachycardia. ? atrial tachycardia or flutter": "STACH",
  "Sinus rhythm with 1st degree A-V block": "SR 1AVB",
  "Sinus rhythm with borderline 1st degree A-V block": "SR",
  "Prolonged PR interval": "1AVB",
  "Second degree AV block, Mobitz II": "",
  "ATRIAL FIBRILLATION WITH RAPID VENTRICULAR RESPONSE": "AFIB",
  "Probable atrial fibrillation": "AFIB",
  "Possible atrial flutter with PVCs": "PVC",
  "Atrial flutter/fibrillation": "AFIB AFLT",
  "Atrial flutter with 2:1 A-V block with PVC(s)": "AFLT PVC",
  "Afib/flutter and ventricular-paced rhythm": "AFIB AFLT PACE",
  "PVCs or aberrant ventricular conduction with PAC(s)": "PVC PAC",
  "Supraventricular bigeminy": "PAC",
  "Multiple premature complexes, vent & supraven": "PAC PVC",
  "No further analysis attempted due to paced rhythm": "PACE",
  "Interpretation is based on unpaced beats": "",
  "Pacemaker spikes or artifacts": "",
  "Wandering atrial pacemaker": "",
  "ST-T changes may be related to electronic pacemaker": "STTC",
  "Left bundle branch block": "CLBBB",
  "Incomplete LBBB": "",
  "RBBB and LAFB": "CRBBB LAFB",
  "Incomplete RBBB and LAFB": "IRBBB LAFB",
  "I.V. conduction defect of left bundle branch block type": "IVCD",
  "I.V. conduction defect": "IVCD",
  "IVCD, consider atypical LBBB": "IVCD",
  "Left axis deviation - possible left anterior fascicular block": "LAD",
  "LAD, consider LAFB or inferior infarct": "LAD",
  "Leftward axis": "",
  "Lateral infarct, acute (LAD)": "MI LMI",
  "LVH with IVCD, LAD and secondary repol abnrm": "LVH IVCD LAD STTC",
  "Possible LVH with secondary repolarization abnormality": "STTC",
  "Biventricular hypertrophy": "LVH RVH",
  "RSR' in V1 or V2, right VCD or RVH": "",
  "LAE, consider biatrial enlargement": "LAO/LAE",
  "Low voltage with right axis deviation": "LVOLT RAD",
  "Borderline low voltage, extremity leads": "",
  "Prolonged QT, probably secondary to wide QRS": "LNGQT",
  "Borderline prolonged QT interval": "",
  "Inferior infarct - possibly acute": "MI IMI",
  "Inferoposterior infarct, old": "MI IMI",
  "Septal infarction - age undetermined": "MI AMI",
  "Acute inferior and anteroseptal infarction": "MI IMI AMI",
  "Extensive infarct with possible acute lateral changes": "MI",
  "Cannot rule out anterior infarct": "",
  "Consider acute ST elevation MI": "",
  "Septal infarction cannot be excluded": "",
  "QRS changes probably due to LVH but consider septal infarct": "LVH",
  "Anterior ST elevation, CONSIDER ACUTE INFARCT": "STTC",
  "Septal ST depression is probably reciprocal to inferior infarct": (
    "STTC MI IMI"
  ),
  "Inferior ST elevation - probable lateral extension of infarct": (
    "STTC MI LMI"
  ),
  "Inferior T wave changes are nonspecific": "STTC",
  "Inferior T wave changes are borderline abnormal": "",
  "Anterior T wave changes are normal for age": "",
  "Lateral ST elevation suggests early repolarization": "",
  "Repeat if myocardial injury is suspected": "",
  "Normal ECG": "NORM",
  "Abnormal ECG": "",
  "Normal ECG except for rate": "",
  "Within normal limits": "NORM",
  "No sinus rhythm, without PVCs": "",
}


@pytest.mark.parametrize(("sentence", "expected"), LABELLED.items())
def test_labels_of_a_sentence(sentence, expected):
  assert report_labels.find(sentence) == set(expected.split())
  assert report_labels.find(sentence.upper()) == set(expected.split())


def test_labels_of_a_report():
  found = report_labels.labels(["Sinus rhythm", "LVH", "Possible PACs"])
  assert found.dtype == np.uint8
  assert _names(found) == {"SR", "LVH"}
  assert not report_labels.labels([]).any()


def test_a_continuation_belongs_to_its_sentence():
  statements = ["ANTERIOR T WAVE CHANGES", "CONSISTENT WITH JUVENILE T WAVES"]
  assert not report_labels.labels(reports.sentences(statements)).any()
  assert _names(report_labels.labels(statements[:1])) == {"STTC"}


def test_labels_are_named_as_in_ptb_xl():
  known = set().union(*scp.LABEL_SETS.values())
  assert set(report_labels.NAMES) - known == {"LAD", "RAD"}
  examples = set(" ".join(LABELLED.values()).split())
  assert examples == set(report_labels.NAMES)


# The true statements and columns.


@pytest.fixture(scope="module")
def statements(real_data):
  path = real_data / "mimic_iv_ecg" / "machine_statements.txt"
  return path.read_text("utf-8").splitlines()


def test_clean_reports_of_true_statements(statements):
  assert len(statements) == 3862
  flags = {s for s in statements if not reports.clean_statement(s)}
  assert flags == {"*UnconfirmedAnalysis*"}
  for statement in statements:
    report = reports.clean_report([statement])
    assert not re.search(r"[*=@]|--|\s\s|\s[.,:]|\.\.|ekg|[A-Z]", report)
    assert reports.clean_report([report]) == report
    # Nothing but marks, headings and debris is lost.
    words = re.findall(r"\w+", report)
    kept = re.sub(r"summary:|\(9@\d+\)", "", statement.lower())
    assert statement in flags or words == re.findall(r"\w+", kept)


def test_labels_of_true_statements(statements):
  found = [
    frozenset().union(*map(report_labels.find, reports.sentences([s])))
    for s in statements
  ]
  counts = {n: sum(n in f for f in found) for n in report_labels.NAMES}
  assert min(counts.values()) >= 2
  bounds = {
    "SR": (200, 320), "SBRAD": (180, 300), "STACH": (150, 280),
    "AFIB": (180, 260), "AFLT": (110, 150), "PVC": (800, 1100),
    "PAC": (300, 400), "PACE": (50, 80), "MI": (180, 280), "IMI": (30, 50),
    "AMI": (60, 100), "LMI": (20, 40), "STTC": (500, 750), "LVH": (30, 50),
  }  # fmt: skip
  for name, (low, high) in bounds.items():
    assert low <= counts[name] <= high, (name, counts[name])
  rhythms = {
    "SR": "sinus rhythm", "SBRAD": "sinus bradycardia",
    "STACH": "sinus tachycardia", "AFIB": "fib", "AFLT": "flut",
  }  # fmt: skip
  for statement, names in zip(statements, found, strict=True):
    text = statement.lower().replace("(? atrial) ", "")
    text = text.replace("due to af", "due to fibrillation")
    for name, words in rhythms.items():
      assert name not in names or words in text
    assert len(names & {"SR", "SBRAD", "STACH", "AFIB"}) <= 1
    assert "MI" in names or not names & {"IMI", "AMI", "LMI"}
    if re.match(r"\W*(possible|consider|cannot|borderline)\b", text):
      first = re.split(r" with | w/|\. ", text)[0]
      assert not report_labels.find(first)


def test_true_columns(real_data, tmp_path):
  for name in ("record_list.csv", "machine_measurements.csv"):
    shutil.copy(real_data / "mimic_iv_ecg" / name, tmp_path)
  with (tmp_path / "record_list.csv").open(newline="") as f:
    (row,) = csv.DictReader(f)
  jobs, _ = _listed(tmp_path)
  job = jobs["40689238"]
  assert job.path == tmp_path / row["path"]
  assert job.subject_id == "10000032"
  assert job.report == (
    "sinus rhythm. possible right atrial abnormality. borderline ecg."
  )
  assert _names(job.labels["report_labels"]) == {"SR"}
  own = corpus.record_row("10000032", "40689238")
  assert own == row
