"""Encoders and records whose scores theory knows.

A record's labels stand in its leads, one label a lead, as a level of `SHIFT`
standard deviations of the noise: the AUROC of each label is Phi(SHIFT / sqrt 2)
for whoever reads the level, and no encoder can do better.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.config import fields
from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import leads
from cgdmer_jax.data.reports import Vocabulary
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set, prompts, tasks
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.evaluators.task import Inputs, Options
from cgdmer_jax.models import cgdmer, layers
from cgdmer_jax.models.forward import Forward
from cgdmer_jax.trained_model import TrainedModel

SHIFT = 1.2
AUROC = scipy.stats.norm.cdf(SHIFT / np.sqrt(2))
# The lead that each label stands in; CD is in all records and never scored.
LEADS = {"NORM": "I", "MI": "II", "STTC": "V2", "HYP": "V6"}
NAMES = (*LEADS, "CD")
SIZES = {"train": 3000, "validation": 400, "test": 1501}
BATCH_SIZE = 64  # divides none of them


class Source(EcgSource):
  """Records with planted labels."""

  sampling_rate = 100
  num_samples = 100
  label_mode = "fixed"
  label_sets = {"superclass": NAMES}

  def __init__(self, split, seed=0):
    n = SIZES[split]
    rng = np.random.default_rng([seed, n])
    self.name, self.split = f"planted/{seed}", split
    self.fingerprint = f"{self.name} {split}"
    self.labels = (rng.random((n, len(NAMES))) < 0.3).astype(np.uint8)
    self.labels[:, -1] = 1
    level = rng.normal(size=(n, leads.NUM_LEADS))
    for j, lead in enumerate(LEADS.values()):
      level[:, leads.LEADS.index(lead)] += SHIFT * self.labels[:, j]
    self.ecg = np.rint(1000 * level).astype(np.int16)

  def __len__(self):
    return len(self.ecg)

  def signal(self, index):
    ecg = np.broadcast_to(self.ecg[index][:, None], (12, self.num_samples))
    return {"ecg": ecg, "lead_valid": np.ones(12, bool)}


class Data(data_set.DataSet):
  """A data set of such records; reports are the records' numbers."""

  def __init__(self, seed=0):
    self.name = f"planted/{seed}"
    self._sources = {split: Source(split, seed) for split in SIZES}

  def index(self, split):
    source = self.source(split)
    names = tuple(f"{split} {i}" for i in range(len(source)))
    return index_lib.RecordIndex(
      ids=np.array(names),
      subject_ids=np.array(names),
      reports=names,
      report_ids=np.arange(len(source), dtype=np.int32),
      recordings=np.zeros((len(source), 2), np.uint64),
      labels={"superclass": source.labels},
    )


def evaluation(**finetune):
  """`config.evaluation`, with some fields of its section `finetune`."""
  config = fields.evaluation("planted", ()).unlock()
  config.update(num_bootstrap=300, batch_size=BATCH_SIZE)
  config.finetune.update(finetune)
  return config


class Encoder:
  """Reads the level of each lead; knows the prompts of each label."""

  def __init__(self):
    self.identity = results.Identity("planted", "planted")
    self.batch_size = BATCH_SIZE
    self._mesh = sharding.make_mesh((-1, 1, 1))

  def ecg(self, source):
    @jax.jit
    def read(ecg, lead_valid):
      del lead_valid
      level = ecg[..., 0] / 1000.0
      # A large constant: cosines then order records by the level alone.
      constant = jnp.full((len(level), 1), 1e3)
      return cgdmer.Embedding(jnp.concatenate([level, constant], 1), None)

    return features.extract(read, source, BATCH_SIZE, self._mesh)

  def trained_model(self):
    raise UserError("there is none")

  def report(self, texts):
    sentences = prompts.load("superclass", NAMES)
    rows = np.zeros((len(texts), 13), np.float32)
    for i, text in enumerate(texts):
      for name, lead in LEADS.items():
        if text in sentences[name]:
          rows[i, leads.LEADS.index(lead)] = 1
    return cgdmer.Embedding(rows, None)


class Model:
  """In place of the modules: reads levels, restores but for a known error."""

  # Passes for the modules where types are checked.
  __class__ = property(lambda self: cgdmer.CGDMER)
  use_report = use_specific = False
  reconstruct = True
  use_mlm = False
  num_frozen = None
  compute = layers.Compute()
  vocabulary = Vocabulary(50, 0, 1, 4, (0, 1, 2, 3, 4))

  def __init__(self, config, error=0.0):
    self.config = config
    self._error = error
    self._params = None

  def apply(self, variables, *args, method):
    self._params = variables["params"]
    if callable(method):
      return method(self)
    return getattr(self, method)(*args)

  def encode_ecg(self, patches, mask):
    del mask
    weight = self._params["ecg_encoder"]["weight"]
    return patches, cgdmer.Embedding(patches.mean((2, 3)) * weight, None)

  def decode_ecg(self, fused, patches, mask, lead_valid):
    del fused, mask, lead_valid
    mean = patches.mean(-1, keepdims=True)
    deviation = jnp.sqrt(patches.var(-1, keepdims=True) + 1e-3)
    sign = jnp.where(jnp.arange(patches.shape[-1]) % 2 == 0, 1.0, -1.0)
    return (patches - mean) / deviation + self._error * sign[None, None, None]


class Pretrained:
  """`Model` as a pretrained encoder."""

  def __init__(self, error=0.0, patch_length=100):
    self.identity = results.Identity("planted", "planted model")
    self.batch_size = BATCH_SIZE
    config = ConfigDict(
      {
        "model": {
          **{"patch_length": patch_length, "error": error},
          "ecg_target": "patch",
          "disentangle": {"width": 12},
        },
        "preprocess": {
          **{"normalise": "fixed", "scale": 1.0, "clip": 1e3},
          **{"bandpass": (0.0, 0.0), "sampling_rate": 100},
        },
        "recipe": "planted",
      }
    )
    mesh = sharding.make_mesh((-1, 1, 1))
    self.trained = TrainedModel(
      "planted",
      config,
      Forward(Model(config.model, error), config.preprocess, mesh),
      params={"ecg_encoder": {"weight": jnp.ones((1, 12))}},
      load_tokenizer=lambda: None,
    )

  def trained_model(self):
    return self.trained

  def ecg(self, source):
    raise UserError("not asked for")

  report = ecg


def store(tmp_path, encoder=None):
  """Features of the planted encoder, kept below `tmp_path`."""
  return features.Store(encoder or Encoder(), tmp_path)


def run(
  name, data, tmp_path, encoder=None, source=None, changes=None, **finetune
):
  """Findings of a task; with changed options, and those of `finetune`."""
  task = tasks.TASKS[name]
  label_set = "superclass" if task.labels else ""
  inputs = Inputs(store(tmp_path, encoder), data, label_set, source)
  config = evaluation(**finetune)
  config.update(changes or {})
  options = Options(task, config, inputs)
  return task.run_of(inputs.store.encoder)(inputs, options)


def check_theory(outcome, truth=AUROC):
  """Both the average and nearly all labels: no more than chance would miss."""
  assert outcome.scores.shape[1] == SIZES["test"]
  macro = outcome.evaluation.macro_auroc
  assert macro.low < truth < macro.high, outcome.setting
  inside = [
    row.auroc.low < truth < row.auroc.high
    for row in outcome.evaluation.labels
    if row.auroc
  ]
  assert len(inside) == 4 and sum(inside) >= 3
  assert outcome.evaluation.labels[-1].skipped == "no negative in test"
