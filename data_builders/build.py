"""Builds data sets: `python -m data_builders.build --dataset=ptb_xl/100hz`.

A data set is built in a staging folder beside its final one and moved there
when it is complete, so that a name always means a whole data set: a build
that fails or is killed changes nothing there. The next build continues from the
shards that a killed one had finished.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow_datasets as tfds
from absl import app, flags, logging

from cgdmer_jax import buckets, command, disk, objects, paths
from cgdmer_jax.data import schema
from cgdmer_jax.errors import UserError, one_line
from data_builders import (
  duplicates,
  locks,
  options,
  processes,
  records,
  rejects,
  transfer,
)

_PACKAGE = pathlib.Path(__file__).parent
_STAGING = "incomplete"  # folder beside the versions of a data set

_DATASET = flags.DEFINE_string(
  "dataset", None, "Data set and config, for instance ptb_xl/100hz."
)
_MANUAL_DIR = flags.DEFINE_string(
  "manual_dir",
  None,
  "Folder of the original files, for recorded data sets; without it they are"
  " downloaded.",
)
_MAX_REJECTED = flags.DEFINE_float(
  "max_rejected", 0.01, "Largest share of unusable records.", 0.0, 1.0
)
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers",
  processes.num_cpus(),
  "Processes that read or simulate records; the result does not depend on it.",
  lower_bound=1,
)
_SIZES = {
  split: flags.DEFINE_integer(
    f"num_{split}",
    None,
    f"Records of the {split} split, for simulated data sets.",
    lower_bound=1,
  )
  for split in ("train", "validation", "test")
}
_BEAM_RUNNER = flags.DEFINE_string(
  "beam_runner",
  None,
  "Build with Apache Beam instead of --num_workers processes: DirectRunner,"
  " DataflowRunner, FlinkRunner.",
)
_BEAM_OPTIONS = flags.DEFINE_list(
  "beam_options",
  [],
  "Options of the Beam pipeline, for instance direct_num_workers=4.",
)
_OVERWRITE = flags.DEFINE_bool(
  "overwrite", False, "Replace the data set if it is already built."
)
flags.adopt_module_key_flags(options)
flags.adopt_module_key_flags(paths)  # shows --data_dir in --help


def dataset_names() -> list[str]:
  """Names of the data sets that have a builder."""
  files = _PACKAGE.glob("*/*_dataset_builder.py")
  return sorted(f.parent.name for f in files)


def builder_class(dataset: str) -> tuple[type[records.ShardedBuilder], str]:
  """Finds a builder.

  Args:
    dataset: "name/config".

  Returns:
    The builder class and the name of its config.

  Raises:
    UserError: there is no such data set or config.
  """
  name, _, config = dataset.partition("/")
  if name not in dataset_names():
    known = ", ".join(dataset_names())
    raise UserError(f"unknown data set {name!r}; choose one of {known}")
  cls = importlib.import_module(
    f"data_builders.{name}.{name}_dataset_builder"
  ).Builder
  if config not in cls.builder_configs:
    known = ", ".join(f"{name}/{c}" for c in cls.builder_configs)
    raise UserError(f"unknown data set {dataset!r}; choose one of {known}")
  return cls, config


def build(
  dataset: str,
  *,
  data_dir: str | os.PathLike[str],
  manual_dir: str | os.PathLike[str] | None = None,
  max_rejected: float = 0.01,
  num_workers: int = 1,
  sizes: Mapping[str, int] | None = None,
  beam_runner: str | None = None,
  beam_options: Sequence[str] = (),
  overwrite: bool = False,
  **given: Any,
) -> pathlib.Path:
  """Builds a data set unless it exists.

  Args:
    dataset: "name/config".
    data_dir: folder of all built data sets.
    manual_dir: folder of the original files, for recorded data sets; None:
      they are downloaded to `data_dir/downloads`.
    max_rejected: largest share of unusable records, 0..1.
    num_workers: processes that read or simulate records.
    sizes: split name -> records, for simulated data sets; the config is then
      named after them, for instance `demo_train100`.
    beam_runner: name of an Apache Beam runner that takes the place of the
      processes; None: no Beam.
    beam_options: options of the Beam pipeline, `name=value` or `name`.
    overwrite: build again and replace the existing data set at the end.
    **given: options of the data set, see `options.py`.

  Returns:
    Folder of the data set: `data_dir/name/config/version`.

  Raises:
    UserError: an argument is wrong, too many records are unusable, or another
      process is building the same data set.
  """
  cls, config = _choose(dataset, sizes or {}, given.get("splits_dir"))
  chosen = options.check(given, cls.OPTIONS, dataset)
  if beam_options and not beam_runner:
    raise UserError("--beam_options needs --beam_runner")
  data_dir = paths.anywhere(data_dir, "--data_dir")
  if manual_dir is not None:  # an empty one is no path
    manual_dir = paths.local(manual_dir, "--manual_dir")
  name = options.check_name(chosen, dataset, dataset_names())
  parent = data_dir / name / config.name
  final = parent / str(cls.VERSION)
  if not overwrite and _is_built(final):
    print(paths.with_addresses(f"already built at {final}"))
    return final
  download_dir = _check_source(cls, data_dir, manual_dir)
  chosen |= {"max_rejected": max_rejected, "num_workers": num_workers}
  with _staging(parent) as staging:
    builder = cls(config=config, data_dir=staging, **chosen)
    download = tfds.download.DownloadConfig(
      manual_dir=manual_dir,
      beam_runner=beam_runner,
      beam_options=[f"--{option}" for option in beam_options],
    )
    _prepare(builder, parent, download_dir, download)
    _publish(pathlib.Path(builder.data_dir), final)
  _summarise(builder, final)
  buckets.send_data_set(final)
  return final


def _is_built(final: pathlib.Path) -> bool:
  """Whether a data set is there; in its bucket too, if it belongs into one."""
  if final.exists():
    buckets.send_data_set(final)  # a build may have been stopped before that
    return True
  return bool(paths.address(final)) and objects.holds(
    final / "dataset_info.json"
  )


def _check_source(
  cls: type[records.ShardedBuilder],
  data_dir: pathlib.Path,
  manual_dir: pathlib.Path | None,
) -> pathlib.Path | None:
  """Folder to download the original files to; None: nothing to download."""
  if not issubclass(cls, records.RecordBuilder):
    return None
  if manual_dir:
    if not manual_dir.is_dir() or not any(manual_dir.iterdir()):
      raise UserError(
        f"--manual_dir={manual_dir} is not a folder, or is empty."
        f" {cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
      )
    return None
  if cls.DOWNLOAD is None:
    raise UserError(
      f"--manual_dir is missing. {cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  source, download_dir = cls.DOWNLOAD, data_dir / "downloads"
  if not (download_dir / cls.name).exists():
    number, unit = source.size.split()
    size = int(float(number) * {"MB": 1e6, "GB": 1e9}[unit])
    disk.check_free(download_dir, size, f"the files of {cls.name}")
  print(
    f"no --manual_dir: downloading {source.size} from {source.files_url} to"
    f" {download_dir}",
    flush=True,
  )
  return download_dir


def _prepare(
  builder: records.ShardedBuilder,
  parent: pathlib.Path,
  download_dir: pathlib.Path | None,
  config: tfds.download.DownloadConfig,
) -> None:
  """Lets TFDS build the data set in the staging folder of `parent`."""
  staging = parent / _STAGING
  try:
    # What TFDS prints would name the staging folder as the result.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(
        file_format="array_record",
        # TFDS makes these folders even if nothing comes into them.
        download_dir=download_dir or staging / "downloads",
        download_config=config.replace(
          extract_dir=staging / "extracted", try_download_gcs=False
        ),
      )
  except transfer.DownloadFailed as e:
    raise UserError(
      f"{e}. To do it by hand: {builder.MANUAL_DOWNLOAD_INSTRUCTIONS} Then give"
      " --manual_dir"
    ) from e
  except rejects.TooManyRejected as e:
    listing = parent / rejects.FILE_NAME
    builder.rejects.write(listing)
    # What was read may have to be fixed, so none of it is kept.
    shutil.rmtree(staging)
    raise UserError(f"{e}; they are listed in {listing}") from None


def _choose(
  dataset: str,
  sizes: Mapping[str, int],
  splits_dir: str | os.PathLike[str] | None,
) -> tuple[type[records.ShardedBuilder], tfds.core.BuilderConfig]:
  """Finds the builder and its config; given sizes become part of its name."""
  cls, name = builder_class(dataset)
  config = cls.builder_configs[name]
  label_mode = getattr(config, "label_mode", schema.FIXED)
  if splits_dir and label_mode != schema.MERL_COMPAT:
    raise UserError(f"--splits_dir does not apply to {dataset}")
  if not sizes:
    return cls, config
  known = {field.name for field in dataclasses.fields(config)}
  for split in sizes:
    if f"num_{split}" not in known:
      raise UserError(f"--num_{split} does not apply to {dataset}")
  suffix = "_".join(f"{split}{n}" for split, n in sizes.items())
  return cls, dataclasses.replace(
    config,
    name=f"{name}_{suffix}",
    **{f"num_{split}": n for split, n in sizes.items()},
  )


@contextlib.contextmanager
def _staging(parent: pathlib.Path) -> Iterator[pathlib.Path]:
  """Makes a folder beside the versions of a data set, for the time of a build.

  After a failure it stays if it holds finished shards. The lock tells a running
  build from the remains of one that was killed.
  """
  with contextlib.ExitStack() as stack:
    try:
      parent.mkdir(parents=True, exist_ok=True)
      stack.enter_context(locks.hold(parent / ".lock"))
    except BlockingIOError:
      raise UserError(f"another process is building {parent}") from None
    except OSError as e:
      raise UserError(f"cannot write to --data_dir: {one_line(e)}") from e
    staging = parent / _STAGING
    staging.mkdir(exist_ok=True)
    for remains in staging.glob("*/*/incomplete.*"):  # of TFDS
      shutil.rmtree(remains)
    for partial in staging.glob("*/*/shards_*/.*"):
      partial.unlink()
    try:
      yield staging
    except BaseException:
      if not any(staging.glob("*/*/shards_*/[!.]*.json")):
        shutil.rmtree(staging, ignore_errors=True)
      raise
    shutil.rmtree(staging)


def _publish(built: pathlib.Path, final: pathlib.Path) -> None:
  """Gives a complete data set its name."""
  if final.exists():  # to be overwritten
    final.rename(built.with_name("replaced"))
  built.rename(final)
  (final.parent / rejects.FILE_NAME).unlink(missing_ok=True)


def _summarise(builder: records.ShardedBuilder, final: pathlib.Path) -> None:
  sizes = ", ".join(
    f"{name} {split.num_examples}"
    for name, split in builder.info.splits.items()
  )
  print(paths.with_addresses(f"built {final}: {sizes}"))
  if builder.num_resumed:
    print(
      f"{builder.num_resumed} shards were kept from a build that was stopped"
    )
  if isinstance(builder, records.RecordBuilder):
    found = builder.rejects
    print(
      f"rejected {found.counts.total()} of {found.total}: {found.summary()}"
    )
    if found.left_out:
      print(f"left out {found.left_out.total()}: {found.left_out_summary()}")
    faults = builder.faults
    print(f"invalid leads {faults.total()}: {rejects.summary(faults)}")
    copies = duplicates.summary(builder.duplicate_groups)
    if copies:
      print(f"{copies}; see {final / duplicates.FILE_NAME}")


def main(argv: list[str]) -> None:
  """Builds the data set that the flags describe."""
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.WARNING)
  try:
    if len(argv) > 1:
      raise UserError(f"unexpected argument {argv[1]!r}")
    if not _DATASET.value:
      raise UserError(
        f"--dataset is missing; choose one of {', '.join(dataset_names())}"
      )
    build(
      _DATASET.value,
      data_dir=paths.data_dir(paths.DATA_DIR.value),
      manual_dir=_MANUAL_DIR.value,
      max_rejected=_MAX_REJECTED.value,
      num_workers=_NUM_WORKERS.value,
      sizes={
        split: flag.value
        for split, flag in _SIZES.items()
        if flag.value is not None
      },
      beam_runner=_BEAM_RUNNER.value,
      beam_options=_BEAM_OPTIONS.value,
      overwrite=_OVERWRITE.value,
      **options.given(),
    )
  except UserError as e:
    command.stop(e)
  except KeyboardInterrupt:
    print(
      "interrupted; the same command continues from the finished shards",
      file=sys.stderr,
    )
    sys.exit(130)


if __name__ == "__main__":
  app.run(main, flags_parser=command.parse_flags)
