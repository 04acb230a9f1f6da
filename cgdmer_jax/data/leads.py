"""The leads of a 12-lead ECG, in the one order that everything here uses."""

from __future__ import annotations

LEADS = (
  "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
)  # fmt: skip
NUM_LEADS = len(LEADS)
