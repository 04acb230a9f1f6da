"""What a model says of one recording: everything that a page needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.inference.readout import Readout, unit
from cgdmer_jax.recordings.codec import Recording
from cgdmer_jax.recordings.quality import Flag
from cgdmer_jax.recordings.windows import Windows

NUM_EVIDENCE = 3


@dataclasses.dataclass(frozen=True)
class Finding:
  """A label and how much speaks for it.

  Attributes:
    label_set: its set, such as "all".
    code: its name in the calibration set, such as AFIB.
    name: what it means.
    probability: calibrated; None where the set had too few positives.
    similarity: cosine of the recording and the sentences of the label.
  """

  label_set: str
  code: str
  name: str
  probability: float | None
  similarity: float


@dataclasses.dataclass(frozen=True)
class Sentence:
  """A sentence and how near it is to the recording.

  Attributes:
    text: the sentence.
    similarity: cosine of both.
    percentile: share of the recordings of the calibration set that are less
      near, 0..1; None without such a set.
  """

  text: str
  similarity: float
  percentile: float | None = None


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A recording that the model can read.

  Attributes:
    file: where it is from.
    format: of the file.
    recording: as it was read, in microvolt, without derived leads.
    derived: limb leads that were computed from others.
    windows: what the model reads.
    quality: doubts about the recording.
    warnings: of the reader.
  """

  file: str
  format: str
  recording: Recording
  derived: tuple[str, ...]
  windows: Windows
  quality: tuple[Flag, ...]
  warnings: tuple[str, ...]

  @property
  def ecg_mv(self) -> np.ndarray:
    """The recording in mV, float (12, samples); NaN where nothing is known."""
    return self.recording.signal / 1e3

  @property
  def seconds(self) -> float:
    """Its length."""
    return self.recording.signal.shape[1] / self.recording.sampling_rate

  @property
  def leads_used(self) -> tuple[str, ...]:
    """Leads that the model reads in at least one window."""
    used = self.windows.lead_valid.any(axis=0)
    return tuple(
      name for name, is_used in zip(LEADS, used, strict=True) if is_used
    )

  @property
  def leads_missing(self) -> dict[str, str]:
    """Lead -> why it is not read, or not in every window."""
    return self.windows.faults


@dataclasses.dataclass(frozen=True)
class RecordResult:
  """What the model says of a recording.

  Attributes:
    prepared: the recording and what the model read of it.
    shared: float32 (D,), embedding that is compared with sentences.
    specific: float32 (D,), the ECG's own part; None without such an encoder.
    findings: labels, the most probable first, those without a probability last.
    sentences: those that were asked for, in their order.
    evidence: the nearest known sentences of reports, the nearest first.
    calibration: the data set behind the probabilities; empty without one.
  """

  prepared: Prepared
  shared: np.ndarray
  specific: np.ndarray | None
  findings: tuple[Finding, ...]
  sentences: tuple[Sentence, ...]
  evidence: tuple[Sentence, ...]
  calibration: str


def rank_findings(readout: Readout, shared: np.ndarray) -> tuple[Finding, ...]:
  """The labels of a readout for one embedding (D,)."""
  cosines = readout.classes @ unit(shared)
  probabilities = readout.probabilities(cosines[None])[0]
  findings = [
    Finding(
      label.label_set,
      label.code,
      label.name,
      None if label.slope is None else float(p),
      float(cosine),
    )
    for label, p, cosine in zip(
      readout.labels, probabilities, cosines, strict=True
    )
  ]
  return tuple(
    sorted(
      findings,
      key=lambda x: (x.probability is None, -(x.probability or 0.0)),
    )
  )


def compare_sentences(
  texts: Sequence[str],
  vectors: np.ndarray,
  shared: np.ndarray,
  readout: Readout | None,
) -> tuple[Sentence, ...]:
  """Sentences with their unit vectors (S, D), beside one embedding (D,)."""
  if not texts:
    return ()
  cosines = vectors @ unit(shared)
  percentiles = [None] * len(texts)
  if readout is not None and len(readout.reference):
    others = readout.reference @ vectors.T
    percentiles = (others < cosines).mean(axis=0).tolist()
  rows = zip(texts, cosines.tolist(), percentiles, strict=True)
  return tuple(Sentence(*row) for row in rows)


def find_evidence(readout: Readout, shared: np.ndarray) -> tuple[Sentence, ...]:
  """The known sentences of reports that are nearest to one embedding (D,)."""
  cosines = readout.vectors @ unit(shared)
  nearest = np.argsort(-cosines)[:NUM_EVIDENCE]
  return tuple(
    Sentence(readout.statements[i], float(cosines[i])) for i in nearest
  )
