"""What reports say beside single statements: verdicts, summaries, remarks."""

from __future__ import annotations

from data_builders.synthetic_ecg import phrases

NORMAL = phrases.Wording(
  ("normal ECG", "within normal limits"),
  ("normal ECG", "normal tracing", "ECG within normal limits"),
  ("normal ECG",),
)
# Of a record whose only remark is the rate or a respiratory variation of it.
OTHERWISE_NORMAL = phrases.Wording(
  ("otherwise normal ECG",),
  ("otherwise normal ECG", "otherwise unremarkable"),
  ("otherwise normal ECG", "normal ECG"),
)

# Superclass words, by the diagnostic class of SCP.
CLASSES: dict[str, tuple[str, ...]] = {
  "MI": ("myocardial infarction", "infarction", "evidence of myocardial "
         "infarction"),
  "STTC": ("ST-T changes", "ST/T abnormality", "repolarization abnormality",
           "ST and T wave changes"),
  "CD": ("conduction disturbance", "conduction abnormality",
         "disturbed conduction"),
  "HYP": ("hypertrophy", "cardiac hypertrophy", "chamber hypertrophy or "
          "enlargement"),
}  # fmt: skip

STAGE = {
  "old": ("old", "previous", "chronic", "age undetermined"),
  "recent": ("recent", "subacute", "possibly recent"),
  "acute": ("acute", "possibly acute", "evolving"),
}

RESPONSE = {
  "slow": ("with slow ventricular response",),
  "fast": ("with rapid ventricular response", "with fast ventricular rate"),
  "": ("with controlled ventricular response", ""),
}

HEDGES = ("possible", "probable", "consider", "cannot rule out", "suspected")

# Nothing of the signal; the encoder should learn to keep these apart.
FILLERS = (
  "compared with the previous tracing, no significant change",
  "no previous tracing available for comparison",
  "when compared with the ECG of last year, changes are similar",
  "clinical correlation is suggested",
  "clinical correlation recommended",
  "please correlate with symptoms and history",
  "electronically signed by the attending physician",
  "confirmed by a second reader",
  "unconfirmed report",
  "reviewed by cardiology",
  "interpretation made without clinical data",
  "follow-up as indicated",
  "tracing taken before surgery",
  "routine check",
  "some baseline drift",
)
