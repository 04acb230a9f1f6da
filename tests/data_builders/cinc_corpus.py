"""A small corpus in the layout of Chapman-Shaoxing-Ningbo or CPSC2018."""

import pathlib

import numpy as np
import wfdb

from cgdmer_jax.data.leads import LEADS
from data_builders import build

RATE = 500
CODES = {"csn": "426783006", "cpsc2018": "426783006"}  # of a normal rhythm


def signal(number, seconds=10):
  """Noise in mV, (samples, 12)."""
  rng = np.random.default_rng(number)
  return rng.normal(0, 0.3, (seconds * RATE, 12)).round(3)


def name_of(corpus, number):
  return f"JS{number:05}" if corpus == "csn" else f"A{number:04}"


def write_record(folder, name, mv, code=CODES["csn"]):
  """Writes (samples, 12) mV, 1 uV a step."""
  folder.mkdir(parents=True, exist_ok=True)
  wfdb.wrsamp(
    name, RATE, ["mV"] * 12, list(LEADS), mv, fmt=["16"] * 12,
    adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(folder),
    comments=[f"Dx: {code}"],
  )  # fmt: skip


def write(folder, corpus, signals):
  """Writes a record for each number -> signal."""
  for number, mv in signals.items():
    write_record(pathlib.Path(folder), name_of(corpus, number), mv)


def build_set(folder, data_dir, corpus="csn", rate=100, **kwargs):
  """Builds the data set of a corpus; returns its folder."""
  return build.build(
    f"{corpus}/{rate}hz", manual_dir=folder, data_dir=data_dir, **kwargs
  )
