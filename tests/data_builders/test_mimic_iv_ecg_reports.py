"""MIMIC-IV-ECG: cleaned reports and their labels."""

import re

import numpy as np
import pytest

from data_builders import scp
from data_builders.mimic_iv_ecg import report_labels, reports
from tests.data_builders import mimic_iv_ecg_corpus as corpus

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
  assert corpus.names_of(found) == {"SR", "LVH"}
  assert not report_labels.labels([]).any()


def test_a_continuation_belongs_to_its_sentence():
  statements = ["ANTERIOR T WAVE CHANGES", "CONSISTENT WITH JUVENILE T WAVES"]
  assert not report_labels.labels(reports.sentences(statements)).any()
  assert corpus.names_of(report_labels.labels(statements[:1])) == {"STTC"}


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
