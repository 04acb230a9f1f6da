"""Result files: one for each encoder, task, data set and label set.

`<workdir>/results/<task>-<data>-<label set>/<encoder>-<key>.json` holds
everything that was measured and what it was measured on. The key is a hash of
what the result depends on: encoder, records, options. Scores of every test
record and the resamples lie beside it in an `.npz`, so that results, from
different checkpoints or even different machines, can be compared later by
paired tests. What a task has made, such as a classifier, lies in a folder of
the same name.

The arrays are renamed into place before the JSON, which carries their checksum:
a reader never sees half a result, nor the arrays of another run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import pathlib
import platform
import shutil
from importlib import metadata
from typing import Any

import numpy as np

from cgdmer_jax import files
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.scores.findings import (
  Estimate,
  Evaluation,
  Findings,
  LabelScore,
  Measure,
  Outcome,
  TestSet,
)

_FORMAT = 1  # raise it when the same inputs give other results


@dataclasses.dataclass(frozen=True)
class Identity:
  """Which encoder it is.

  Attributes:
    name: row of tables; encoders that differ in their seed alone share it.
    fingerprint: hash of all that its features depend on, besides the records.
    seed: decided its pretraining or its random weights; None where unknown.
    checkpoint: where its weights come from; empty for random ones.
    step: updates they have seen; None for random ones.
    path: where it was found; empty for one that is made of nothing.
    group: hash that is equal for encoders that differ in their seed alone.
    plain_name: name before a folder was added to tell encoders apart.
  """

  name: str
  fingerprint: str
  seed: int | None = None
  checkpoint: str = ""
  step: int | None = None
  path: str = ""
  group: str = ""
  plain_name: str = ""

  def __post_init__(self):
    """Names are text on one line, whatever the bytes of a folder's name."""
    text = self.name.encode(errors="surrogateescape").decode(errors="replace")
    name = " ".join(text.split())
    object.__setattr__(self, "name", name)
    object.__setattr__(self, "plain_name", self.plain_name or name)
    object.__setattr__(self, "group", self.group or self.fingerprint)

  @property
  def place(self) -> tuple[str, str]:
    """Equal for what is found in one place, now and later.

    A run has one place, whatever its weights are; so has each random encoder of
    its architecture.
    """
    return self.path, "" if self.checkpoint else self.plain_name


@dataclasses.dataclass(frozen=True)
class Result:
  """What a task found out about an encoder, and from what.

  Attributes:
    encoder: which one.
    task: such as "linear_probe".
    dataset: name with configuration, such as "ptb_xl/100hz".
    split: name of the test split.
    label_set: name, and what was learnt from if it is another; empty for a task
      without labels.
    label_mode: that of the data set, see `data_builders/label_modes.py`.
    key: hash of all that the findings depend on.
    protocol: hash of all of that but the encoder; only results of one protocol
      can be compared.
    options: fields of `config.evaluation` that decide them, as JSON has them.
    findings: what the task found out.
  """

  encoder: Identity
  task: str
  dataset: str
  split: str
  label_set: str
  label_mode: str
  key: str
  protocol: str
  options: dict
  findings: Findings


def make_key(*parts: Any) -> str:
  """Short hash of anything that JSON can hold."""
  text = json.dumps([_FORMAT, *parts], sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def find(
  workdir: str | os.PathLike, task: str, dataset: str, label_set: str, key: str
) -> pathlib.Path | None:
  """The result of that key, whatever its encoder was called; None without."""
  folder = path_of(workdir, task, dataset, label_set, "", key).parent
  return next(iter(sorted(folder.glob(f"*-{key}.json"))), None)


def path_of(
  workdir: str | os.PathLike,
  task: str,
  dataset: str,
  label_set: str,
  encoder: str,
  key: str,
) -> pathlib.Path:
  """Where a result lies, see the head of this file."""
  topic = "-".join(filter(None, (task, dataset, label_set)))
  topic = topic.replace("/", "_").replace(" ", "_")
  folder = pathlib.Path(workdir) / "results" / topic
  # File systems limit a name to 255 bytes; the key tells results apart.
  short = encoder.replace("/", "_").encode()[:100].decode(errors="ignore")
  return folder / f"{short}-{key}.json"


def write(workdir: str | os.PathLike, result: Result) -> pathlib.Path:
  """Writes the result and its arrays, each atomically.

  Args:
    workdir: `results/` is made inside it.
    result: what to write. It replaces earlier ones of the same place, see
      `Identity.place`: of a run that was trained longer, or with other options.

  Returns:
    Path of the JSON file.

  Raises:
    ValueError: a number is not finite (undefined values must be None).
  """
  path = path_of(
    workdir,
    result.task,
    result.dataset,
    result.label_set,
    result.encoder.name,
    result.key,
  )
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **_arrays(result.findings))
  content = buffer.getvalue()
  document = to_dict(result)
  document["arrays"] = {
    "file": path.with_suffix(".npz").name,
    "sha256": hashlib.sha256(content).hexdigest(),
  }
  text = json.dumps(document, indent=1, allow_nan=False) + "\n"
  for name, made in result.findings.files.items():
    files.write(path.with_suffix("") / name, made)
  files.write(path.with_suffix(".npz"), content)
  files.write(path, text)
  _remove_replaced(path, result.encoder)
  return path


