"""Simulated ECG/report pairs as a TFDS data set."""

from __future__ import annotations

import dataclasses
import functools

import tensorflow_datasets as tfds

from cgdmer_jax.data import schema
from data_builders import records, scp, shards
from data_builders.synthetic_ecg import rhythm, simulator

# Each split counts its records from a number of its own, far from the others:
# splits never share a patient, and a longer split extends a shorter one.
FIRST_INDEX = {
  "train": 0,
  "validation": 1_000_000_000,
  "test": 2_000_000_000,
}

_CLEANING = (
  "Simulated; nothing was cleaned. One record in fifty lacks a chest lead"
  " (lead_valid False, samples 0). Reports were written from the findings by a"
  " grammar."
)


@dataclasses.dataclass(eq=False, kw_only=True)
class Config(tfds.core.BuilderConfig):
  """Size and sampling of a simulated data set.

  Attributes:
    num_train: records in the training split.
    num_validation: records in the validation split.
    num_test: records in the test split.
    sampling_rate: Hz.
    seed: seed of the population; another one gives other patients.
  """

  num_train: int = 24_000
  num_validation: int = 1_000
  num_test: int = 2_000
  sampling_rate: int = 100
  seed: int = 0


_TINY = {"num_train": 256, "num_validation": 64, "num_test": 64}
_QUALITY = {"num_train": 120_000, "num_validation": 2_000, "num_test": 4_000}
_LARGE = {"num_train": 400_000, "num_validation": 4_000, "num_test": 8_000}


class Builder(records.ShardedBuilder):
  """TFDS builder of `synthetic_ecg`."""

  VERSION = tfds.core.Version("3.0.0")
  RELEASE_NOTES = {
    "1.0.0": "First release.",
    "2.0.0": "Waves, rates and noise fitted to recordings of patients.",
    "3.0.0": "Repolarisation of the atria, T waves and voltages as patients"
    " have them; readers name ST-T changes by degree.",
  }
  BUILDER_CONFIGS = [
    Config(name="demo", description="To develop and to demonstrate; 100 Hz."),
    Config(name="tiny", description="For tests; 100 Hz.", **_TINY),
    Config(name="quality", description="For the shipped weights; 100 Hz.",
           **_QUALITY),
    Config(name="large", description="For scaling; 100 Hz.", **_LARGE),
    Config(name="demo_500hz", description="As demo; 500 Hz.",
           sampling_rate=500),
    Config(name="tiny_500hz", description="As tiny; 500 Hz.",
           sampling_rate=500, **_TINY),
  ]  # fmt: skip

  def _info(self) -> tfds.core.DatasetInfo:
    config = self.builder_config
    return self.dataset_info_from_configs(
      features=schema.features(
        int(rhythm.SECONDS * config.sampling_rate), scp.LABEL_SETS
      ),
      metadata=schema.metadata(config.sampling_rate, scp.LABEL_SETS, _CLEANING),
    )

  def _split_jobs(self, dl_manager, manual_dir):
    del dl_manager, manual_dir  # nothing is read
    config = self.builder_config
    sizes = {
      "train": config.num_train,
      "validation": config.num_validation,
      "test": config.num_test,
    }
    return {
      split: range(FIRST_INDEX[split], FIRST_INDEX[split] + number)
      for split, number in sizes.items()
    }

  def _make(self):
    return functools.partial(
      _simulate,
      seed=self.builder_config.seed,
      sampling_rate=self.builder_config.sampling_rate,
    )


def _simulate(index: int, seed: int, sampling_rate: int) -> shards.Made:
  return shards.Made(simulator.record(seed, index, sampling_rate))
