"""The probing protocol: subsets, selection on validation, planted answers."""

import numpy as np
import pytest
import scipy.stats

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.scores import comparison
from cgdmer_jax.evaluators.tasks import linear_probe

_NAMES = ("a", "b", "c")
_SIZES = {"train": 600, "validation": 200, "test": 300}


def _data(seed=0, noise=0.5, d=16):
  """Features that hold the labels in three directions, with noise."""
  rng = np.random.default_rng(seed)
  mix = rng.normal(size=(3, d)) * 5
  features, labels = {}, {}
  for split, n in _SIZES.items():
    latent = rng.normal(size=(n, 3))
    x = latent @ mix + noise * rng.normal(size=(n, d)) + 100
    labels[split] = (latent > [0, 0.5, 1]).astype(np.uint8)
    features[split] = x.astype(np.float32)
  return features, labels, np.arange(_SIZES["test"]) // 2


def _probe(features, labels, subjects, **options):
  options = {"num_bootstrap": 50, "seeds": 2} | options
  data = linear.prepare(features, labels, subjects, _NAMES)
  return linear_probe.linear_probe(data, **options)


def _train(x, y, x_validation, y_validation):
  every = np.arange(len(x))[None]
  return linear.train(x, y, every, x_validation, y_validation)[0]


@pytest.fixture(scope="module")
def data():
  return _data()


@pytest.fixture(scope="module")
def result(data):
  return _probe(*data)


def test_settings_of_a_probe(data, result):
  _, labels, _ = data
  n = int(labels["train"].any(axis=1).sum())
  assert [o.setting for o in result.outcomes] == [
    "probe_1",
    "probe_10",
    "probe_100",
  ]
  assert [o.num_train for o in result.outcomes] == [
    int(np.ceil(0.01 * n)),
    int(np.ceil(0.1 * n)),
    n,
  ]
  assert [len(o.strengths) for o in result.outcomes] == [2, 2, 1]
  assert [o.evaluation.num_seeds for o in result.outcomes] == [2, 2, 1]
  belonging = int(labels["test"].any(axis=1).sum())
  assert belonging < _SIZES["test"]
  assert result.outcomes[0].scores.shape == (2, belonging, 3)
  assert all(o.not_converged == 0 for o in result.outcomes)


def test_more_labels_help(result):
  values = [o.evaluation.macro_auroc.value for o in result.outcomes]
  assert values[0] < values[1] < values[2]
  assert values[2] > 0.97


def test_subsets_are_nested_and_seeded():
  one = linear.subset(1234, 0.01, 3)
  ten = linear.subset(1234, 0.1, 3)
  full = linear.subset(1234, 1.0, 3)
  assert (len(one), len(ten), len(full)) == (13, 124, 1234)
  np.testing.assert_array_equal(one, ten[:13])
  np.testing.assert_array_equal(ten, full[:124])
  assert len(np.unique(full)) == 1234
  assert set(one) != set(linear.subset(1234, 0.01, 4))
  # 0.07 * 100 is 7.000000000000001 in floating point.
  assert len(linear.subset(100, 0.07, 0)) == 7


def test_test_data_influence_neither_weights_nor_selection(data, result):
  features, labels, subjects = data
  poisoned = features["test"].copy()
  poisoned[::2] = 1e4 * np.random.default_rng(1).normal(
    size=poisoned[::2].shape
  )
  flipped = labels["test"].copy()
  flipped[:, 0] = 1  # every record belongs
  other = _probe(
    {**features, "test": poisoned}, {**labels, "test": flipped}, subjects
  )
  kept = labels["test"].any(axis=1)
  clean = np.arange(len(kept)) % 2 == 1
  for a, b in zip(result.outcomes, other.outcomes, strict=True):
    assert a.strengths == b.strengths
    np.testing.assert_array_equal(
      a.scores[:, clean[kept]], b.scores[:, clean & kept]
    )


