"""`cgdmer_jax.load`: a trained model on recordings in mV and files."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from cgdmer_jax import paths, sharding
from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import calibration as calibration_lib
from cgdmer_jax.inference import loading, result
from cgdmer_jax.inference.readout import Readout, unit
from cgdmer_jax.inference.result import Finding, Prepared, RecordResult
from cgdmer_jax.models.forward import Restored
from cgdmer_jax.recordings import limb_leads, quality, read, rejected, signals
from cgdmer_jax.recordings import windows as windows_lib
from cgdmer_jax.recordings.tables import Defaults
from cgdmer_jax.trained_model import TrainedModel

Array = Any  # whatever NumPy takes for an array


class EcgModel:
  """A pretrained pair of encoders with everything that belongs to it.

  Recordings are arrays in mV: float (L, T), or (N, L, T) for N recordings of
  one length. `leads` names their L rows in any order, out of I, II, III, aVR,
  aVL, aVF, V1 to V6; limb leads that follow from others by arithmetic are
  derived, other missing leads are left out, and one lead is enough. Any
  sampling rate and any length from one patch on: recordings are resampled, and
  cut into windows of 10 s whose embeddings are averaged (`windows.cut`). NaN is
  a missing sample. Filter and normalisation are those of the pretraining.

  All results are NumPy arrays or plain objects; where (L, T) was given, they
  have no leading axis N.

  Attributes:
    trained: the model on arrays of int16.
    readout: labels with their calibration; None: it has none.
  """

  def __init__(self, trained: TrainedModel, readout: Readout | None):
    """Wraps a model; use `cgdmer_jax.load`."""
    self.trained, self.readout = trained, readout
    self._sentences: dict[tuple[str, ...], np.ndarray] = {}

  @property
  def sampling_rate(self) -> int:
    """Hz that recordings are resampled to."""
    return self.trained.config.preprocess.sampling_rate

  def encode_ecg(
    self, ecg_mv: Array, sampling_rate: float, leads: Sequence[str]
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeds recordings.

    Returns:
      Shared and specific embedding, float32 (N, D) each; the specific one is
      None where the recipe has no such encoder.

    Raises:
      UserError: shape, leads or rate cannot be right, or a recording has no
        usable lead.
    """
    prepared, single = self._prepare_arrays(ecg_mv, sampling_rate, leads)
    shared, specific = self.embed(prepared)
    if single:
      return shared[0], None if specific is None else specific[0]
    return shared, specific

  def encode_report(self, texts: Sequence[str]) -> np.ndarray:
    """Embeds sentences or reports; float32 (len(texts), D), not normalised.

    Raises:
      UserError: the recipe has no report encoder, or `texts` is empty.
    """
    if isinstance(texts, str) or not len(texts):
      raise UserError("texts must be a list of at least one sentence")
    return self.trained.encode_report(list(texts)).shared

  def zero_shot(
    self,
    ecg_mv: Array,
    sampling_rate: float,
    leads: Sequence[str],
    sentences: Sequence[str],
  ) -> np.ndarray:
    """Cosine of each recording and each sentence, float32 (N, S).

    Cosines of one sentence may be compared between recordings; those of two
    sentences may not.

    Raises:
      UserError: see `encode_ecg` and `encode_report`.
    """
    shared, _ = self.encode_ecg(ecg_mv, sampling_rate, leads)
    return unit(shared) @ unit(self._encode_sentences(tuple(sentences))).T

  def findings(
    self, ecg_mv: Array, sampling_rate: float, leads: Sequence[str]
  ) -> Any:
    """Labels with calibrated probabilities, the most probable first.

    Returns:
      A tuple of `Finding` for each of N recordings.

    Raises:
      UserError: see `encode_ecg`; or the model has no calibration.
    """
    readout = self._need_readout()
    shared, _ = self.encode_ecg(ecg_mv, sampling_rate, leads)
    ranked = [result.rank_findings(readout, x) for x in np.atleast_2d(shared)]
    return ranked[0] if shared.ndim == 1 else ranked

  def reconstruct(
    self,
    ecg_mv: Array,
    sampling_rate: float,
    leads: Sequence[str],
    hidden: Array,
  ) -> Restored:
    """Hides patches of the first window of each recording and restores them.

    Args:
      ecg_mv: recordings.
      sampling_rate: Hz.
      leads: names of their rows.
      hidden: bool (12, P): which patches of `config.model.patch_length` samples
        are hidden, leads in the order of `LEADS`.

    Returns:
      float32 (N, 12, T) each, at `sampling_rate` of the model; see
      `TrainedModel.reconstruct` for the unit.

    Raises:
      UserError: see `encode_ecg`; the recipe has no decoder, or `hidden` has
        another shape.
    """
    prepared, single = self._prepare_arrays(ecg_mv, sampling_rate, leads)
    ecg = np.stack([x.windows.ecg[0] for x in prepared])
    valid = np.stack([x.windows.lead_valid[0] for x in prepared])
    shape = ecg.shape[1], ecg.shape[2] // self._patch_length
    hidden = np.asarray(hidden, bool)
    if hidden.shape != shape:
      raise UserError(f"hidden has the shape {hidden.shape}, expected {shape}")
    every = np.broadcast_to(hidden, (len(ecg), *shape)).copy()
    restored = self.trained.reconstruct(ecg, valid, every)
    if not single:
      return restored
    return jax.tree.map(lambda x: x[0], restored)

  def predict(
    self,
    path: str | os.PathLike[str],
    sentences: Sequence[str] = (),
    defaults: Defaults = Defaults(),  # noqa: B008
  ) -> RecordResult:
    """Reads a file of any known format, and says what the model finds in it.

    Args:
      path: see `recordings.read.read`.
      sentences: to be compared with the recording.
      defaults: rate, unit and leads of tables that do not say them.

    Raises:
      UserError: the file cannot be used.
    """
    try:
      prepared = self.prepare(read.read(path, defaults))
    except rejected.Rejected as e:
      raise UserError(f"{path}: {e}") from e
    return self.analyse([prepared], sentences)[0]

  def prepare(self, source: read.FileRecording) -> Prepared:
    """Makes a recording what the model reads, on the host.

    Raises:
      rejected.Rejected: nothing of it is usable.
    """
    whole, derived = limb_leads.derive(source.recording)
    usual = self.readout.amplitude if self.readout else None
    # Before the rounding: a wrong unit may be the reason that it fails.
    flags = quality.check(source.recording, usual)
    try:
      windows = windows_lib.cut(whole, self.sampling_rate, self._patch_length)
    except rejected.Rejected as e:
      doubts = [x.text for x in flags if x.kind == "amplitude"]
      raise type(e)("; ".join([str(e), *doubts])) from e
    return Prepared(
      source.file,
      source.format,
      source.recording,
      derived,
      windows,
      flags,
      (*source.warnings, *(f"not used: {x}" for x in windows.unusable)),
    )

  def embed(
    self, prepared: Sequence[Prepared]
  ) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean embedding of the windows of each recording, float32 (N, D) each."""
    owner = np.repeat(
      np.arange(len(prepared)), [len(x.windows.ecg) for x in prepared]
    )
    ecg = [window for x in prepared for window in x.windows.ecg]
    valid = np.concatenate([x.windows.lead_valid for x in prepared])
    lengths = np.array([x.shape[1] for x in ecg])
    parts: list[Any] = [None] * len(ecg)
    for length in np.unique(lengths):
      rows = np.flatnonzero(lengths == length)
      found = self.trained.encode_ecg(
        np.stack([ecg[i] for i in rows]), valid[rows]
      )
      for k, i in enumerate(rows):
        parts[i] = (
          found.shared[k],
          None if found.specific is None else found.specific[k],
        )

    def mean(part: int) -> np.ndarray:
      values = np.stack([x[part] for x in parts])
      every = range(len(prepared))
      return np.stack([values[owner == i].mean(axis=0) for i in every])

    return mean(0), None if parts[0][1] is None else mean(1)

  def analyse(
    self, prepared: Sequence[Prepared], sentences: Sequence[str] = ()
  ) -> list[RecordResult]:
    """What the model says of each recording."""
    shared, specific = self.embed(prepared)
    texts, readout = tuple(sentences), self.readout
    vectors = unit(self._encode_sentences(texts)) if texts else shared[:0]
    return [
      RecordResult(
        record,
        x,
        None if specific is None else specific[i],
        result.rank_findings(readout, x) if readout else (),
        result.compare_sentences(texts, vectors, x, readout),
        result.find_evidence(readout, x) if readout else (),
        readout.dataset if readout else "",
      )
      for i, (record, x) in enumerate(zip(prepared, shared, strict=True))
    ]

  @property
  def _patch_length(self) -> int:
    return self.trained.config.model.patch_length

  def _need_readout(self) -> Readout:
    if self.readout is None:
      raise UserError(
        "this model has no calibrated labels; make them with python -m"
        " cgdmer_jax.export, or ask with sentences of your own"
      )
    return self.readout

  def _encode_sentences(self, texts: tuple[str, ...]) -> np.ndarray:
    if texts not in self._sentences:
      self._sentences[texts] = self.encode_report(texts)
    return self._sentences[texts]

  def _prepare_arrays(
    self, ecg_mv: Array, sampling_rate: float, leads: Sequence[str]
  ) -> tuple[list[Prepared], bool]:
    """Checks arrays, and makes them model input; warns of doubtful units."""
    ecg = np.asarray(ecg_mv, np.float64)
    single = ecg.ndim == 2
    ecg = ecg[None] if single else ecg
    if ecg.ndim != 3 or ecg.shape[1] != len(leads) or not ecg.shape[0]:
      raise UserError(
        f"ecg_mv has the shape {ecg.shape}, leads has {len(leads)} names;"
        " expected (leads, samples) or (records, leads, samples)"
      )
    unknown = [x for x in leads if signals.lead_index(x) is None]
    if unknown:
      raise UserError(f"leads={unknown}: not among the 12; leave them out")
    try:
      prepared = [
        self.prepare(
          read.FileRecording(
            f"record {i}",
            "array",
            signals.recording(leads, rows, 1e3, float(sampling_rate)),
          )
        )
        for i, rows in enumerate(ecg)
      ]
    except rejected.Rejected as e:
      raise UserError(str(e)) from e
    for x in prepared:
      for flag in x.quality:
        if flag.kind == "amplitude":
          warnings.warn(f"{x.file}: amplitude {flag.text}", stacklevel=3)
    return prepared, single


def load(
  name_or_directory: str | os.PathLike[str],
  calibration: str | os.PathLike[str] | None = None,
) -> EcgModel:
  """Loads a model; see `cgdmer_jax.load`."""
  mesh = sharding.make_mesh((-1, 1, 1))
  model = EcgModel(*loading.load(os.fspath(name_or_directory), mesh))
  if calibration:
    path = paths.local(calibration, "calibration")
    model.readout = calibration_lib.apply(
      calibration_lib.read(path), model.trained, model.readout
    )
  return model


__all__ = ["EcgModel", "Finding", "Prepared", "RecordResult", "load"]
