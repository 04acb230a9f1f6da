"""Reading and building a corpus like MIMIC-IV-ECG, with simulated signals.

    python -m tests.benchmarks.build reading          # on one core
    python -m tests.benchmarks.build building 100000  # in all cores

`reading` writes 500 WFDB records of 10 s at 500 Hz, builds them, and reads them
at random: with `wfdb.rdrecord`, as loaders of one file a record do, and from
the shards. `building` has records of their own headers, which share the signals
of 200; it needs about 60 kB of disk a record, and says how much memory the
build and its processes used at most (proportional set size).
"""

import csv
import functools
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import warnings

import numpy as np
import wfdb

from data_builders import processes

RATE = 500
# The order of the files; aVF comes before aVL.
ORDER = (0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11)
RECORDS = (
  "subject_id", "study_id", "file_name", "ecg_time", "path",
)  # fmt: skip
MEASUREMENTS = (
  "subject_id", "study_id", "cart_id", "ecg_time",
  *(f"report_{i}" for i in range(18)),
)  # fmt: skip


def write_corpus(folder, number, distinct):
  """Writes `number` records that share the signals of `distinct` ones."""
  from cgdmer_jax.data.leads import LEADS
  from data_builders.synthetic_ecg import simulator

  headers, reports = [], []
  names = [LEADS[i] for i in ORDER]
  for k in range(distinct):
    simulated = simulator.simulate(0, k, RATE)
    mv = simulated.ecg[list(ORDER)].T / 1000
    wfdb.wrsamp(
      f"s{k}", RATE, ["mV"] * 12, names, mv, fmt=["16"] * 12,
      adc_gain=[200.0] * 12, baseline=[0] * 12, write_dir=str(folder),
    )  # fmt: skip
    headers.append((folder / f"s{k}.hea").read_text())
    reports.append(simulated.report)
  with (
    (folder / "record_list.csv").open("w", newline="") as f,
    (folder / "machine_measurements.csv").open("w", newline="") as g,
  ):
    records, measurements = csv.writer(f), csv.writer(g)
    records.writerow(RECORDS)
    measurements.writerow(MEASUREMENTS)
    for i in range(number):
      k, study, subject = i % distinct, 40_000_000 + i, 10_000_000 + i // 5
      stem = f"files/p{subject // 10_000}/p{subject}/s{study}/{study}"
      path = folder / stem
      path.parent.mkdir(parents=True)
      text = headers[k].replace(f"s{k}.dat", f"{study}.dat")
      # Another baseline, else most records would be copies and left out.
      text = text.replace("(0)/mV", f"({i // distinct})/mV")
      path.with_suffix(".hea").write_text(
        text.replace(f"s{k} ", f"{study} ", 1)
      )
      os.link(folder / f"s{k}.dat", path.with_suffix(".dat"))
      time_ = "2180-07-23 08:44:00"
      records.writerow([subject, study, study, time_, stem])
      statement = f"{reports[k]} study {i}"
      measurements.writerow([subject, study, 1, time_, statement, *[""] * 17])


def command(source, data_dir, num_workers):
  return [
    sys.executable, "-m", "data_builders.build",
    "--dataset=mimic_iv_ecg/500hz",
    f"--manual_dir={source}",
    f"--data_dir={data_dir}",
    f"--num_workers={num_workers}",
  ]  # fmt: skip


def seconds_each(name, number, run):
  """Time of `run(k)` for each of its records, the better of k = 0 and 1."""
  times = []
  for k in range(2):
    start = time.perf_counter()
    run(k)
    times.append((time.perf_counter() - start) / number)
  print(f"{name}: {1e3 * min(times):.2f} ms a record")
  return min(times)


def reading(number=500):
  from cgdmer_jax.data.source import EcgSource
  from cgdmer_jax.recordings import codec, wfdb_io
  from data_builders import shards
  from data_builders.mimic_iv_ecg import mimic_iv_ecg_dataset_builder as mimic

  os.sched_setaffinity(0, {0})
  warnings.simplefilter("ignore")  # of pandas in wfdb
  with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    source = tmp / "source"
    source.mkdir()
    write_corpus(source, number, number)
    subprocess.run(command(source, tmp / "data", 1), check=True)
    stored = EcgSource("mimic_iv_ecg/500hz", "train", tmp / "data")
    order = np.random.default_rng(0).permutation(len(stored)).tolist()
    paths = sorted(p.with_suffix("") for p in source.rglob("files/**/*.hea"))
    chosen = [paths[i] for i in order]
    each = functools.partial(seconds_each, number=len(order))
    theirs = each(
      "wfdb.rdrecord", run=lambda _: [wfdb.rdrecord(str(p)) for p in chosen]
    )
    ours = each("our shards", run=lambda _: [stored[i] for i in order])
    print(f"our shards are read {theirs / ours:.0f} times as fast")

    recordings = [wfdb_io.read(p) for p in chosen]
    spec = codec.SignalSpec(RATE, 10 * RATE)
    builder = mimic.Builder(config="500hz", data_dir=tmp / "unused")
    jobs = builder._list_jobs(source)["train"]
    write = shards.Writer(builder._make(), builder.info.features)
    decoding = each(
      "our WFDB decoding", run=lambda _: [wfdb_io.read(p) for p in chosen]
    )
    encoding = each(
      "codec", run=lambda _: [codec.encode(r, spec) for r in recordings]
    )
    whole = seconds_each(
      "building", len(jobs), lambda k: write(shards.Shard(tmp / str(k), jobs))
    )
    print(
      f"of building, {decoding / whole:.0%} are WFDB decoding,"
      f" {encoding / whole:.0%} the codec, the rest serialising, compressing"
      " and writing; decoding with wfdb.rdrecord instead would be"
      f" {theirs / (whole - decoding + theirs):.0%} of it"
    )


def memory_of(pid):
  """Proportional set size of a process and its descendants, bytes."""
  total = 0
  try:
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    for line in text.splitlines():
      if line.startswith("Pss:"):
        total += 1024 * int(line.split()[1])
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
      for child in (task / "children").read_text().split():
        total += memory_of(child)
  except OSError:  # it has just ended
    pass
  return total


def building(number):
  with tempfile.TemporaryDirectory() as tmp:
    tmp = pathlib.Path(tmp)
    source = tmp / "source"
    source.mkdir()
    write_corpus(source, number, min(number, 200))
    workers = processes.num_cpus()
    start = time.perf_counter()
    process = subprocess.Popen(command(source, tmp / "data", workers))
    peak = 0

    def watch():
      nonlocal peak
      while process.poll() is None:
        peak = max(peak, memory_of(process.pid))
        time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    watcher.join()
    seconds = time.perf_counter() - start
    files = (tmp / "data").rglob("*array_record*")
    size = sum(f.stat().st_size for f in files)
    print(
      f"{number} records with {workers} processes: {seconds:.0f} s,"
      f" {number / seconds:.0f} records/s, {size / number / 1e3:.0f} kB a"
      f" record, {peak / 2**30:.2f} GiB of memory, status {status}"
    )


if __name__ == "__main__":
  match sys.argv[1:]:
    case ["reading"]:
      reading()
    case ["building", number]:
      building(int(number))
    case _:
      sys.exit(__doc__)
