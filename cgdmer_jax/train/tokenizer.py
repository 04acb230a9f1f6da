"""The tokenizer that belongs to a run."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from cgdmer_jax import files
from cgdmer_jax.data import reports
from cgdmer_jax.train import checks, report_checkpoint


def prepare(
  workdir: pathlib.Path,
  texts: Sequence[str],
  config: ConfigDict,
  given: Any = None,
) -> Any:
  """Returns the tokenizer of a run: the one in its workdir, or a new one.

  A new one is the given one, or that of the pretrained report encoder, or
  learnt from `texts`.

  Args:
    workdir: folder of the run.
    texts: distinct pretraining reports.
    config: the whole configuration.
    given: tokenizer of the run that this one starts from, if any.
  """
  directory = workdir / "tokenizer"
  if not directory.exists():
    name = config.report.checkpoint
    if given is not None:
      tokenizer = given
    elif name and checks.reads_reports(config.loss):
      tokenizer = report_checkpoint.load_tokenizer(name, config.model.report)
    else:
      logging.info("learning word pieces from %d distinct reports", len(texts))
      tokenizer = reports.train_tokenizer(texts, config.data.vocab_size)
    with files.replacing(directory) as temporary:
      reports.save_tokenizer(
        tokenizer, temporary, config.model.report.num_positions
      )
  return reports.load_tokenizer(directory)