def test_strength_is_chosen_on_validation():
  rng = np.random.default_rng(2)
  n, d = 60, 40
  w = np.zeros(d)
  w[0] = 1
  x, x_validation = rng.normal(size=(n, d)), rng.normal(size=(n, d))
  y = (x @ w + rng.logistic(size=n) > 0)[:, None].astype(np.uint8)
  y_validation = (x_validation @ w > 0)[:, None].astype(np.uint8)
  # Validation that repeats the training labels favours hardly any
  # regularisation; fresh records favour much.
  same = _train(x, y, x, y)
  fresh = _train(x, y, x_validation, y_validation)
  noise = _train(x, y, x_validation, 1 - y_validation)
  assert same.strength == max(linear.STRENGTHS)
  assert noise.strength == min(linear.STRENGTHS)
  assert noise.strength < fresh.strength < same.strength
  assert np.argmin(fresh.validation_losses) == sorted(linear.STRENGTHS).index(
    fresh.strength
  )


def test_planted_answer_reaches_the_theoretical_auroc():
  # One feature separates the classes by `shift` standard deviations, the others
  # are noise: AUROC = Phi(shift / sqrt 2).
  rng = np.random.default_rng(3)
  shift, d = 1.5, 8
  features, labels = {}, {}
  for split, n in {"train": 8000, "validation": 500, "test": 1500}.items():
    labels[split] = np.ones((n, 3), np.uint8)
    labels[split][:, 0] = rng.random(n) < 0.3
    labels[split][:, 1] = rng.random(n) < 0.1
    x = rng.normal(size=(n, d))
    x[:, 4] += shift * labels[split][:, 0]
    x[:, 5] += shift * labels[split][:, 1]
    features[split] = x
  result = _probe(
    features, labels, np.arange(1500), fractions=(1.0,), num_bootstrap=500
  )
  theory = scipy.stats.norm.cdf(shift / np.sqrt(2))
  evaluation = result.outcomes[0].evaluation
  assert evaluation.macro_auroc.low < theory < evaluation.macro_auroc.high
  assert evaluation.labels[0].auroc.value == pytest.approx(theory, abs=0.03)
  assert evaluation.labels[2].skipped == "no negative in test"


def test_uninformative_features_are_at_chance_and_worse(data, result):
  features, labels, subjects = data
  rng = np.random.default_rng(4)
  noise = {k: rng.normal(size=v.shape) for k, v in features.items()}
  other = _probe(noise, labels, subjects)
  for outcome in other.outcomes:
    assert abs(outcome.evaluation.macro_auroc.value - 0.5) < 0.08
  for a, b in zip(result.outcomes, other.outcomes, strict=True):
    macro, p_value = comparison.difference(
      result.test, a, b, num_permutations=100
    )
    assert macro.low > 0
    assert p_value < 0.02


def test_standardisation_does_not_blow_up_rounding():
  rng = np.random.default_rng(5)
  x = np.stack([rng.normal(size=50), np.full(50, 1000.1)], axis=1)
  x[::2, 1] += 1e-4  # float32 noise of a constant feature
  mean, scale = linear.standardise(x.astype(np.float32))
  assert scale[1] == 1
  np.testing.assert_allclose(scale[0], x[:, 0].std(), rtol=1e-5)
  np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-5)


def test_a_label_that_training_lacks_scores_at_chance(data):
  features, labels, subjects = data
  train = labels["train"].copy()
  train[:, 2] = 0
  result = _probe(
    features, {**labels, "train": train}, subjects, fractions=(0.1,)
  )
  assert result.outcomes[0].evaluation.labels[2].auroc.value == 0.5


def test_mistakes_are_explained(data):
  features, labels, subjects = data
  with pytest.raises(UserError, match=r"fraction 10 .*0.01 means 1 %"):
    _probe(features, labels, subjects, fractions=(10,))
  with pytest.raises(UserError, match="seeds must be at least 1"):
    _probe(features, labels, subjects, seeds=0)
  broken = features["train"].copy()
  broken[3, 0] = np.nan
  with pytest.raises(UserError, match="1 of 600 train records are not finite"):
    _probe({**features, "train": broken}, labels, subjects)
  none = {**labels, "validation": np.zeros((200, 3))}
  with pytest.raises(UserError, match="no validation record carries"):
    _probe(features, none, subjects)
