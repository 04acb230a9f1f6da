"""`golden.npz`: recordings, and what the model makes of them.

Whoever has the directory can see whether it gives the same on another machine,
with another version of JAX, or after a download. The recordings are drawn by
formula, so that no patient's are passed on.

ecg_mv (3, 8, 5000), sampling_rate, leads (8)   what `encode_ecg` takes; of the
                                    second recording V3 is missing (NaN)
ecg (3, 12, T), lead_valid (3, 12)  what the StableHLO program takes
shared, specific (3, D)             embeddings; specific where there is one
probabilities (3, K)                of the labels in `readout.json`, NaN where
                                    one has none
sentences (S), reports (S, D)       texts and their shared embeddings
sha256                              of `weights.safetensors`
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import warnings
import zipfile
from collections.abc import Iterator

import numpy as np

from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.exchange import program
from cgdmer_jax.inference import bundle, model
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.inference.readout import unit
from cgdmer_jax.recordings import read, signals

FILE_NAME = "golden.npz"
LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
SENTENCES = ("sinus rhythm", "atrial fibrillation")
_RATE = 500
_LIMIT = 1e-3  # of the largest value; other hardware rounds otherwise
# Of P, Q, R, S and T: seconds from R, width in seconds, mV in each lead.
_WAVES = (
  (-0.17, 0.022, (0.08, 0.14, 0.05, 0.06, 0.07, 0.07, 0.07, 0.06)),
  (-0.03, 0.009, (-0.06, -0.05, 0.0, 0.0, -0.03, -0.08, -0.1, -0.09)),
  (0.0, 0.012, (0.6, 1.1, 0.2, 0.4, 0.8, 1.3, 1.2, 0.9)),
  (0.03, 0.013, (-0.1, -0.2, -0.9, -1.2, -0.8, -0.4, -0.2, -0.1)),
  (0.29, 0.055, (0.2, 0.3, -0.08, 0.4, 0.45, 0.4, 0.3, 0.22)),
)


def recordings() -> np.ndarray:
  """Three recordings of 10 s at 500 Hz, at 55, 75 and 110 beats a minute.

  Returns:
    float32 (3, 8, 5000) in mV, leads as in `LEADS`.
  """
  time = np.arange(10 * _RATE) / _RATE
  drawn = []
  for i, rate in enumerate((55, 75, 110)):
    ecg = 0.03 * np.sin(2 * np.pi * (0.3 * time + np.arange(8)[:, None] / 8))
    for beat in np.arange(-1, 21) * 60 / rate + 0.4:
      for delay, width, size in _WAVES:
        wave = np.exp(-0.5 * ((time - beat - delay) / width) ** 2)
        ecg = ecg + np.array(size)[:, None] * wave * (1 - 0.2 * i)
    drawn.append(ecg)
  ecg = np.stack(drawn).round(3).astype(np.float32)
  ecg[1, LEADS.index("V3")] = np.nan
  return ecg


def make(loaded: EcgModel, directory: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of the file, for the model in a directory."""
  ecg_mv = recordings()
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # they are no real recordings
    given = {"ecg_mv": ecg_mv, "sampling_rate": _RATE, "leads": LEADS}
    arrays = {k: np.asarray(x) for k, x in given.items()}
    prepared = [
      loaded.prepare(
        read.FileRecording("", "", signals.recording(LEADS, x, 1e3, _RATE))
      )
      for x in ecg_mv.astype(np.float64)
    ]
    arrays |= {
      "ecg": np.stack([x.windows.ecg[0] for x in prepared]),
      "lead_valid": np.stack([x.windows.lead_valid[0] for x in prepared]),
      "sentences": np.array(SENTENCES),
      "sha256": np.array(hash_of(directory / bundle.WEIGHTS)),
    }
    return arrays | _outputs(loaded, arrays)


def _outputs(
  loaded: EcgModel, arrays: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """What a model makes of the recordings and sentences."""
  leads = arrays["leads"].tolist()
  rate = float(arrays["sampling_rate"])
  shared, specific = loaded.encode_ecg(arrays["ecg_mv"], rate, leads)
  found = {"shared": shared}
  if specific is not None:
    found["specific"] = specific
  if loaded.trained.model.use_report:
    found["reports"] = loaded.encode_report(arrays["sentences"].tolist())
  if loaded.readout:
    cosines = unit(shared) @ loaded.readout.classes.T
    found["probabilities"] = loaded.readout.probabilities(cosines)
  return found


@dataclasses.dataclass(frozen=True)
class Difference:
  """How far an output is from the one in the file.

  Attributes:
    name: of the output, and what made it.
    value: largest difference, as a share of the largest value.
    limit: what is allowed.
  """

  name: str
  value: float
  limit: float = _LIMIT

  @property
  def is_small(self) -> bool:
    """Whether it is within the limit; NaN is not."""
    return self.value <= self.limit

  def __str__(self) -> str:
    verdict = "ok" if self.is_small else f"above {self.limit:g}"
    return f"{self.name:28} {self.value:8.1e}  {verdict}"


def compare(directory: pathlib.Path) -> Iterator[Difference]:
  """Compares a directory with its own `golden.npz`.

  Args:
    directory: an export.

  Yields:
    A difference for each output of the model, and of the StableHLO program.

  Raises:
    UserError: a file is missing or damaged, or they do not belong together.
  """
  if not bundle.is_bundle(directory):
    raise UserError(f"no {bundle.WEIGHTS} in {directory}; expected an export")
  known = _read(directory / FILE_NAME)
  if str(known["sha256"]) != hash_of(directory / bundle.WEIGHTS):
    raise UserError(
      f"{bundle.WEIGHTS} and {FILE_NAME} in {directory} are of two exports, or"
      " damaged; export the run again"
    )
  loaded = model.load(directory)
  encode = program.read(directory / program.FILE_NAME)
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    found = _outputs(loaded, known)
  for name, x in found.items():
    yield _difference(f"{name}, model", x, known.get(name))
  found = encode(known["ecg"], known["lead_valid"])
  for name, x in found.items():
    yield _difference(f"{name}, StableHLO", np.asarray(x), known.get(name))


def _difference(
  name: str, found: np.ndarray, known: np.ndarray | None
) -> Difference:
  if known is None or known.shape != found.shape:
    return Difference(name, np.inf)
  there = np.isfinite(known)
  if not there.any() or (np.isfinite(found) != there).any():
    return Difference(name, np.inf)
  gap = np.abs(found[there] - known[there]).max()
  return Difference(name, float(gap / np.abs(known[there]).max()))


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
  needed = ("ecg_mv", "sampling_rate", "leads", "ecg", "lead_valid", "shared")
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = dict(file)
    for name in (*needed, "sentences", "sha256"):
      arrays[name]  # noqa: B018
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
    raise UserError(
      f"{path} cannot be read ({one_line(e)}); export the run again, without"
      " --small"
    ) from e
  return arrays


def hash_of(path: pathlib.Path) -> str:
  """SHA-256 of a file."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
