"""Base classes of all builders, and of those of recorded data sets.

A builder lists the records of its corpus as jobs and names the function that
makes a record from a job. Dividing jobs into shards, writing these in several
processes, rejecting records and resuming after a stop are done here, with the
same bytes for any number of processes.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder

from cgdmer_jax import disk, paths, progress
from cgdmer_jax.data import identity
from cgdmer_jax.errors import UserError
from cgdmer_jax.recordings import codec, rejected, wfdb_io
from data_builders import (
  beam_pipeline,
  downloads,
  duplicates,
  processes,
  rejects,
  shards,
)

_JOBS_PER_WORKER = 500  # a worker starts in seconds and does 500 records/s

Plan = Mapping[str, Sequence[shards.Shard]]  # of each split
Outcomes = Mapping[str, Sequence[shards.Outcome]]  # of these shards
Reader = Callable[[pathlib.Path], codec.Recording]  # raises rejected.Rejected


@dataclasses.dataclass(frozen=True)
class RecordJob:
  """A record to be read.

  Attributes:
    id: the data set's own id, unique in the data set.
    path: its files without suffix.
    subject_id: patient; empty where the data set knows none.
    report: cleaned report, may be empty.
    labels: label set name -> uint8 multi-hot vector.
  """

  id: str
  path: pathlib.Path
  subject_id: str
  report: str
  labels: Mapping[str, np.ndarray]


def make_record(
  job: RecordJob, spec: codec.SignalSpec, read: Reader = wfdb_io.read
) -> shards.Made | rejects.Rejection:
  """Reads and encodes one record.

  Args:
    job: the record.
    spec: rate and length of the records.
    read: function that reads the files of a record.

  Returns:
    The record, or why there is none.
  """
  try:
    ecg, lead_valid, faults = codec.encode(read(job.path), spec)
  except rejected.Rejected as e:
    return rejects.Rejection(job.id, e.reason, str(e))
  fields = {"id": job.id, "subject_id": job.subject_id, "report": job.report}
  fields |= {"ecg": ecg, "lead_valid": lead_valid, "labels": dict(job.labels)}
  return shards.Made(fields, identity.identify(ecg, spec.sampling_rate), faults)


def check_jobs(jobs: Mapping[str, Sequence[RecordJob]]) -> None:
  """Checks what must hold before anything is read.

  Args:
    jobs: split name -> jobs.

  Raises:
    UserError: a split is empty, an id occurs twice, or two splits share a
      patient.
  """
  ids: set[str] = set()
  split_of: dict[str, str] = {}
  for split, members in jobs.items():
    if not members:
      raise UserError(f"the split {split!r} has no records")
    for job in members:
      if job.id in ids:
        raise UserError(f"record {job.id!r} is listed twice")
      ids.add(job.id)
      other = split_of.setdefault(job.subject_id, split)
      if job.subject_id and other != split:
        raise UserError(
          f"patient {job.subject_id!r} is in the splits {other!r} and {split!r}"
        )


class ShardedBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):
  """Base of all builders: writes a data set shard by shard.

  A subclass defines `_info`, `_split_jobs` and `_make`. The writer of TFDS is
  not used: it keeps up to a gigabyte of records in memory, writes them in one
  process, and cannot resume after a stop.

  Attributes:
    rejects: list of the records that could not be used.
    num_resumed: number of shards that a stopped build had finished.
  """

  OPTIONS: tuple[str, ...] = ()  # more arguments of `__init__`: `options.py`

  def __init__(
    self, *, max_rejected: float = 0.01, num_workers: int = 1, **kwargs: Any
  ):
    """Creates the builder.

    Args:
      max_rejected: largest share of records that may be rejected, 0..1.
      num_workers: largest number of processes that make records; a small data
        set gets fewer.
      **kwargs: arguments of `tfds.core.DatasetBuilder`.
    """
    super().__init__(**kwargs)
    self.rejects = rejects.Rejects(max_rejected)
    self.num_resumed = 0
    self._num_workers = num_workers

  @property
  def data_path(self) -> paths.LiteralPath:
    """Folder of the files, in which TFDS looks for some by a pattern."""
    return paths.LiteralPath(self.data_dir)

  @abc.abstractmethod
  def _split_jobs(
    self,
    dl_manager: tfds.download.DownloadManager,
    manual_dir: str | os.PathLike[str] | None,
  ) -> Mapping[str, Sequence[Any]]:
    """Lists the records by split; adds unusable rows to `self.rejects`.

    A job is anything that can be pickled and written as JSON (arrays, paths and
    dataclasses may be in it).

    Args:
      dl_manager: TFDS's manager of downloads.
      manual_dir: files that the user has downloaded, if any.
    """

  @abc.abstractmethod
  def _make(self) -> Callable[[Any], shards.Made | rejects.Rejection]:
    """The function that makes a record from its job.

    It can be pickled, and depends on the job alone.
    """

  def _download_and_prepare(self, dl_manager, download_config=None):
    download_config = download_config or tfds.download.DownloadConfig()
    jobs = self._split_jobs(dl_manager, download_config.manual_dir)
    record_bytes = 2 * math.prod(self.info.features["ecg"].shape)
    # Beside the folder that TFDS removes when it fails.
    folder = pathlib.Path(self.data_path).parent / f"shards_{self.version}"
    plan = {
      split: shards.divide(members, record_bytes, folder, split)
      for split, members in jobs.items()
    }
    # Of int16 samples, real ECGs take half; finished shards are there already.
    needed = record_bytes * sum(map(len, jobs.values())) // 2
    needed -= sum(file.stat().st_size for file in folder.glob("*"))
    disk.check_free(folder, needed, "the records")
    # Nothing is moved before everything is finished: a stopped build resumes.
    results = self._results(
      [shard for members in plan.values() for shard in members],
      download_config,
    )
    outcomes = {
      k: [next(results) for _ in members] for k, members in plan.items()
    }
    plan, outcomes = self._settle(plan, outcomes, download_config)
    splits = [self._publish(k, plan[k], outcomes[k]) for k in plan]
    self.info.set_splits(tfds.core.SplitDict(splits))
    shutil.rmtree(folder)

  def _results(
    self,
    plan: Sequence[shards.Shard],
    download_config: tfds.download.DownloadConfig,
  ) -> Iterator[shards.Outcome]:
    """Writes the shards; yields their outcomes in order and counts them."""
    num_jobs = sum(len(shard.jobs) for shard in plan)
    outcomes = self._write(plan, download_config)
    # Closed here, not when garbage is collected: that can be in any thread.
    with (
      contextlib.closing(outcomes),
      progress.Progress(num_jobs, unit="record") as bar,
    ):
      done = 0
      for shard, outcome in zip(plan, outcomes, strict=True):
        done += len(shard.jobs)
        bar.update(done)
        self.num_resumed += outcome.resumed
        self.rejects.seen += len(shard.jobs)
        self.rejects.extend(outcome.rejected)
        self.rejects.check()
        yield outcome

  def _write(
    self,
    plan: Sequence[shards.Shard],
    download_config: tfds.download.DownloadConfig,
  ) -> Iterator[shards.Outcome]:
    """Writes the shards; yields their outcomes in order."""
    write = shards.Writer(self._make(), self.info.features)
    if download_config.beam_runner:
      return beam_pipeline.run(
        write, plan, download_config.beam_runner, download_config.beam_options
      )
    num_jobs = sum(len(shard.jobs) for shard in plan)
    num_workers = min(self._num_workers, num_jobs // _JOBS_PER_WORKER)
    return processes.run(write, plan, num_workers)

  def _settle(
    self,
    plan: Plan,
    outcomes: Outcomes,
    download_config: tfds.download.DownloadConfig,
  ) -> tuple[Plan, Outcomes]:
    """Decides on what only all shards together show; here, nothing."""
    del download_config
    return plan, outcomes

  def _publish(
    self,
    split: str,
    members: Sequence[shards.Shard],
    outcomes: Sequence[shards.Outcome],
  ) -> tfds.core.SplitInfo:
    """Moves the shards of a split that are not empty into the data set."""
    filled = [
      (shard, outcome)
      for shard, outcome in zip(members, outcomes, strict=True)
      if outcome.num_examples
    ]
    if not filled:
      number = sum(len(shard.jobs) for shard in members)
      raise rejects.TooManyRejected(
        f"none of the {number} records of the split {split!r} can be used"
        f" ({self.rejects.summary()})"
      )
    template = self._get_filename_template(split)
    for k, (shard, _) in enumerate(filled):
      shard.path.rename(
        template.sharded_filepath(shard_index=k, num_shards=len(filled))
      )
    return tfds.core.SplitInfo(
      name=split,
      shard_lengths=[outcome.num_examples for _, outcome in filled],
      num_bytes=sum(outcome.num_bytes for _, outcome in filled),
      filename_template=template,
    )


class RecordBuilder(ShardedBuilder, skip_registration=True):
  """Base of the builders of recorded data sets.

  A subclass defines `_info`, `_signal_spec` and `_list_jobs`, and documents
  in `MANUAL_DOWNLOAD_INSTRUCTIONS` where its files come from. Its rejected
  records, and those of the same recording, are listed beside the data set.

  Attributes:
    DOWNLOAD: what to download without `manual_dir`; None: nothing can be.
    duplicate_groups: records of the same recording.
    faults: reason -> number of leads that are invalid for it.
  """

  DOWNLOAD: downloads.PhysioNet | None

  def __init__(self, **kwargs: Any):
    """Creates the builder; the arguments are those of `ShardedBuilder`."""
    super().__init__(**kwargs)
    self.duplicate_groups: Sequence[duplicates.Group] = ()
    self.faults: collections.Counter[str] = collections.Counter()

  @abc.abstractmethod
  def _signal_spec(self) -> codec.SignalSpec:
    """Rate and length of the records."""

  def _reader(self) -> Reader:
    """The function that reads a record; a subclass may have another format."""
    return wfdb_io.read

  @abc.abstractmethod
  def _list_jobs(self, source_dir: pathlib.Path) -> dict[str, list[RecordJob]]:
    """Lists the records by split; adds unusable rows to `self.rejects`.

    Raises:
      UserError: `source_dir` is not the data set.
    """

  def _split_jobs(self, dl_manager, manual_dir):
    if manual_dir is None:
      # Where TFDS would keep them; its manager cannot resume a download.
      parent = pathlib.Path(dl_manager.download_dir) / self.name
      manual_dir = downloads.fetch(self.DOWNLOAD, parent)
    jobs = self._list_jobs(pathlib.Path(manual_dir))
    self.rejects.start(sum(map(len, jobs.values())))
    check_jobs(jobs)
    return jobs

  def _make(self):
    return functools.partial(
      make_record, spec=self._signal_spec(), read=self._reader()
    )

  def _has_published_splits(self) -> bool:
    """Whether others rely on which record is in which split.

    Then all copies of a recording are kept, else one of them.
    """
    return False

  def _settle(self, plan, outcomes, download_config):
    groups = duplicates.find(plan, outcomes)
    if not self._has_published_splits():
      groups = [group.keep_one() for group in groups]
    self.duplicate_groups = groups
    self.info.metadata["duplicates"] = duplicates.metadata(groups)
    for group in groups:
      kept = [r.job.id for r in group.records if r not in group.left_out]
      for record in group.left_out:
        detail = f"same recording as {', '.join(kept)}"
        self.rejects.leave_out(record.job.id, duplicates.REASON, detail)
    left_out = {r.job.id for group in groups for r in group.left_out}
    if left_out:
      plan, outcomes = self._leave_out(
        left_out, plan, outcomes, download_config
      )
    for outcome in (o for members in outcomes.values() for o in members):
      self.faults.update(outcome.faults)
    self.info.metadata["invalid_leads"] = dict(sorted(self.faults.items()))
    return plan, outcomes

  def _leave_out(
    self,
    left_out: set[str],
    plan: Plan,
    outcomes: Outcomes,
    download_config: tfds.download.DownloadConfig,
  ) -> tuple[Plan, Outcomes]:
    """Writes the shards anew that have records to be left out."""
    pairs = {
      split: list(zip(plan[split], outcomes[split], strict=True))
      for split in plan
    }
    new = {
      shard.path: shorter
      for members in pairs.values()
      for shard, outcome in members
      if (shorter := duplicates.without(shard, outcome, left_out))
    }
    with contextlib.closing(
      self._write(list(new.values()), download_config)
    ) as results:
      written = dict(zip(new, results, strict=True))
    for outcome in written.values():
      self.num_resumed += outcome.resumed
      self.rejects.extend(outcome.rejected)  # files that have gone meanwhile
    self.rejects.check()
    return (
      {
        split: [new.get(shard.path, shard) for shard, _ in members]
        for split, members in pairs.items()
      },
      {
        split: [written.get(shard.path, outcome) for shard, outcome in members]
        for split, members in pairs.items()
      },
    )

  def _post_download_and_prepare_hook(self) -> None:
    folder = pathlib.Path(self.data_dir)
    self.rejects.write(folder / rejects.FILE_NAME)
    duplicates.write(folder / duplicates.FILE_NAME, self.duplicate_groups)
