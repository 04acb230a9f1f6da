"""Findings, codes and reports of the simulated population."""

import collections
import re

import numpy as np
import pytest

from data_builders import scp
from data_builders.synthetic_ecg import phrases, reader, simulator

_RHYTHMS = {"SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC", "PACE"}
_CODES = _RHYTHMS | {
  "NORM", "PVC", "PAC", "BIGU", "TRIGU", "1AVB", "LPR", "CLBBB", "ILBBB",
  "CRBBB", "IRBBB", "IVCD", "WPW", "LAFB", "LPFB", "IMI", "ASMI", "AMI", "ALMI",
  "LMI", "ILMI", "ANEUR", "LVH", "RVH", "LAO/LAE", "RAO/RAE", "LVOLT", "HVOLT",
  "VCLVH", "ABQRS", "QWAVE", "STD_", "STE_", "NST_", "NDT", "NT_", "LOWT",
  "INVT", "ISC_", "ISCAL", "ISCIN", "ISCAS", "ISCLA", "ISCIL", "LNGQT", "DIG",
}  # fmt: skip
# Of the norm, and what some readers call abnormal.
_VARIANTS = {"PVC", "PAC", "IRBBB", "LVOLT", "HVOLT", "VCLVH", "ABQRS"}
_INFARCTS = {"IMI", "ASMI", "AMI", "ALMI", "LMI", "ILMI"}
_ISCHAEMIC = {"ISC_", "ISCAL", "ISCIN", "ISCAS", "ISCLA", "ISCIL"}


@pytest.fixture(scope="module")
def population():
  return [
    (simulator.findings(0, i), simulator.report(0, i)) for i in range(12_000)
  ]


def test_every_code_occurs_often_enough(population):
  count = collections.Counter(c for f, _ in population for c in f.codes)
  assert set(count) == _CODES
  share = {code: n / len(population) for code, n in count.items()}
  rare = {code: p for code, p in share.items() if p < 0.0135}
  assert not rare
  assert 0.2 < share["NORM"] < 0.35


def test_codes_are_consistent(population):
  for f, _ in population:
    codes = set(f.codes)
    assert len(codes & _RHYTHMS) == 1, codes
    if "NORM" in codes:
      assert codes <= {
        "NORM", "SR", "SBRAD", "STACH", "SARRH", *_VARIANTS
      }  # fmt: skip
    else:
      assert codes - {"SR", "SBRAD", "STACH", "SARRH"}, codes
    assert len(codes & {"CLBBB", "ILBBB", "CRBBB", "IRBBB", "IVCD", "WPW"}) <= 1
    if codes & {"LAO/LAE", "RAO/RAE", "1AVB"}:
      assert codes & {"SR", "SBRAD", "STACH", "SARRH", "PACE"}
    if codes & {"BIGU", "TRIGU"}:
      assert codes & {"PVC", "PAC"}
    if "LPR" in codes:
      assert "1AVB" in codes
    if codes & {"QWAVE", "ANEUR"}:
      assert codes & _INFARCTS
    if codes & {"CLBBB", "WPW", "PACE"}:
      assert not codes & (_INFARCTS | {"LVH", "RVH"})
    low, high = {"SBRAD": (0, 60), "STACH": (100, 200), "SR": (50, 100),
                 "SVTAC": (130, 250)}.get(f.rhythm, (0, 250))  # fmt: skip
    assert low <= f.rate <= high


def test_names_of_st_t_changes_depend_on_their_degree():
  rng = np.random.default_rng(0)
  kinds = ["STRAIN", "STD_", "NST_", "NDT", "LOWT", *reader.ISCHAEMIA]
  for kind in kinds:
    slight, marked = (
      [reader.st_t(rng, kind, degree) for _ in range(400)]
      for degree in (0.1, 0.9)
    )
    assert all(marked)
    assert all(slight) or kind == "STRAIN"
    own = "ISC_" if kind == "STRAIN" else kind
    shares = [np.mean([own in x for x in group]) for group in (slight, marked)]
    assert shares[0] <= shares[1] + 0.06 and shares[1] > 0.75, kind
    assert len(set(slight)) > 3  # readers differ
  assert reader.st_t(rng, "", 0.9) == reader.st_t(rng, "EARLY", 0.9) == ()


def test_st_depression_comes_with_strain_and_ischaemia(population):
  """Mostly, as in PTB-XL."""
  with_it = [f for f, _ in population if "STD_" in f.codes]
  others = [f for f, _ in population if "STD_" not in f.codes]

  def share(group):
    return np.mean([bool(_ISCHAEMIC & set(f.codes)) for f in group])

  assert share(with_it) > 0.4 > 3 * share(others)


