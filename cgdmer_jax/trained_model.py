"""A model with its parameters, configuration and tokenizer, on disk or fresh.

A workdir holds everything that is needed to use a checkpoint: `config.json`
(the resolved configuration), `tokenizer/` and `checkpoints/`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

import jax
import optax
from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.data import reports
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import cgdmer
from cgdmer_jax.train import checkpoint, report_tower, train_step


@dataclasses.dataclass(frozen=True)
class Experiment:
  """A pretrained (or random) pair of encoders, ready to be evaluated.

  Attributes:
    name: for tables: the recipe, or "random".
    config: resolved configuration of the pretraining.
    model: the modules.
    params: their parameters.
    tokenizer: of the reports.
    checkpoint: where the parameters come from; empty for random ones.
    step: updates they have seen.
  """

  name: str
  config: ConfigDict
  model: cgdmer.CGDMER
  params: Any
  tokenizer: Any
  checkpoint: str = ""
  step: int | None = None


def to_json(config: ConfigDict) -> str:
  """The configuration as sorted JSON text."""
  return json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n"


def config_hash(config: ConfigDict) -> str:
  """Short hash of the resolved configuration."""
  return hashlib.sha256(to_json(config).encode()).hexdigest()[:12]


# Fields that change how a run is computed, not what comes out of it. How it is
# evaluated afterwards may change as well.
_NO_MATTER = {
  *("mesh", "compute.attention", "compute.remat", "train.microbatches"),
  *("loss.ring", "data.num_workers", "report.device_cache_mib"),
}


def write_config(workdir: pathlib.Path, config: ConfigDict) -> None:
  """Writes `config.json`.

  With its first checkpoint a workdir belongs to one configuration for good, but
  for where and how it is computed; what a run left that came to no checkpoint
  is replaced.

  Raises:
    UserError: the workdir holds a run of another configuration.
  """
  path = workdir / "config.json"
  text = to_json(config)
  if path.exists() and checkpoint.steps(workdir):
    old, new = _flat(json.loads(path.read_text())), _flat(json.loads(text))
    for key in sorted((old.keys() | new.keys()) - _NO_MATTER):
      if old.get(key) != new.get(key) and not key.startswith("evaluation."):
        raise UserError(
          f"{workdir} holds a run with {key}={old.get(key)!r}, not "
          f"{new.get(key)!r}; give the same configuration to resume it, or "
          "another --workdir"
        )
  elif path.exists() and path.read_text() != text:
    shutil.rmtree(workdir / "tokenizer", ignore_errors=True)
  if not path.exists() or path.read_text() != text:
    _write_text(path, text)


def _flat(tree, prefix="") -> dict[str, Any]:
  if not isinstance(tree, dict):
    return {prefix[:-1]: tree}
  items = (_flat(v, f"{prefix}{k}.") for k, v in tree.items())
  return {k: v for item in items for k, v in item.items()}


def _write_text(path: pathlib.Path, text: str) -> None:
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text)
  os.replace(temporary, path)


def prepare_tokenizer(workdir: pathlib.Path, texts, config: ConfigDict):
  """The tokenizer of the run: the one in the workdir, or a new one.

  A new one is that of the pretrained report encoder, or learnt from `texts`.

  Args:
    workdir: of the run.
    texts: distinct pretraining reports.
    config: the whole configuration.
  """
  directory = workdir / "tokenizer"
  if not directory.exists():
    if report_tower.is_pretrained(config):
      tokenizer = report_tower.load_tokenizer(config)
    else:
      logging.info("learning word pieces from %d distinct reports", len(texts))
      tokenizer = reports.train_tokenizer(texts, config.data.vocab_size)
    with tempfile.TemporaryDirectory(dir=workdir) as temporary:
      part = pathlib.Path(temporary) / "tokenizer"
      reports.save_tokenizer(tokenizer, part)
      os.replace(part, directory)
  return reports.load_tokenizer(directory)


def check_source(source: EcgSource, config: ConfigDict) -> None:
  """Raises UserError unless the model can read the records of `source`."""
  want = config.preprocess.sampling_rate
  if source.sampling_rate != want:
    raise UserError(
      f"{source.name} is sampled at {source.sampling_rate} Hz, the model reads "
      f"{want} Hz; build the {want} Hz configuration of the data set"
    )


def _workdir(path: str) -> pathlib.Path:
  """The workdir that a path leads to or into."""
  workdir = pathlib.Path(path)
  while not (workdir / "config.json").exists():
    if workdir == workdir.parent:
      raise UserError(
        f"no run in {path}: expected config.json and checkpoints/ there, as "
        "`--config=configs/pretrain.py --workdir=...` leaves them"
      )
    workdir = workdir.parent
  return workdir


def read_config(path: str) -> ConfigDict:
  """The configuration of a run; for `path` and errors see `load`."""
  text = (_workdir(path) / "config.json").read_text()
  return ConfigDict(json.loads(text))


def load(
  path: str,
  num_samples: int,
  mesh: jax.sharding.Mesh,
  random: ConfigDict | None = None,
) -> Experiment:
  """Loads a pretrained model, on whatever mesh it was trained.

  Args:
    path: workdir of a run, or one checkpoint in it
      (`<workdir>/checkpoints/<step>`).
    num_samples: T of the records to be read.
    mesh: devices for the parameters.
    random: a configuration like that of the run, for random parameters in
      place of the trained ones: what training must beat.

  Raises:
    UserError: no run there, or its checkpoint is of another architecture.
  """
  config = random or read_config(path)
  tokenizer = reports.load_tokenizer(_workdir(path) / "tokenizer")
  model = train_step.build_model(
    config, num_samples, reports.vocabulary(tokenizer)
  )
  if random:
    state = train_step.create_state(
      model, config, optax.identity(), num_samples, mesh
    )
    return Experiment("random", config, model, state.params, tokenizer)
  directory = checkpoint.find_checkpoint(path)
  abstract = jax.eval_shape(
    lambda: train_step.init_params(model, config, num_samples)
  )
  abstract = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
    abstract,
    sharding.state_shardings(abstract, mesh),
  )
  params = checkpoint.load_params(directory, abstract)
  return Experiment(
    config.recipe,
    config,
    model,
    params,
    tokenizer,
    str(directory),
    int(directory.name),
  )
