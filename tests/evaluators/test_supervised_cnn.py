"""A network from scratch learns what stands in single leads."""

import numpy as np
import pytest

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import supervised_cnn
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.encoders.baseline import Baseline
from cgdmer_jax.evaluators.task import Inputs, Options
from cgdmer_jax.evaluators.tasks import TASKS
from tests.evaluators import planted


class Bumps(planted.Source):
  """A wave in the label's lead, upright or inverted, at any time."""

  num_samples = 200

  def signal(self, index):
    rng = np.random.default_rng(index)
    time = np.arange(200) - rng.integers(40, 160)
    wave = np.exp(-0.5 * (time / 4) ** 2)
    ecg = 0.05 * rng.normal(size=(12, 200))
    for j, lead in enumerate((0, 1, 7, 11)):
      ecg[lead] += wave * (2.0 * self.labels[index, j] - 1)
    ecg = np.rint(1000 * ecg).astype(np.int16)
    return {"ecg": ecg, "lead_valid": np.ones(12, bool)}


class BumpData(planted.Data):
  """Fewer of such records."""

  def __init__(self):
    super().__init__()
    self._sources = {split: Bumps(split) for split in planted.SIZES}
    for split, source in self._sources.items():
      n = {"train": 400}.get(split, 150)
      source.ecg, source.labels = source.ecg[:n], source.labels[:n]


def test_a_network_learns_from_scratch(tmp_path, monkeypatch):
  monkeypatch.setattr(supervised_cnn, "WIDTHS", (16, 16))
  task = TASKS["linear_probe"]
  baseline = Baseline(supervised_cnn.NAME, 16)
  store = features.Store(baseline, tmp_path)
  given = Inputs(store, BumpData(), "superclass")
  config = planted.evaluation()
  config.update(num_bootstrap=50, fractions=(1.0,))
  findings = task.run_of(baseline)(given, Options(task, config, given))
  (outcome,) = findings.outcomes
  assert (outcome.setting, outcome.num_train) == ("probe_100", 400)
  assert outcome.evaluation.macro_auroc.value > 0.9
  assert "probe_100" in findings.details["calibration_probe"]
  # No other task has a row of it, and it gives no features.
  others = [t for t in TASKS.values() if t.run_of(baseline)]
  assert others == [task]
  with pytest.raises(UserError, match="supervised_cnn is no encoder"):
    store.ecg(given.data.test)
