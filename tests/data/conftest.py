"""A small data set on disk, written with the schema of the builders."""

import pathlib
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from cgdmer_jax.data import schema

LABEL_SETS = {
  "superclass": ("NORM", "MI", "STTC"),
  "rhythm": ("SR", "AFIB"),
}
NUM_SAMPLES = 50
REPORTS = (
  "Sinus rhythm. Normal ECG.",
  "sinus rhythm. normal ecg.",  # differs in case only: another report
  "Vorhofflimmern, überdrehte Linkslage",
  "",
  "Inferior infarct, age undetermined; non-specific ST-T changes",
)


def make_records(count: int, seed: int) -> list[dict]:
  rng = np.random.default_rng(seed)
  return [
    {
      "id": f"record{i}",
      "subject_id": f"patient{i // 2}",
      "ecg": rng.integers(-32768, 32768, (12, NUM_SAMPLES), np.int16),
      "lead_valid": rng.random(12) < 0.8,
      "report": REPORTS[rng.integers(len(REPORTS))],
      "labels": {
        key: rng.integers(0, 2, len(names), np.uint8)
        for key, names in LABEL_SETS.items()
      },
    }
    for i in range(count)
  ]


RECORDS = {"train": make_records(37, 0), "test": make_records(5, 1)}


class TinyEcg(tfds.core.GeneratorBasedBuilder):
  """37 and 5 records of noise."""

  VERSION = tfds.core.Version("1.2.0")
  METADATA = schema.metadata(100, LABEL_SETS, "none")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=schema.features(NUM_SAMPLES, LABEL_SETS),
      metadata=self.METADATA,
    )

  def _split_generators(self, dl_manager):
    return {k: self._generate_examples(k) for k in RECORDS}

  def _generate_examples(self, split):
    yield from enumerate(RECORDS[split])


class WrongUnitEcg(TinyEcg):
  METADATA = tfds.core.MetadataDict({**TinyEcg.METADATA, "unit": "mV"})


class MerlEcg(TinyEcg):
  METADATA = schema.metadata(100, LABEL_SETS, "none", schema.MERL_COMPAT)


def write(builder_class, data_dir: pathlib.Path) -> None:
  tfds.disable_progress_bar()
  builder = builder_class(data_dir=data_dir, file_format="array_record")
  builder.download_and_prepare()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
  """`data_dir` of these data sets; `records` by split and id."""
  data_dir = tmp_path_factory.mktemp("tfds")
  write(TinyEcg, data_dir)
  write(WrongUnitEcg, data_dir)
  write(MerlEcg, data_dir)
  records = {k: {r["id"]: r for r in RECORDS[k]} for k in RECORDS}
  return types.SimpleNamespace(data_dir=data_dir, records=records)


@pytest.fixture
def rewrite(tmp_path):
  """Function that writes tiny_ecg below `tmp_path`; returns the data_dir."""

  def run() -> pathlib.Path:
    write(TinyEcg, tmp_path / "tfds")
    return tmp_path / "tfds"

  return run
