"""All results of a workdir, whichever calls have made them.

Tables add up: a call with another task, data set or encoder adds to what is
there. Encoders in one table have results of one protocol: the same records and
options.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Sequence

from absl import logging

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores import results
from cgdmer_jax.evaluators.scores.results import Identity, Result


def gather(
  workdir: pathlib.Path, done: Sequence[Result], tasks: Sequence[str]
) -> list[Result]:
  """The results of a call, and those of earlier ones that fit to them.

  Args:
    workdir: folder of the evaluation.
    done: results of this call; they decide the options of their tables, and
      come first.
    tasks: names of all tasks, in the order of tables; results of other tasks
      are left out.

  Returns:
    Results by data set, task and label set. The names of encoders tell them
    apart.
  """
  every = [*done, *_read_others(workdir, {r.key for r in done})]
  every = _newest(every)
  every = [r for r in _comparable(every, len(done)) if r.task in tasks]
  # Another name, in other company, or another place is the same encoder.
  identities: dict[str, Identity] = {}
  for result in every:
    identities.setdefault(result.encoder.fingerprint, result.encoder)
  names = names_apart(list(identities.values()))
  named = []
  for result in every:
    fingerprint = result.encoder.fingerprint
    encoder = dataclasses.replace(
      identities[fingerprint], name=names[fingerprint]
    )
    named.append(dataclasses.replace(result, encoder=encoder))
  datasets = list(dict.fromkeys(r.dataset for r in every))
  label_sets = list(dict.fromkeys(r.label_set for r in every))
  encoders = list(identities)
  return sorted(
    named,
    key=lambda r: (
      datasets.index(r.dataset),
      tasks.index(r.task),
      label_sets.index(r.label_set),
      encoders.index(r.encoder.fingerprint),
    ),
  )


def _read_others(workdir: pathlib.Path, known: set[str]) -> list[Result]:
  """The results whose keys are not known; what cannot be read is told."""
  others, reasons = [], []
  for path in sorted((workdir / "results").glob("*/*-*.json")):
    if path.stem.rpartition("-")[2] in known:
      continue
    try:
      others.append(results.read(path))
    except UserError as error:
      reasons.append(str(error))
  if reasons:
    logging.warning(
      "%d results are left out of the tables: %s", len(reasons), reasons[0]
    )
  # Of two states of a run, the one that was trained longer is the newer.
  return sorted(others, key=lambda r: -(r.encoder.step or 0))


def _newest(every: Sequence[Result]) -> list[Result]:
  """Results of what lies in a place now; the first say what that is.

  A run that was trained on since is another encoder.
  """
  current: dict[tuple[str, str], str] = {}
  kept = []
  for result in every:
    encoder = result.encoder
    now = current.setdefault(encoder.place, encoder.fingerprint)
    if now == encoder.fingerprint:
      kept.append(result)
    else:
      logging.warning(
        "left out of the tables, since the encoder has changed: %s of %s",
        " ".join(filter(None, _topic(result))),
        encoder.name,
      )
  return kept


def _comparable(every: Sequence[Result], num_done: int) -> list[Result]:
  """Results of one protocol for each task, data set and label set.

  It is the protocol of this call; where this call has no result, the protocol
  of most results.
  """
  protocols: dict[tuple[str, str, str], collections.Counter] = {}
  for i, result in enumerate(every):
    counts = protocols.setdefault(_topic(result), collections.Counter())
    counts[result.protocol] += len(every) if i < num_done else 1
  chosen = {t: counts.most_common(1)[0][0] for t, counts in protocols.items()}
  kept = []
  for result in every:
    if result.protocol == chosen[_topic(result)]:
      kept.append(result)
    else:
      logging.warning(
        "left out of the tables, since its records or options are others:"
        " %s of %s",
        " ".join(filter(None, _topic(result))),
        result.encoder.name,
      )
  return kept


def _topic(result: Result) -> tuple[str, str, str]:
  return result.task, result.dataset, result.label_set


def names_apart(identities: Sequence[Identity]) -> dict[str, str]:
  """Names that differ for encoders that differ in more than their seed.

  Args:
    identities: of the encoders that are compared.

  Returns:
    Fingerprint -> plain name, followed by a folder where several groups of
    encoders share the plain name.
  """
  by_name: dict[str, dict[str, list[Identity]]] = {}
  for identity in identities:
    groups = by_name.setdefault(identity.plain_name, {})
    groups.setdefault(identity.group, []).append(identity)
  names = {i.fingerprint: i.plain_name for i in identities}
  for name, groups in by_name.items():
    if len(groups) == 1:
      continue
    folders = [_folder(group) for group in groups.values()]
    if len(set(folders)) < len(folders):
      folders = [_folder(group[:1]) for group in groups.values()]
    depth = 1
    most = max(map(len, folders))
    while depth < most and len({f[-depth:] for f in folders}) < len(folders):
      depth += 1
    for folder, group in zip(folders, groups.values(), strict=True):
      for identity in group:
        names[identity.fingerprint] = f"{name} ({'/'.join(folder[-depth:])})"
  return names


def _folder(identities: Iterable[Identity]) -> tuple[str, ...]:
  """What the paths of runs that differ in their seed have in common."""
  paths = [i.path for i in identities]
  common = os.path.commonprefix(paths)
  if len(paths) > 1:
    common = common.rstrip("-_./ ")
  return pathlib.Path(common).parts
