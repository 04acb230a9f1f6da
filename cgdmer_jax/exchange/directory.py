"""Writes a trained model as a directory that others can use."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from cgdmer_jax import files, trained_model
from cgdmer_jax.config import fields
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.evaluators import readout_fit
from cgdmer_jax.evaluators.data_set import DataSet
from cgdmer_jax.evaluators.scores import subgroups
from cgdmer_jax.evaluators.scores.results import Result
from cgdmer_jax.exchange import card, golden, program, run_results
from cgdmer_jax.inference import bundle, model
from cgdmer_jax.inference.model import EcgModel
from cgdmer_jax.models import hf_bert


@dataclasses.dataclass(frozen=True)
class Choices:
  """What may be chosen about an export; see the flags of `export.py`."""

  dataset: str = ""
  label_sets: tuple[str, ...] = ()
  results: pathlib.Path | None = None
  groups: pathlib.Path | None = None
  licence: str = ""
  small: bool = False
  hub_name: str = ""


def export(
  source: str,
  directory: pathlib.Path,
  data_dir: pathlib.Path,
  choices: Choices = Choices(),  # noqa: B008
) -> None:
  """Writes a model with all that belongs to it.

  Args:
    source: what `cgdmer_jax.load` takes. A run is calibrated; of an export,
      its own calibration is kept unless `choices` name data.
    directory: to be made; it gets its name when it is complete.
    data_dir: folder of the built data sets.
    choices: the rest.

  Raises:
    UserError: there is no such model or data set, `directory` exists, or the
      disk is full.
  """
  check_new(directory)
  groups = subgroups.read(choices.groups) if choices.groups else {}
  loaded = model.load(source)
  found = _results(source, loaded, choices)
  # What is calibrated and measured are the weights that are written.
  loaded = EcgModel(_rounded(loaded.trained), loaded.readout)
  chooses = choices.dataset or choices.label_sets
  if loaded.trained.model.use_report and (chooses or not loaded.readout):
    loaded.readout = _calibrate(loaded, data_dir, choices)
  name = choices.hub_name.rpartition("/")[2] or directory.name
  about = card.About(
    name,
    f"hf://{choices.hub_name}" if choices.hub_name else name,
    _num_train(loaded, data_dir),
    choices.licence,
    groups,
  )
  try:
    with files.replacing(directory) as temporary:
      temporary.mkdir()
      bundle.write(temporary, loaded.trained, loaded.readout)
      if not choices.small:
        content = program.make(loaded.trained)
        files.write(temporary / program.FILE_NAME, content)
        arrays = golden.make(loaded, temporary)
        with (temporary / golden.FILE_NAME).open("wb") as file:
          np.savez_compressed(file, **arrays)
      text = card.write(loaded, temporary, found, about)
      files.write(temporary / card.FILE_NAME, text)
  except OSError as e:
    raise UserError(f"{directory} cannot be written: {one_line(e)}") from e


def check_new(directory: pathlib.Path) -> None:
  """Raises UserError if there is something of this name."""
  if directory.exists():
    raise UserError(f"{directory} exists; choose another name or remove it")


def export_report_encoder(source: str, directory: pathlib.Path) -> None:
  """Writes the BERT of the report encoder, for transformers.

  Only the BERT is written; what follows it (projection, shared and specific
  encoder) is ours.

  Args:
    source: what `cgdmer_jax.load` takes.
    directory: to be made.

  Raises:
    UserError: there is no such model, it has no report encoder, or `directory`
      exists.
  """
  check_new(directory)
  trained = model.load(source).trained
  if not trained.model.use_report:
    raise UserError(
      f"{source}: recipe {trained.name!r} has no report encoder; choose a run"
      " of another recipe"
    )
  hf_bert.save(
    directory,
    trained.params["report_encoder"],
    hf_bert.BertConfig(**trained.model.report_sizes),
    trained.tokenizer,
  )


def _rounded(
  trained: trained_model.TrainedModel,
) -> trained_model.TrainedModel:
  params = jax.tree.map(
    lambda x: x.astype(np.float16).astype(np.float32), trained.params
  )
  return dataclasses.replace(trained, params=params)


def _results(
  source: str, loaded: EcgModel, choices: Choices
) -> Sequence[Result]:
  """Results of the weights; those beside the run, unless others are named."""
  checkpoint = pathlib.Path(loaded.trained.checkpoint)
  if bundle.is_bundle(checkpoint):
    if choices.results:
      raise UserError(
        f"{source} is an export, which results do not name; export its run"
      )
    return ()
  folder = choices.results or trained_model.find_workdir(checkpoint)
  found = run_results.find(checkpoint, folder, loaded.trained.mesh)
  if choices.results and not found:
    raise UserError(
      f"--results={folder} has no result of these weights; evaluate them there"
    )
  return found


def _num_train(loaded: EcgModel, data_dir: pathlib.Path) -> int:
  """Records of the pretraining; 0 where its data set is not here."""
  data = loaded.trained.config.data
  try:
    return len(EcgSource(data.dataset, data.train, data_dir))
  except UserError:
    return 0


def _calibrate(
  loaded: EcgModel, data_dir: pathlib.Path, choices: Choices
) -> readout_fit.Readout:
  name = choices.dataset or loaded.trained.config.data.dataset
  splits = fields.evaluation(name, ())
  splits.max_train = 0
  data = DataSet(name, splits, data_dir)
  return readout_fit.fit(loaded.trained, data, choices.label_sets)
