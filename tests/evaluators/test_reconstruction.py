"""Reconstruction: a planted error, and beats at known times."""

import functools

import numpy as np
import pytest
from sklearn import linear_model

from cgdmer_jax.data.index import RecordIndex
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import beat_regions
from cgdmer_jax.evaluators.probes import ridge
from cgdmer_jax.evaluators.tasks import reconstruction
from cgdmer_jax.models.forward import Restored
from tests.evaluators import planted


class Waves(EcgSource):
  """Recordings with beats at known times."""

  sampling_rate, num_samples, name, split = 100, 1000, "waves", "test"
  label_sets = {}

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


class Dipole(Waves):
  """Leads as they follow from a heart, with a little noise in chest leads."""

  def signal(self, index):
    rng = np.random.default_rng(index)
    limb = np.cumsum(rng.normal(size=(2, 1000)), 1)
    hidden = np.cumsum(rng.normal(size=(1, 1000)), 1)
    axes = np.concatenate([limb, hidden])
    ecg = 10 * np.array(LIMB + CHEST) @ axes
    return {
      "ecg": np.rint(ecg).astype(np.int16),
      "lead_valid": np.ones(12, bool),
    }


# I and II; the others by Einthoven and Goldberger. V1 to V6 see a third axis.
LIMB = [[1, 0, 0], [0, 1, 0], [-1, 1, 0], [-0.5, -0.5, 0]]
LIMB += [[1, -0.5, 0], [-0.5, 1, 0]]
CHEST = [[0.3, -0.2, 0.5]] * 6


def index_of(count, **labels):
  names = np.array([str(i) for i in range(count)])
  return RecordIndex(
    *(names, names, ("x",), np.zeros(count, np.int32)),
    recordings=np.zeros((count, 2), np.uint64),
    labels=labels,
  )


def by_name(findings):
  return {
    (m.setting, m.name.split(", ")[1]): m.estimate.value
    for m in findings.measures
  }


def test_reconstruction_measures_a_planted_error():
  source, index = Waves(), index_of(30)
  encoder = planted.Pretrained(error=0.3, patch_length=50)
  sizes = {"patch_length": 50, "batch_size": 8, "num_bootstrap": 50}
  restore = functools.partial(encoder.trained.reconstruct, batch_size=8)
  values = by_name(reconstruction.reconstruct(restore, source, index, **sizes))
  assert len(values) == 4 * (1 + 4) + 12 + 6 + 6 + 6
  for setting in reconstruction.SETTINGS:
    # The error is 0.3 deviations of each patch, the floor of 1e-3 included.
    value = values[setting, "all"]
    assert 0.09 <= value < 0.1
    # Where the signal is, and where it is not.
    assert values[setting, "QRS"] < value < values[setting, "rest"]
  encoder.trained.model.reconstruct = False
  with pytest.raises(UserError, match="'planted' has no decoder"):
    reconstruction.reconstruct(restore, source, index, **sizes)
  sizes["patch_length"] = 500
  with pytest.raises(UserError, match="2 patches are too short to hide 1"):
    reconstruction.reconstruct(restore, source, index, **sizes)


def test_what_is_hidden():
  valid = np.ones(12, bool)
  valid[[0, 7]] = False
  record = {"ecg": np.zeros((12, 1000), np.int16), "lead_valid": valid}

  def hide(setting, number, length=50):
    return reconstruction._hidden(setting, number, record, length, 100, 0)

  starts = set()
  for number in range(200):
    times = hide("hidden_times", number)
    (at,) = np.flatnonzero(times[1]).reshape(1, 2)  # a second, two patches
    assert at[1] == at[0] + 1 and 1 <= at[0] <= 17
    np.testing.assert_array_equal(times, times[1] & valid[:, None])
    starts.add(int(at[0]))
    limb = hide("hidden_limb_leads", number)
    assert limb.all(1)[:6].sum() == 3 and limb.sum() == 3 * 20
  assert starts == set(range(1, 18))
  chest = hide("hidden_chest_leads", 0)
  np.testing.assert_array_equal(chest.all(1), valid & (np.arange(12) > 5))
  assert chest.sum() == 5 * 20
  three = [hide("three_hidden_chest_leads", i).any(1) for i in range(99)]
  assert not np.any(three, 0)[:8][~chest.any(1)[:8]].any()
  assert np.mean(three, 0)[6] == pytest.approx(0.5, abs=0.15)
  assert {int(x.sum()) for x in three} == {2, 3}  # V2 is missing
  assert hide("hidden_times", 3, 100)[1].sum() == 1
  valid[1:5] = False  # one limb lead is left
  assert not hide("hidden_limb_leads", 0).any()
  assert not hide("hidden_chest_leads", 0).any()


