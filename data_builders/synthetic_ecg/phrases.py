"""What reports say: for each statement its wordings in three registers.

`machine`: lines of an electrocardiograph's program. `physician`: what a reader
dictates. `plain`: the clinical name by itself. Words are lower case but for
lead names and abbreviations; `report` capitalises, joins and hedges them.
"""

from __future__ import annotations

from typing import NamedTuple


class Wording(NamedTuple):
  """Alternative wordings of one statement."""

  machine: tuple[str, ...]
  physician: tuple[str, ...]
  plain: tuple[str, ...]


def _infarct(site: str, leads: str, short: str) -> Wording:
  return Wording(
    (f"{site} infarct - age undetermined", f"{site} infarct",
     f"{site} MI, {{stage}}", f"{site} Q waves suggest infarct"),
    (f"{{stage}} {site} myocardial infarction",
     f"pathological Q waves in {leads}, {{stage}} {site} infarction",
     f"signs of {{stage}} {site} myocardial infarction",
     f"loss of R waves in {leads} consistent with {site} infarction"),
    (f"{site} myocardial infarction", f"{site} infarction", short),
  )  # fmt: skip


def _ischaemia(site: str, leads: str) -> Wording:
  return Wording(
    (f"{site} ST-T changes may be due to myocardial ischemia",
     f"{site} ST-T abnormality, possible ischemia"),
    (f"T wave inversion with ST depression in {leads}, {site} ischemia",
     f"{site} ischemic ST-T changes",
     f"repolarization abnormality in {leads} suggesting ischemia"),
    (f"ischemic changes in {site} leads", f"{site} ischemia",
     f"ischemia in {site} leads"),
  )  # fmt: skip


