"""The leads of a 12-lead ECG, in the one order that everything here uses."""

from __future__ import annotations

LEADS = (
  "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
)  # fmt: skip
NUM_LEADS = len(LEADS)

# How much of a dipole in the heart each lead sees, for its components to the
# left, downwards and to the front (Dower, Machado and Osborne, "On deriving the
# electrocardiogram from vectorcardiographic leads", Clinical Cardiology 1980).
# III and the augmented leads follow from I and II.
_I, _II = (0.632, -0.235, -0.059), (0.235, 1.066, 0.132)
VECTORS = (
  _I,
  _II,
  tuple(b - a for a, b in zip(_I, _II, strict=True)),
  tuple(-(a + b) / 2 for a, b in zip(_I, _II, strict=True)),
  tuple(a - b / 2 for a, b in zip(_I, _II, strict=True)),
  tuple(b - a / 2 for a, b in zip(_I, _II, strict=True)),
  (-0.515, 0.157, 0.917),
  (0.044, 0.164, 1.387),
  (0.882, 0.098, 1.277),
  (1.213, 0.127, 0.601),
  (1.125, 0.127, 0.086),
  (0.831, 0.076, -0.230),
)