def test_regular_rhythms_are_apart():
  names = {"rhythm": ("SR", "AFIB"), "form": ("PVC", "LPR")}
  labels = {
    "rhythm": np.array([[1, 0], [1, 0], [0, 1], [1, 1], [0, 0], [1, 0]]),
    "form": np.array([[0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 1]]),
  }
  regular = reconstruction.is_regular(labels, names)
  assert regular.tolist() == [True, False, False, False, False, True]
  del names["form"]
  assert reconstruction.is_regular(labels, names)[1]
  assert reconstruction.is_regular(labels, {"form": ("PVC", "LPR")}) is None

  class Labelled(Waves):
    label_sets = {"rhythm": ("SR", "AFIB")}

  index = index_of(30, rhythm=np.eye(2, dtype=np.uint8)[np.arange(30) // 20])

  def restore(ecg, lead_valid, hidden):  # half of the variance in 20 records
    del lead_valid, hidden
    share = np.where(restore.place + np.arange(len(ecg)) < 20, 0.5, 0.1)
    restore.place = (restore.place + len(ecg)) % 30
    mean = ecg.reshape(len(ecg), 12, 10, 100).mean(-1).repeat(100, -1)
    x = (ecg - mean) * (1 - share**0.5)[:, None, None] + mean
    return Restored(ecg.astype(np.float32), x, mean)

  restore.place = 0
  values = by_name(
    reconstruction.reconstruct(
      restore, Labelled(), index, patch_length=100, batch_size=10
    )
  )
  assert values["hidden_times_regular", "all"] == pytest.approx(0.5)
  assert values["hidden_times_irregular", "all"] == pytest.approx(0.1)
  assert ("hidden_times", "all") not in values


def test_ridge_is_that_of_scikit_learn():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(500, 9)) @ rng.normal(size=(9, 9))
  given, wanted = np.array([0, 2, 3, 7]), np.array([1, 8])
  moments = x.T @ x / len(x)
  penalty = ridge.STRENGTH * np.trace(moments[np.ix_(given, given)]) / 4
  theirs = linear_model.Ridge(alpha=penalty * len(x), fit_intercept=False)
  theirs.fit(x[:, given], x[:, wanted])
  ours = ridge.coefficients(moments, given, wanted)
  np.testing.assert_allclose(ours, theirs.coef_.T, rtol=1e-6)


def test_ridge_restores_what_arithmetic_can():
  preprocess = planted.Pretrained().trained.config.preprocess
  source = Dipole()
  fitted = ridge.fit(source, np.arange(30), preprocess, 50, 2)
  values = by_name(
    reconstruction.reconstruct(
      fitted.restore, source, index_of(30), patch_length=50, batch_size=30
    )
  )
  assert values["hidden_limb_leads", "all"] < 1e-3
  # A third of what chest leads see is beyond the limb leads' reach; see CHEST.
  truth = 0.25 / (0.09 + 0.04 + 0.25)
  assert values["hidden_chest_leads", "all"] == pytest.approx(truth, abs=0.06)
  # A random walk, given both ends, but known up to the mean of each patch.
  assert values["hidden_times", "all"] < 1
  records = [source.signal(i) for i in range(3)]
  ecg = np.stack([r["ecg"] for r in records])
  valid = np.stack([r["lead_valid"] for r in records])
  valid[1, 3] = False
  hidden = np.zeros((3, 12, 20), bool)
  hidden[0, 6:], hidden[1, :2], hidden[2, :, 4:6] = True, True, True
  hidden &= valid[..., None]
  signals = fitted.restore(ecg, valid, hidden)
  seen = ~np.repeat(hidden, 50, -1)
  np.testing.assert_allclose(
    signals.restored[seen], signals.original[seen], atol=1e-5
  )
  # By hand, one lead from the ten that are in view.
  x = signals.original - signals.mean
  given = [i for i in range(12) if i not in (0, 1, 3)]
  weights = ridge.coefficients(fitted.leads, np.array(given), np.array([1]))
  np.testing.assert_allclose(
    signals.restored[1, 1] - signals.mean[1, 1],
    weights[:, 0] @ x[1, given],
    atol=1e-5,
  )


@pytest.mark.parametrize("rate", [100, 500])
def test_regions_follow_the_beats(rate):
  signal = Waves().signal(0)["ecg"][1] / 1000
  signal = np.repeat(signal, rate // 100)
  region = beat_regions.find(signal, rate)
  names = np.array(beat_regions.REGIONS)
  for beat in Waves.beats()[1:-1]:
    at = {-0.15: "P", 0.0: "QRS", 0.25: "T", -0.3: "rest"}
    for delay, name in at.items():
      assert names[region[round((beat + delay) * rate)]] == name
  flat = beat_regions.find(np.zeros(1000), 100)
  assert (names[flat] == "rest").all()
