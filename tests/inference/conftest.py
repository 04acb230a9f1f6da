import numpy as np
import pytest

import cgdmer_jax
from data_builders.synthetic_ecg import simulator


@pytest.fixture(scope="session")
def model():
  """The weights that come with the package."""
  return cgdmer_jax.load("simulated")


@pytest.fixture(scope="session")
def ecg_mv():
  """Simulated recordings at 500 Hz, in whole microvolts: (4, 12, 5000)."""
  found, index = [], 2_500_000_000  # of no split
  while len(found) < 4:
    record = simulator.record(0, index, 500)
    index += 1
    if record["lead_valid"].all():
      found.append(record["ecg"])
  return np.stack(found) / 1e3