def test_labels_follow_codes(population):
  for i in range(100):
    record = simulator.record(0, i)
    codes = simulator.findings(0, i).codes
    expected = scp.labels(codes)
    for name, vector in expected.items():
      np.testing.assert_array_equal(record["labels"][name], vector)


# A word that may stand in a report -> codes of which one must be there.
_MEANING = {
  r"atrial fibrillation|\bafib\b|\baf\b": {"AFIB"},
  r"flutter": {"AFLT"},
  r"(?<!otherwise )(?<!ab)normal (ecg|tracing)|normal limits": {"NORM"},
  r"otherwise": {"NORM"},
  r"(?<!incomplete )left bundle|(?<!incomplete )lbbb": {"CLBBB"},
  r"incomplete (left bundle|lbbb)": {"ILBBB"},
  r"(?<!incomplete )right bundle|(?<!incomplete )rbbb": {"CRBBB"},
  r"incomplete (right bundle|rbbb)": {"IRBBB"},
  r"first.degree|1st degree": {"1AVB"},
  r"prolonged pr|pr interval is|long pr": {"LPR"},
  r"left ventricular hyp|lv hyp|\blvh\b": {"LVH", "VCLVH"},
  r"right ventricular hyp|\brvh\b": {"RVH"},
  r"infarct|\bmi\b": _INFARCTS | {"ANEUR"},
  r"inferior (infarct|myocardial|mi\b|q)": {"IMI"},
  r"pacemaker|paced|pacing": {"PACE"},
  r"sinus tachycardia": {"STACH"},
  r"tachycardia": {"STACH", "SVTAC"},
  r"bradycardia": {"SBRAD"},
  r"sinus": {"SR", "SBRAD", "STACH", "SARRH"},
  r"wpw|preexcitation|parkinson": {"WPW"},
  r"invert|inversion": {"INVT"} | _ISCHAEMIC,
  r"ischemi": _ISCHAEMIC,
  r"premature|extrasyst|pvc|pac\(|ectopics": {"PVC", "PAC"},
  r"qt": {"LNGQT"},
  r"st elevation": {"STE_", "ANEUR"},
  r"digitalis": {"DIG"},
  r"conduction (dist|abn)|disturbed conduction": {
    s.code for s in scp.STATEMENTS if s.diagnostic_class == "CD"
  },
}  # fmt: skip


def test_reports_never_contradict(population):
  patterns = [(re.compile(p), codes) for p, codes in _MEANING.items()]
  for f, text in population:
    for pattern, codes in patterns:
      if pattern.search(text.lower()):
        assert codes & set(f.codes), (pattern.pattern, f.codes, text)


def test_reports_mention_findings(population):
  said, there = collections.Counter(), collections.Counter()
  for f, text in population:
    text = text.lower()
    for key in set(f.codes) & set(phrases.WORDINGS):
      there[key] += 1
      said[key] += any(
        all(part in text for part in re.split(r"\{\w+\}", w.lower()))
        for register in phrases.WORDINGS[key]
        for w in register
      )
  for key in there:
    if key in ("ABQRS", "QWAVE", "INVT", "STD_", "STE_", "LPR", "NT_"):
      continue  # repeat another finding and are often left out
    assert said[key] / there[key] > 0.7, key
  omitted = [k for k in there if said[k] < there[k]]
  assert len(omitted) > len(there) // 2


def test_clinical_vocabulary(population):
  text = collections.Counter()
  names = (
    "atrial fibrillation", "left bundle branch block", "first degree av block",
    "myocardial infarction", "normal ecg", "hypertrophy", "pacemaker",
    "conduction disturbance", "st-t changes", "repolarization abnormality",
    "sinus bradycardia", "ventricular premature complex", "t wave",
  )  # fmt: skip
  for _, report in population:
    for name in names:
      text[name] += name in report.lower()
  assert min(text[name] for name in names) > 0.005 * len(population), text


def test_report_length_and_variety(population):
  words = np.array([len(report.split()) for _, report in population])
  assert words.min() >= 1 and words.max() < 90
  assert 5 <= np.median(words) <= 30
  texts = {report for _, report in population}
  assert len(texts) > 0.5 * len(population)
  assert all(
    "{" not in r and "  " not in r and ".." not in r and r.strip()
    for r in texts
  )
