"""Random access to the records of a data set on disk."""

from __future__ import annotations

import functools
import hashlib
import json
import operator
import os
import pathlib
import re
import resource
import weakref
from collections.abc import Mapping
from typing import Any, SupportsIndex

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_pb2

from cgdmer_jax import buckets, paths
from cgdmer_jax.data import schema
from cgdmer_jax.data.leads import LEADS, NUM_LEADS
from cgdmer_jax.errors import UserError

Record = dict[str, Any]

_END = 64 << 10  # bytes of each end of a file that its fingerprint knows

# Files that all else needs, when more may be opened and when not.
_OTHER_FILES, _FEWEST_OTHER_FILES = 512, 128


class EcgSource:
  """The records of one split, as a sequence of dicts of NumPy arrays.

  Needs the files only, not the code that built them. Thread-safe; pickles to a
  few kB, so that data workers can be given a copy.

  Records are parsed here rather than by TFDS: every field of the schema is one
  byte string, and reading it as such takes a third of the CPU time.

  Attributes:
    name: full name, for instance `ptb_xl/100hz/1.0.0`.
    split: the split as given to the constructor.
    path: directory of the data set's files.
    sampling_rate: Hz.
    num_samples: samples of each lead.
    label_sets: label set -> names of its labels, in the order of the vectors.
    label_mode: `fixed` or `merl_compat`, see `data_builders/label_modes.py`.
    fingerprint: changes with the records, and not where the files are moved,
      copied or touched; see `_fingerprint`.
  """

  def __init__(self, dataset: str, split: str, data_dir: epath.PathLike):
    """Opens a split.

    Args:
      dataset: `name`, `name/config`, or either followed by `:version`.
      split: `train`, `train[:4000]`, `train[:25%]`, `train+validation`.
      data_dir: the directory given to the build command.

    Raises:
      UserError: there is no such data set or split, or its records do not
        follow `cgdmer_jax/data/schema.py`.
    """
    info, self._raw = _open(dataset, split, data_dir)
    self._num_files = len(info.splits[split].file_instructions)
    self.name: str = info.full_name
    self.split = split
    self.path = epath.Path(info.data_dir)
    self.sampling_rate, self.label_sets = _check_metadata(info, self.path)
    self.num_samples = _check_features(info, self.label_sets, self.path)
    # Data sets with one label mode do not store it.
    self.label_mode: str = info.metadata.get("label_mode", schema.FIXED)
    self.fingerprint = _fingerprint(info, split)
    _reserve(self)

  def __len__(self) -> int:
    return len(self._raw)

  def __getitem__(self, index: SupportsIndex) -> Record:
    """Record `index`.

    Returns:
      `id`, `subject_id` and `report` (str), `ecg` int16 (12, T) in microvolts,
      `lead_valid` bool (12,), `labels` {label set: uint8 (number of labels,)}.
      Arrays are read-only views of the record.
    """
    fields = self._fields(index)
    return {**_annotations(fields, self.label_sets), **_signal(fields)}

  def annotations(self, index: SupportsIndex) -> Record:
    """Record `index` without `ecg` and `lead_valid`."""
    return _annotations(self._fields(index), self.label_sets)

  def signal(self, index: SupportsIndex) -> Record:
    """`ecg` and `lead_valid` of record `index`, nothing else."""
    return _signal(self._fields(index))

  def _fields(self, index: SupportsIndex) -> Mapping[str, Any]:
    i = operator.index(index)
    i = i + len(self) if i < 0 else i
    if not 0 <= i < len(self):
      raise IndexError(f"record {index} of {len(self)} in {self.name}")
    return tf_example_pb2.Example.FromString(self._raw[i]).features.feature

  def __repr__(self) -> str:
    return f"EcgSource({self.name}, {self.split}, {len(self)} records)"


_sources: weakref.WeakSet[EcgSource] = weakref.WeakSet()


def _reserve(source: EcgSource) -> None:
  """Lets this process, and those that it starts, open all files of its sources.

  A file that was read from stays open: one for each shard, of 6 kB memory and
  no thread. Opening it for every record instead costs 0.12 ms more than the
  0.26 ms that reading takes (120 kB, from memory), so the soft limit is raised.

  Raises:
    UserError: the hard limit does not allow it.
  """
  _sources.add(source)
  number = sum(other._num_files for other in _sources)
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  if soft == resource.RLIM_INFINITY or number + _OTHER_FILES <= soft:
    return
  wanted = number + _OTHER_FILES
  if hard != resource.RLIM_INFINITY:
    wanted = min(wanted, hard)
  try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
  except (OSError, ValueError):  # more than macOS allows
    wanted = soft
  if number + _FEWEST_OTHER_FILES > max(soft, wanted):
    raise UserError(
      f"{source.path} and what else is read have {number} files, too many to be"
      f" open at once: `ulimit -n` is {max(soft, wanted)}; raise its hard limit"
      f" to {number + _OTHER_FILES}"
    )


def _bytes(fields: Mapping[str, Any], key: str) -> bytes:
  return fields[key].bytes_list.value[0]