WORDINGS: dict[str, Wording] = {
  "SR": Wording(
    ("sinus rhythm", "normal sinus rhythm", "sinus rhythm"),
    ("regular sinus rhythm", "sinus rhythm", "rhythm is sinus"),
    ("sinus rhythm", "SR"),
  ),
  "SBRAD": Wording(
    ("sinus bradycardia", "marked sinus bradycardia"),
    ("sinus bradycardia", "slow sinus rhythm, bradycardia"),
    ("sinus bradycardia", "bradycardia"),
  ),
  "STACH": Wording(
    ("sinus tachycardia",),
    ("sinus tachycardia", "fast sinus rhythm, tachycardia"),
    ("sinus tachycardia", "tachycardia"),
  ),
  "SARRH": Wording(
    ("sinus rhythm with marked sinus arrhythmia", "sinus arrhythmia"),
    ("sinus arrhythmia", "sinus rhythm, respiratory arrhythmia"),
    ("sinus arrhythmia",),
  ),
  "AFIB": Wording(
    ("atrial fibrillation", "atrial fibrillation {response}"),
    (
      "atrial fibrillation {response}",
      "irregular rhythm without P waves, atrial fibrillation",
      "AF {response}",
      "Afib",
    ),
    ("atrial fibrillation", "AF"),
  ),
  "AFLT": Wording(
    ("atrial flutter", "atrial flutter with AV block"),
    ("atrial flutter", "flutter waves in the inferior leads, atrial flutter"),
    ("atrial flutter",),
  ),
  "SVTAC": Wording(
    (
      "supraventricular tachycardia",
      "narrow complex tachycardia, consider supraventricular tachycardia",
    ),
    ("regular supraventricular tachycardia, no clear P waves", "SVT"),
    ("supraventricular tachycardia", "SVT"),
  ),
  "PACE": Wording(
    (
      "ventricular pacing",
      "electronic ventricular pacemaker",
      "ventricular-paced rhythm",
    ),
    (
      "pacemaker rhythm with ventricular capture",
      "paced rhythm, normal function of the artificial pacemaker",
    ),
    ("artificial pacemaker", "pacemaker", "paced rhythm"),
  ),
  "PVC": Wording(
    (
      "ventricular premature complex(es)",
      "PVC(s)",
      "with premature ventricular contractions",
    ),
    (
      "isolated ventricular extrasystoles",
      "premature ventricular beats",
      "ventricular ectopics",
    ),
    ("ventricular premature complex", "premature ventricular contraction"),
  ),
  "PAC": Wording(
    (
      "atrial premature complex(es)",
      "PAC(s)",
      "with premature atrial contractions",
    ),
    (
      "supraventricular extrasystoles",
      "premature atrial beats",
      "atrial ectopics",
    ),
    ("atrial premature complex", "premature atrial contraction"),
  ),
  "BIGU": Wording(
    ("{focus} bigeminy",),
    ("bigeminal pattern with {focus} premature beats", "{focus} bigeminy"),
    ("bigeminy", "bigeminal pattern"),
  ),
  "TRIGU": Wording(
    ("{focus} trigeminy",),
    ("trigeminal pattern with {focus} premature beats", "{focus} trigeminy"),
    ("trigeminy", "trigeminal pattern"),
  ),
  "1AVB": Wording(
    ("1st degree AV block", "first degree AV block"),
    (
      "first degree AV block",
      "first-degree atrioventricular block",
      "AV conduction delayed, first degree block",
    ),
    (
      "first degree AV block",
      "AV block",
      "first degree atrioventricular block",
    ),
  ),
  "LPR": Wording(
    ("prolonged PR interval",),
    ("PR interval is prolonged", "long PR"),
    ("prolonged PR interval",),
  ),
  "CLBBB": Wording(
    ("left bundle branch block",),
    (
      "complete left bundle branch block",
      "LBBB",
      "wide QRS with left bundle branch block pattern",
    ),
    ("left bundle branch block", "complete left bundle branch block"),
  ),
  "ILBBB": Wording(
    ("incomplete left bundle branch block", "incomplete LBBB"),
    ("incomplete left bundle branch block",),
    ("incomplete left bundle branch block",),
  ),
  "CRBBB": Wording(
    ("right bundle branch block",),
    (
      "complete right bundle branch block",
      "RBBB",
      "rsR' in V1, right bundle branch block",
    ),
    ("right bundle branch block", "complete right bundle branch block"),
  ),
  "IRBBB": Wording(
    ("incomplete right bundle branch block", "incomplete RBBB"),
    (
      "incomplete right bundle branch block",
      "rSr' in V1, incomplete right bundle branch block",
    ),
    ("incomplete right bundle branch block",),
  ),
  "IVCD": Wording(
    ("IV conduction defect", "nonspecific intraventricular conduction delay"),
    (
      "unspecific intraventricular conduction disturbance",
      "widened QRS, nonspecific intraventricular conduction delay",
    ),
    (
      "non-specific intraventricular conduction disturbance",
      "intraventricular conduction delay",
    ),
  ),
  "WPW": Wording(
    ("Wolff-Parkinson-White pattern", "ventricular preexcitation"),
    ("short PR with delta wave, WPW pattern", "preexcitation, WPW syndrome"),
    ("Wolff-Parkinson-White syndrome", "WPW"),
  ),
  "LAFB": Wording(
    (
      "left anterior fascicular block",
      "left axis deviation, consider left anterior fascicular block",
    ),
    (
      "left anterior hemiblock",
      "marked left axis deviation, left anterior fascicular block",
      "LAFB",
    ),
    ("left anterior fascicular block",),
  ),
  "LPFB": Wording(
    (
      "left posterior fascicular block",
      "right axis deviation, consider left posterior fascicular block",
    ),
    (
      "left posterior hemiblock",
      "right axis deviation, left posterior fascicular block",
    ),
    ("left posterior fascicular block",),
  ),
  "IMI": _infarct("inferior", "II, III, aVF", "inferior MI"),
  "ASMI": _infarct("anteroseptal", "V1-V3", "anteroseptal MI"),
  "AMI": _infarct("anterior", "V2-V4", "anterior MI"),
  "ALMI": _infarct("anterolateral", "V3-V6, I, aVL", "anterolateral MI"),
  "LMI": _infarct("lateral", "I, aVL, V6", "lateral MI"),
  "ILMI": _infarct("inferolateral", "II, III, aVF, V5, V6", "inferolateral MI"),
  "ANEUR": Wording(
    ("persistent ST elevation, consider ventricular aneurysm",),
    (
      "ST-T changes compatible with ventricular aneurysm",
      "ST segment stays elevated in the chest leads, aneurysm possible",
    ),
    ("ventricular aneurysm",),
  ),
  "ACUTE": Wording(
    (
      "ST elevation, consider acute injury",
      "acute MI pattern with ST elevation",
    ),
    ("ST segment elevation, acute injury current", "acute ST elevation"),
    ("ST elevation", "acute myocardial infarction"),
  ),
  "LVH": Wording(
    ("left ventricular hypertrophy", "LVH"),
    ("left ventricular hypertrophy", "signs of LV hypertrophy"),
    ("left ventricular hypertrophy", "ventricular hypertrophy"),
  ),
  "RVH": Wording(
    ("right ventricular hypertrophy", "RVH"),
    (
      "right ventricular hypertrophy",
      "tall R in V1 with right axis, right ventricular hypertrophy",
    ),
    ("right ventricular hypertrophy",),
  ),
  "LAO/LAE": Wording(
    ("left atrial enlargement", "possible left atrial abnormality"),
    ("left atrial enlargement", "broad notched P waves, left atrial overload"),
    ("left atrial enlargement", "left atrial overload"),
  ),
  "RAO/RAE": Wording(
    ("right atrial enlargement", "possible right atrial abnormality"),
    ("right atrial enlargement", "tall peaked P waves, right atrial overload"),
    ("right atrial enlargement", "right atrial overload"),
  ),
  "LVOLT": Wording(
    ("low QRS voltages in limb leads", "low voltage QRS"),
    ("low voltage in the limb leads", "peripheral low voltage"),
    ("low QRS voltage", "low voltage"),
  ),
  "HVOLT": Wording(
    ("high QRS voltage", "high QRS voltage, probable normal variant"),
    ("high QRS amplitudes for a young adult",),
    ("high QRS voltage",),
  ),
  "VCLVH": Wording(
    (
      "voltage criteria for LVH",
      "meets voltage criteria for left ventricular hypertrophy",
    ),
    (
      "QRS voltage fulfils Sokolow-Lyon criteria",
      "voltage criteria for left ventricular hypertrophy",
    ),
    ("voltage criteria for left ventricular hypertrophy",),
  ),
  "ABQRS": Wording(
    ("abnormal QRS",),
    ("QRS complexes are abnormal", "abnormal QRS morphology"),
    ("abnormal QRS",),
  ),
  "QWAVE": Wording(
    ("Q waves present", "abnormal Q waves"),
    ("significant Q waves", "pathologic Q waves"),
    ("Q waves present",),
  ),
  "STD_": Wording(
    ("nonspecific ST depression", "ST depression"),
    ("ST segments are depressed", "ST depression"),
    ("ST depression", "non-specific ST depression"),
  ),
  "STE_": Wording(
    ("nonspecific ST elevation", "ST elevation, early repolarization"),
    (
      "early repolarization with ST elevation",
      "ST elevation, probably early repolarization variant",
    ),
    ("ST elevation", "early repolarization"),
  ),
  "NST_": Wording(
    ("nonspecific ST changes", "minor ST changes"),
    ("nonspecific ST segment changes", "slight ST abnormality"),
    ("non-specific ST changes", "ST changes"),
  ),
  "NDT": Wording(
    ("nonspecific T abnormalities", "borderline T abnormalities"),
    ("non-diagnostic T abnormalities", "unspecific T wave abnormality"),
    ("non-diagnostic T wave abnormality", "T wave abnormalities"),
  ),
  "NT_": Wording(
    ("nonspecific T wave changes",),
    ("minor nonspecific T wave changes", "slight T flattening"),
    ("non-specific T wave changes", "T wave changes"),
  ),
  "LOWT": Wording(
    ("low T wave amplitude", "flat T waves"),
    ("T waves are low or flat", "low amplitude T waves"),
    ("low amplitude T waves",),
  ),
  "INVT": Wording(
    ("T wave inversion",),
    ("T waves are inverted", "inverted T waves"),
    ("inverted T waves", "T wave inversion"),
  ),
  "ISC_": Wording(
    (
      "ST-T changes may be due to hypertrophy and/or ischemia",
      "repolarization abnormality, strain pattern",
    ),
    ("ST-T changes of strain or ischemia", "nonspecific ischemic ST-T changes"),
    ("ischemic ST-T changes", "non-specific ischemia"),
  ),
  "ISCAL": _ischaemia("anterolateral", "I, aVL, V3-V6"),
  "ISCIN": _ischaemia("inferior", "II, III, aVF"),
  "ISCAS": _ischaemia("anteroseptal", "V1-V3"),
  "ISCLA": _ischaemia("lateral", "I, aVL, V5, V6"),
  "ISCIL": _ischaemia("inferolateral", "II, III, aVF, V5, V6"),
  "LNGQT": Wording(
    ("prolonged QT interval", "prolonged QTc"),
    ("QT interval is prolonged", "long QT"),
    ("long QT interval", "prolonged QT"),
  ),
  "DIG": Wording(
    ("ST depression, consider digitalis effect",),
    (
      "sagging ST depression, digitalis effect",
      "ST-T changes as with digitalis",
    ),
    ("digitalis effect",),
  ),
}