def _remove_replaced(path: pathlib.Path, encoder: Identity) -> None:
  """Removes other results of the same encoder, or of the same place."""
  for other in path.parent.glob("*-*.json"):
    if other == path:
      continue
    try:
      document = json.loads(other.read_text(encoding="utf-8"))
      old = Identity(**document["encoder"])
    except (OSError, ValueError, KeyError, TypeError):
      continue  # not ours to remove
    if old.fingerprint == encoder.fingerprint or old.place == encoder.place:
      other.unlink()
      other.with_suffix(".npz").unlink(missing_ok=True)
      shutil.rmtree(other.with_suffix(""), ignore_errors=True)


def to_dict(result: Result) -> dict:
  """The result as it goes into JSON, arrays left out."""
  findings = result.findings
  fields = {f: getattr(result, f) for f in _PLAIN}
  return fields | {
    "encoder": dataclasses.asdict(result.encoder),
    "num_records": len(findings.test.record_ids),
    "num_without_subject": int((findings.test.subjects == "").sum()),
    "intervals": "95 %, percentile bootstrap over subjects",
    "settings": [_without_arrays(o) for o in findings.outcomes],
    "measures": [_without_arrays(m) for m in findings.measures],
    "details": findings.details,
    "versions": versions(),
  }


_PLAIN = ("task", "dataset", "split", "label_set", "label_mode", "key")
_PLAIN += ("protocol", "options")


def _without_arrays(item: Outcome | Measure) -> dict:
  """The fields as JSON has them, without `scores` and `samples`."""
  fields = {
    f.name: getattr(item, f.name)
    for f in dataclasses.fields(item)
    if f.name not in ("scores", "samples")
  }
  return {
    k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v
    for k, v in fields.items()
  }


def _arrays(findings: Findings) -> dict[str, np.ndarray]:
  """What goes into the `.npz`: test records, scores and resamples."""
  test = findings.test
  arrays = {
    "record_ids": test.record_ids,
    "subjects": test.subjects,
    "labels": test.labels,
    "label_names": np.array(test.label_names, str),
  }
  for i, outcome in enumerate(findings.outcomes):
    arrays[f"scores/{i}"] = outcome.scores
    arrays[f"samples/{i}"] = outcome.samples
  for i, measure in enumerate(findings.measures):
    arrays[f"measure/{i}"] = measure.samples
  return arrays


def versions() -> dict[str, str]:
  """Versions of what the numbers depend on; a missing package is left out."""
  known = {"python": platform.python_version()}
  for name in ("cgdmer-jax", "jax", "numpy", "scipy"):
    try:
      known[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  return known


def read(path: str | os.PathLike) -> Result:
  """The result in a file.

  Raises:
    UserError: the file cannot be read or is no result, or its arrays are
      missing or of another run.
  """
  path = pathlib.Path(path)
  try:
    document = json.loads(path.read_text(encoding="utf-8"))
  except OSError as e:
    raise UserError(f"cannot read the result {path}: {e.strerror or e}") from e
  except ValueError as e:
    raise UserError(f"result {path} is not valid JSON: {e}") from e
  if not isinstance(document, dict) or "arrays" not in document:
    raise UserError(f"{path} is not a result file of an evaluation")
  if "protocol" not in document:
    raise UserError(f"{path} is of an older version; evaluate again")
  arrays_path = path.with_name(document["arrays"]["file"])
  try:
    content = arrays_path.read_bytes()
  except OSError as e:
    raise UserError(
      f"cannot read the scores {arrays_path}: {e.strerror or e}; keep them"
      " beside the result"
    ) from e
  if hashlib.sha256(content).hexdigest() != document["arrays"]["sha256"]:
    raise UserError(f"{arrays_path} does not belong to {path}; evaluate again")
  with np.load(io.BytesIO(content), allow_pickle=False) as data:
    arrays = dict(data)
  test = TestSet(
    record_ids=arrays["record_ids"],
    subjects=arrays["subjects"],
    labels=arrays["labels"],
    label_names=tuple(arrays["label_names"].tolist()),
  )
  findings = Findings(
    test,
    tuple(
      _outcome(row, arrays[f"scores/{i}"], arrays[f"samples/{i}"])
      for i, row in enumerate(document["settings"])
    ),
    tuple(
      Measure(
        **row | {"estimate": Estimate(**row["estimate"])},
        samples=arrays[f"measure/{i}"],
      )
      for i, row in enumerate(document["measures"])
    ),
    document["details"],
  )
  return Result(
    encoder=Identity(**document["encoder"]),
    findings=findings,
    **{name: document[name] for name in _PLAIN},
  )


def _outcome(row: dict, scores: np.ndarray, samples: np.ndarray) -> Outcome:
  """The outcome that `_without_arrays` made `row` of, and its arrays."""

  def estimate(fields: dict | None) -> Estimate | None:
    return None if fields is None else Estimate(**fields)

  evaluation = row["evaluation"]
  for fields in (evaluation, *evaluation["labels"]):
    for name in ("auroc", "auprc", "macro_auroc", "macro_auprc"):
      if name in fields:
        fields[name] = estimate(fields[name])
  labels = tuple(LabelScore(**r) for r in evaluation["labels"])
  return Outcome(
    **row
    | {
      "evaluation": Evaluation(**evaluation | {"labels": labels}),
      "strengths": tuple(row["strengths"]),
      "strength_grid": tuple(row["strength_grid"]),
    },
    scores=scores,
    samples=samples,
  )