def _signal(fields: Mapping[str, Any]) -> Record:
  ecg = np.frombuffer(_bytes(fields, "ecg"), np.int16)
  return {
    "ecg": ecg.reshape(NUM_LEADS, -1),
    "lead_valid": np.frombuffer(_bytes(fields, "lead_valid"), np.bool_),
  }


def _annotations(fields: Mapping[str, Any], label_sets) -> Record:
  text = {
    key: _bytes(fields, key).decode() for key in ("id", "subject_id", "report")
  }
  labels = {
    key: np.frombuffer(_bytes(fields, f"labels/{key}"), np.uint8)
    for key in label_sets
  }
  return {**text, "labels": labels}


def _open(dataset: str, split: str, data_dir: epath.PathLike):
  """Dataset info and the raw records (bytes) of a split."""
  data_dir = os.fspath(epath.Path(data_dir).expanduser())
  paths.check_text(data_dir)
  buckets.fetch_data_set(pathlib.Path(data_dir), dataset)
  try:
    builder = tfds.core.read_only_builder.builder_from_files(
      dataset, data_dir=data_dir
    )
  except (tfds.core.registered.DatasetNotFoundError, ValueError) as e:
    raise UserError(
      f"no data set {dataset!r} in {data_dir}"
      f"{_alternatives(dataset, data_dir)}; build it: python -m"
      f" data_builders.build --dataset={dataset.split(':')[0]}"
      f" --data_dir={data_dir}; for a folder of yours see docs/your_data.md"
    ) from e
  try:
    raw = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
  except (ValueError, AssertionError) as e:
    splits = builder.info.splits
    have = ", ".join(f"{k} ({splits[k].num_examples} records)" for k in splits)
    why = "no records in" if "of 0 length" in str(e) else "no"
    raise UserError(
      f"{why} split {split!r} in {builder.info.full_name}; it has {have};"
      " slices look like train[:4000] or train[:25%]"
    ) from e
  return builder.info, raw


def _alternatives(dataset: str, data_dir: str) -> str:
  """Lists what exists: configs or versions of the data set, or other ones."""
  buckets.fetch_names(pathlib.Path(data_dir))
  root = epath.Path(data_dir)
  name = re.split("[/:]", dataset)[0]
  for directory, prefix in ((root / name, name), (root, "")):
    if directory.is_dir():
      names = sorted(p.name for p in directory.iterdir() if p.is_dir())
      names = [n for n in names if n != "downloads" and "incomplete" not in n]
      names = [n for n in names if _is_built(directory / n)]
      if names:
        listed = ", ".join(f"{prefix}/{n}".lstrip("/") for n in names)
        return f" (found: {listed})"
  return ""


def _is_built(directory: epath.Path) -> bool:
  """Whether there is a data set, and not only what a failed build leaves."""
  depths = ("", "*/", "*/*/")
  return any(
    path.parts[-3] != "incomplete"
    for depth in depths
    for path in directory.glob(f"{depth}dataset_info.json")
  )


def _check_metadata(info, path) -> tuple[int, dict[str, tuple[str, ...]]]:
  metadata = dict(info.metadata or {})
  for key, expected in (("leads", list(LEADS)), ("unit", schema.UNIT)):
    if metadata.get(key) != expected:
      raise UserError(
        f"{path}: {key} is {metadata.get(key)}, expected {expected}; rebuild"
        " the data set with this version of data_builders"
      )
  label_sets = {k: tuple(v) for k, v in metadata["label_sets"].items()}
  return int(metadata["sampling_rate"]), label_sets


def _check_features(info, label_sets, path) -> int:
  """Checks that the features are those of the schema; returns T."""
  features = info.features
  num_samples = features["ecg"].shape[-1] if "ecg" in features else 0
  if features.to_json() != schema.features(num_samples, label_sets).to_json():
    raise UserError(
      f"{path}: its records do not follow cgdmer_jax/data/schema.py;"
      " rebuild the data set with this version of data_builders"
    )
  return num_samples


def _fingerprint(info, split: str) -> str:
  """Hash of the split, of the metadata, and of parts of every file.

  The parts are the size, the beginning and the end: 30 GB need not be read to
  see that they are others. Other records make files of other sizes, as their
  compression differs.
  """
  metadata = json.dumps(dict(info.metadata or {}), sort_keys=True)
  digest = hashlib.sha256(f"{info.full_name}|{split}|{metadata}".encode())
  for name in sorted(info.splits):
    for file in info.splits[name].filepaths:
      # Not `epath`: it wants to know the owner's name, which may have none.
      stat = os.stat(file)
      digest.update(f"|{os.path.basename(file)},{stat.st_size},".encode())
      digest.update(_ends(os.fspath(file), stat.st_size, stat.st_mtime))
  return digest.hexdigest()


@functools.lru_cache(maxsize=10_000)
def _ends(path: str, size: int, mtime: float) -> bytes:
  """Hash of the beginning and the end of a file; read once per program."""
  del mtime
  with open(path, "rb") as file:
    content = file.read(_END)
    file.seek(max(0, size - _END))
    return hashlib.sha256(content + file.read(_END)).digest()
