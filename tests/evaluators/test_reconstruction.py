"""Reconstruction: a planted error, and beats at known times."""

import numpy as np
import pytest

from cgdmer_jax.data.index import RecordIndex
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.tasks import reconstruction
from tests.evaluators import planted


class Waves(EcgSource):
  """Recordings with beats at known times."""

  sampling_rate, num_samples, name, split = 100, 1000, "waves", "test"

  def __init__(self):
    pass  # nothing is read

  def __len__(self):
    return 30

  def signal(self, index):
    rng = np.random.default_rng(index)
    time = np.arange(1000) / 100
    ecg = 0.02 * rng.normal(size=(12, 1000))
    for beat in self.beats():
      for at, width, height in (
        (-0.15, 0.02, 0.1),
        (0, 0.015, 1),
        (0.25, 0.05, 0.3),
      ):
        ecg += height * np.exp(-0.5 * ((time - beat - at) / width) ** 2)
    return {
      "ecg": np.rint(1000 * ecg).astype(np.int16),
      "lead_valid": np.ones(12, bool),
    }

  @staticmethod
  def beats():
    return np.arange(0.5, 10, 0.9)


def test_reconstruction_measures_a_planted_error():
  source = Waves()
  names = np.array([str(i) for i in range(30)])
  index = RecordIndex(
    *(names, names, ("x",), np.zeros(30, np.int32)),
    recordings=np.zeros((30, 2), np.uint64),
    labels={},
  )
  encoder = planted.Pretrained(error=0.3, patch_length=50)
  findings = reconstruction.reconstruct(
    encoder.trained, source, index, batch_size=8, num_bootstrap=50
  )
  measures = {(m.setting, m.name.split(", ")[1]): m for m in findings.measures}
  assert len(measures) == 2 * (1 + 12 + 4)
  for setting in reconstruction.KINDS:
    # The error is 0.3 deviations of each patch, the floor of 1e-3 included.
    value = measures[setting, "all"].estimate.value
    assert 0.09 <= value < 0.1
    regions = [measures[setting, r].estimate.value for r in ("QRS", "rest")]
    assert regions[0] < value < regions[1]  # where the signal is, and is not
  model = encoder.trained.model
  model.reconstruct = False
  with pytest.raises(UserError, match="'planted' has no decoder"):
    reconstruction.reconstruct(encoder.trained, source, index, batch_size=8)


@pytest.mark.parametrize("rate", [100, 500])
def test_regions_follow_the_beats(rate):
  signal = Waves().signal(0)["ecg"][1] / 1000
  signal = np.repeat(signal, rate // 100)
  region = reconstruction.regions(signal, rate)
  names = np.array(reconstruction.REGIONS)
  for beat in Waves.beats()[1:-1]:
    at = {-0.15: "P", 0.0: "QRS", 0.25: "T", -0.3: "rest"}
    for delay, name in at.items():
      assert names[region[round((beat + delay) * rate)]] == name
  flat = reconstruction.regions(np.zeros(1000), 100)
  assert (names[flat] == "rest").all()
