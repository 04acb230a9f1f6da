"""Test records of one data set that are training records of another."""

import json
import logging as std_logging

import tensorflow_datasets as tfds

from cgdmer_jax import evaluate
from cgdmer_jax.config import presets
from cgdmer_jax.data import schema
from cgdmer_jax.data.source import EcgSource
from data_builders import build
from tests import toy
from tests.runs import make_run

SYNTHETIC = "synthetic_ecg/tiny"
SEEN, OWN, REST = 5, 3, 30
LINE = "mae, step 7: {} of {} test records of mixed_ecg are recordings of {}"


def copies(data_dir):
  """Split -> records of `SYNTHETIC` under other ids.

  Of the test records `SEEN` come from its training split, and `OWN` are in the
  training split of the new data set as well.
  """
  by_split = {
    split: [*EcgSource(SYNTHETIC, split, data_dir)]
    for split in ("train", "validation", "test")
  }
  test = by_split["test"][:REST]
  return {
    "train": by_split["validation"] + test[:OWN],
    "validation": test[-REST // 2 :],
    "test": test + by_split["train"][:SEEN],
  }


def write(members, data_dir):
  """Writes `mixed_ecg`."""
  source = EcgSource(SYNTHETIC, "train", data_dir.parent / "all")

  class MixedEcg(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=schema.features(source.num_samples, source.label_sets),
        metadata=schema.metadata(100, source.label_sets, "none"),
      )

    def _split_generators(self, dl_manager):
      return {k: self._generate_examples(k) for k in members}

    def _generate_examples(self, split):
      for i, record in enumerate(members[split]):
        yield i, record | {"id": f"{split}{i}", "subject_id": ""}

  tfds.disable_progress_bar()
  MixedEcg(data_dir=data_dir, file_format="array_record").download_and_prepare()


def test_it_is_told_how_many_and_where(tmp_path, caplog):
  build.build(SYNTHETIC, data_dir=tmp_path / "all")
  data_dir = tmp_path / "data"
  write(copies(tmp_path / "all"), data_dir)
  run = make_run(
    tmp_path / "all", tmp_path / "run", "mae", **{"train.steps": 9}
  )
  c = presets.evaluate(("linear_probe",), None).unlock()
  c.encoders = str(run)
  c.evaluation.update(toy.get_config().evaluation)
  c.evaluation.update(tasks=("linear_probe",), datasets="mixed_ecg")
  c.evaluation.update(label_sets=("superclass",), fractions=(1.0,))
  c.evaluation.min_positives = 1
  total = REST + SEEN
  own = LINE.format(OWN, total, "mixed_ecg/1.0.0, train")
  before = LINE.format(SEEN, total, f"{SYNTHETIC}/3.0.0, train")

  def evaluated():
    caplog.clear()
    with caplog.at_level(std_logging.WARNING):
      evaluate.run(c, tmp_path / "out", data_dir)
    (result,) = (tmp_path / "out/results").glob("*/*.json")
    notes = (tmp_path / "out/results/tables.md").read_text()
    return json.loads(result.read_text())["details"], notes

  # The data set of the pretraining is on another machine.
  details, notes = evaluated()
  assert "no data set" in details["seen_in_pretraining"]["not_checked"]
  assert details["seen_in_training"]["seen"] == OWN
  assert own in notes and before not in notes
  assert own in caplog.text and before not in caplog.text
  # It comes: results that were kept tell it, too.
  (data_dir / "synthetic_ecg").symlink_to(tmp_path / "all/synthetic_ecg")
  details, notes = evaluated()
  assert details["seen_in_pretraining"]["seen"] == SEEN
  assert own in notes and before in notes
  assert before in caplog.text
  # It goes again: what was known stays.
  (data_dir / "synthetic_ecg").unlink()
  assert evaluated() == (details, notes)
