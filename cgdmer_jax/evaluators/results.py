"""Result files: one JSON per task, data set and label set, and its scores.

`<workdir>/results/<task>-<data>-<label set>.json` holds everything that was
measured and what it was measured on. The scores of every test record lie beside
it in a compressed `.npz`, so that two result files, from different checkpoints
or even different machines, can be compared later by paired tests.

The scores are renamed into place before the JSON, which carries their checksum:
a reader never sees half a result, nor the scores of another run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import platform
from collections.abc import Sequence
from importlib import metadata

import numpy as np

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import comparison, scoring


@dataclasses.dataclass(frozen=True)
class Encoder:
  """An evaluated encoder.

  Attributes:
    name: for tables, such as "CG-DMER" or "random".
    result: its scores.
    checkpoint: which weights, as text; empty for a random encoder.
    step: updates they have seen; None for a random encoder.
  """

  name: str
  result: scoring.EncoderResult
  checkpoint: str = ""
  step: int | None = None


@dataclasses.dataclass(frozen=True)
class Result:
  """One task on one label set: encoders on the same test records.

  Attributes:
    task: "zero_shot" or "linear_probe".
    dataset: name with configuration, such as "ptb_xl/100hz".
    label_set: name.
    encoders: the one of interest first; it is compared with all others.
    comparisons: by the name of the other encoder.
    config_hash: of the resolved configuration.
    label_mode: of the data set, see `data_builders/label_modes.py`.
  """

  task: str
  dataset: str
  label_set: str
  encoders: tuple[Encoder, ...]
  comparisons: dict[str, tuple[comparison.Comparison, ...]]
  config_hash: str
  label_mode: str


def make_result(
  task: str,
  dataset: str,
  label_set: str,
  encoders: Sequence[Encoder],
  *,
  config_hash: str,
  label_mode: str,
  **options,
) -> Result:
  """Compares the first encoder with every other and gathers the result.

  Args:
    task: see `Result`, as are the next arguments.
    dataset: name.
    label_set: name.
    encoders: at least one, names distinct.
    config_hash: of the configuration.
    label_mode: of the data set.
    **options: of `comparison.compare`; give the `min_positives` and
      `num_bootstrap` of the evaluation.

  Returns:
    The result, ready to `write`.
  """
  first, *others = encoders
  return Result(
    task=task,
    dataset=dataset,
    label_set=label_set,
    encoders=tuple(encoders),
    comparisons={
      other.name: comparison.compare_encoders(
        first.result, other.result, **options
      )
      for other in others
    },
    config_hash=config_hash,
    label_mode=label_mode,
  )


def path_of(
  workdir: str | os.PathLike, task: str, dataset: str, label_set: str
) -> pathlib.Path:
  """Where a result lies: `<workdir>/results/<task>-<data>-<label set>.json`."""
  name = "-".join(part.replace("/", "_") for part in (task, dataset, label_set))
  return pathlib.Path(workdir) / "results" / f"{name}.json"


def to_dict(result: Result) -> dict:
  """The result as it goes into JSON, scores left out.

  Raises:
    ValueError: a number is not finite (undefined values must be None).
  """
  test = result.encoders[0].result.test
  first = result.encoders[0]
  document = {
    "task": result.task,
    "dataset": result.dataset,
    "split": "test",
    "label_set": result.label_set,
    "label_mode": result.label_mode,
    "num_records": len(test.labels),
    "num_subjects": first.result.outcomes[0].evaluation.num_subjects,
    "num_without_subject": int((test.subjects == "").sum()),
    "config_hash": result.config_hash,
    "intervals": "95 %, percentile bootstrap over subjects",
    "encoders": [
      {
        "name": encoder.name,
        "checkpoint": encoder.checkpoint,
        "step": encoder.step,
        "settings": [_outcome_dict(o) for o in encoder.result.outcomes],
      }
      for encoder in result.encoders
    ],
    "comparisons": [
      {"a": first.name, "b": other, **dataclasses.asdict(c)}
      for other, comparisons in result.comparisons.items()
      for c in comparisons
    ],
    "versions": versions(),
  }
  json.dumps(document, allow_nan=False)
  return document


def _outcome_dict(outcome: scoring.Outcome) -> dict:
  fields = {
    f.name: getattr(outcome, f.name)
    for f in dataclasses.fields(outcome)
    if f.name not in ("scores", "evaluation")
  }
  evaluation = dataclasses.asdict(outcome.evaluation)
  fields["skipped_labels"] = {
    row["name"]: row["skipped"]
    for row in evaluation["labels"]
    if row["skipped"]
  }
  return fields | evaluation


def versions() -> dict[str, str]:
  """Versions of what the numbers depend on; a missing package is left out."""
  found = {"python": platform.python_version()}
  for name in ("cgdmer-jax", "jax", "numpy", "scipy"):
    try:
      found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return found


def write(
  workdir: str | os.PathLike, result: Result
) -> tuple[pathlib.Path, dict]:
  """Writes the result and its scores, each atomically.

  Args:
    workdir: `results/` is made inside it.
    result: what to write; an earlier one of the same name is replaced.

  Returns:
    Path of the JSON file, and its content.
  """
  path = path_of(workdir, result.task, result.dataset, result.label_set)
  path.parent.mkdir(parents=True, exist_ok=True)
  test = result.encoders[0].result.test
  arrays = {
    "record_ids": test.record_ids,
    "subjects": test.subjects,
    "labels": test.labels,
    "label_names": np.array(test.label_names),
  }
  for encoder in result.encoders:
    for o in encoder.result.outcomes:
      arrays[_scores_key(encoder.name, o.setting)] = o.scores
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  content = buffer.getvalue()
  scores_path = path.with_suffix(".npz")
  document = to_dict(result)
  document["scores"] = {
    "file": scores_path.name,
    "sha256": hashlib.sha256(content).hexdigest(),
  }
  write_atomically(scores_path, content)
  text = json.dumps(document, indent=1, allow_nan=False) + "\n"
  write_atomically(path, text.encode())
  return path, document


def write_atomically(path: pathlib.Path, content: bytes) -> None:
  """Writes a file so that its name never stands for half of it."""
  temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    with temporary.open("wb") as f:
      f.write(content)
      f.flush()
      os.fsync(f.fileno())
    temporary.replace(path)
  finally:
    temporary.unlink(missing_ok=True)


def read(path: str | os.PathLike) -> dict:
  """Content of a result file.

  Raises:
    UserError: the file cannot be read or is no result.
  """
  path = pathlib.Path(path)
  try:
    document = json.loads(path.read_text(encoding="utf-8"))
  except OSError as e:
    raise UserError(f"cannot read the result {path}: {e.strerror or e}") from e
  except ValueError as e:
    raise UserError(f"result {path} is not valid JSON: {e}") from e
  if not isinstance(document, dict) or "encoders" not in document:
    raise UserError(f"{path} is not a result file of an evaluation")
  return document


def read_scores(
  path: str | os.PathLike, encoder: str | None = None
) -> tuple[scoring.TestSet, dict[str, np.ndarray]]:
  """Test records and scores of one encoder of a result file.

  Args:
    path: the JSON file; its scores lie beside it.
    encoder: name; None takes the first.

  Returns:
    The test set, and setting -> scores (K, N, L).

  Raises:
    UserError: no such encoder, or the scores are missing or of another run.
  """
  document, path = read(path), pathlib.Path(path)
  names = [e["name"] for e in document["encoders"]]
  name = names[0] if encoder is None else encoder
  if name not in names:
    raise UserError(f"no encoder {name!r} in {path}, only {', '.join(names)}")
  scores_path = path.with_name(document["scores"]["file"])
  try:
    content = scores_path.read_bytes()
  except OSError as e:
    raise UserError(
      f"cannot read the scores {scores_path}: {e.strerror or e}; keep them"
      " beside the result"
    ) from e
  if hashlib.sha256(content).hexdigest() != document["scores"]["sha256"]:
    raise UserError(f"{scores_path} does not belong to {path}; evaluate again")
  settings = document["encoders"][names.index(name)]["settings"]
  with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
    test = scoring.TestSet(
      record_ids=arrays["record_ids"],
      subjects=arrays["subjects"],
      labels=arrays["labels"],
      label_names=tuple(arrays["label_names"].tolist()),
    )
    scores = {
      row["setting"]: arrays[_scores_key(name, row["setting"])]
      for row in settings
    }
  return test, scores


def compare(
  path_a: str | os.PathLike,
  path_b: str | os.PathLike,
  encoder_a: str | None = None,
  encoder_b: str | None = None,
  **options,
) -> tuple[comparison.Comparison, ...]:
  """Paired comparison of encoders of two result files, a minus b.

  Records are matched by id and labels by name, so the two files may list them
  in different order.

  Args:
    path_a: result file.
    path_b: another, or the same.
    encoder_a: name in a; None takes the first.
    encoder_b: name in b; None takes the first.
    **options: of `comparison.compare`.

  Returns:
    One comparison per setting that both have.

  Raises:
    UserError: the files are not about the same test records and labels.
  """
  test, scores_a = read_scores(path_a, encoder_a)
  other, scores_b = read_scores(path_b, encoder_b)
  problem = f"cannot compare {path_a} with {path_b}: "
  if set(test.label_names) != set(other.label_names):
    raise UserError(problem + "they are about different labels")
  if not np.array_equal(np.sort(test.record_ids), np.sort(other.record_ids)):
    raise UserError(problem + "they are about different test records")
  rows = np.empty(len(test.labels), int)
  rows[np.argsort(test.record_ids)] = np.argsort(other.record_ids)
  columns = [other.label_names.index(name) for name in test.label_names]
  if not np.array_equal(test.labels, other.labels[rows][:, columns]):
    raise UserError(problem + "the labels of their test records differ")
  scores_b = {k: v[:, rows][:, :, columns] for k, v in scores_b.items()}
  return comparison.compare_settings(test, scores_a, scores_b, **options)


def _scores_key(encoder: str, setting: str) -> str:
  return f"scores/{encoder}/{setting}"
