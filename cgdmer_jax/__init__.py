"""CG-DMER: contrastive-generative ECG/report pretraining in JAX."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from cgdmer_jax.inference.model import EcgModel


def __getattr__(name: str) -> str:
  """`__version__`, read when it is asked for."""
  if name != "__version__":
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  from importlib import metadata

  return metadata.version("cgdmer-jax")


def load(
  name_or_directory: str | os.PathLike[str],
  calibration: str | os.PathLike[str] | None = None,
) -> EcgModel:
  """Loads a trained model for recordings in mV, files and sentences.

      model = cgdmer_jax.load("simulated")
      shared, specific = model.encode_ecg(ecg_mv, 500, ["I", "II", "V1"])

  Args:
    name_or_directory: "simulated", the weights that come with the package,
      trained on simulated recordings; a directory that `cgdmer_jax.export`
      wrote; `hf://OWNER/NAME`, such a directory on the Hugging Face hub; or the
      workdir of a run or one of its checkpoints.
    calibration: file of `cgdmer_jax.calibrate`: findings are then the labels of
      the data set that it was fitted on.

  Raises:
    UserError: there is no such model, its files are damaged, or the calibration
      is another model's.
  """
  from cgdmer_jax.inference import model  # JAX takes a second to import

  return model.load(name_or_directory, calibration)
