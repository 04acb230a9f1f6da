"""Shards as functions of their jobs, and the processes that write them."""

import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from array_record.python import array_record_module
from tensorflow_datasets.proto import tf_example_pb2

from cgdmer_jax.data import schema
from cgdmer_jax.errors import UserError
from data_builders import processes, records, rejects, shards
from tests.data_builders import calls

ROOT = shards.__file__.rsplit(os.sep, 2)[0]
LABELS = {"sex": ("female", "male")}


BROKEN = {}  # records whose files are damaged, and what is said of them


def make(job, bad=()):
  """A record of noise; every field is a function of the job."""
  if job.id in BROKEN:
    return rejects.Rejection(job.id, BROKEN[job.id], "by the test")
  if job.id in bad:
    return rejects.Rejection(job.id, bad[job.id], "by the test")
  rng = np.random.default_rng(int(job.id))
  fields = {
    "id": job.id,
    "subject_id": job.subject_id,
    "ecg": rng.integers(-999, 999, (12, 50)).astype(np.int16),
    "lead_valid": rng.random(12) < 0.9,
    "report": job.report,
    "labels": dict(job.labels),
  }
  faults = ("lost", "torn")[: int(job.id) % 3]
  return shards.Made(fields, bytes([int(job.id)]), faults)


def jobs_of(number):
  return [
    records.RecordJob(
      id=str(i),
      path=pathlib.Path("records") / str(i),
      subject_id=str(i // 2),
      report=f"Sinusrhythmus, Überleitung {i}",
      labels={"sex": np.array([i % 2, 1 - i % 2], np.uint8)},
    )
    for i in range(number)
  ]


def writer(**bad):
  names = {k.removeprefix("record"): v for k, v in bad.items()}
  return shards.Writer(
    functools.partial(make, bad=names), schema.features(50, LABELS)
  )


def read(path):
  reader = array_record_module.ArrayRecordReader(str(path))
  parsed = map(tf_example_pb2.Example.FromString, reader.read_all())
  return [p.features.feature for p in parsed]


@pytest.mark.parametrize("number", [1, 2, 3, 7, 100, 101])
@pytest.mark.parametrize("record_bytes", [1, shards.SHARD_BYTES // 7])
def test_division(number, record_bytes, tmp_path):
  jobs = list(range(number))
  plan = shards.divide(jobs, record_bytes, tmp_path, "train")
  assert [job for shard in plan for job in shard.jobs] == jobs
  sizes = [len(shard.jobs) for shard in plan]
  assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1
  assert max(sizes) * record_bytes <= shards.SHARD_BYTES
  if len(plan) > 1:  # one fewer would not do
    assert number * record_bytes > (len(plan) - 1) * shards.SHARD_BYTES
  assert len(
    {shard.path for shard in plan} | {s.note for s in plan}
  ) == 2 * len(plan)


def test_records_and_outcome(tmp_path):
  shard = shards.Shard(tmp_path / "deep" / "shard", jobs_of(20))
  outcome = writer(record3="truncated", record7="no_signal")(shard)
  assert outcome.num_examples == 18 and not outcome.resumed
  assert [(r.id, r.reason) for r in outcome.rejected] == [
    ("3", "truncated"),
    ("7", "no_signal"),
  ]
  found = read(shard.path)
  kept = [job for job in shard.jobs if job.id not in ("3", "7")]
  assert len(found) == 18
  for fields, job in zip(found, kept, strict=True):
    expected = make(job).fields
    value = {k: f.bytes_list.value[0] for k, f in fields.items()}
    assert value["id"].decode() == job.id
    assert value["report"].decode() == job.report
    assert value["subject_id"].decode() == job.subject_id
    assert value["ecg"] == expected["ecg"].tobytes()
    assert value["lead_valid"] == expected["lead_valid"].tobytes()
    assert value["labels/sex"] == job.labels["sex"].tobytes()
  numbers = [int(job.id) for job in kept]
  assert bytes.fromhex(outcome.identities) == bytes(numbers)
  assert outcome.faults == {
    "lost": sum(i % 3 > 0 for i in numbers),
    "torn": sum(i % 3 == 2 for i in numbers),
  }
  assert shards.read_outcome(shard) == outcome
  assert sorted(p.name for p in shard.path.parent.iterdir()) == [
    "shard",
    "shard.json",
  ]


def test_finished_shard_is_left_alone(tmp_path):
  shard = shards.Shard(tmp_path / "shard", jobs_of(5))
  first = writer(record1="no_signal")(shard)
  before = shard.path.stat()
  again = writer(record1="no_signal")(shard)
  assert again.resumed and again.rejected == first.rejected
  assert (again.num_examples, again.num_bytes) == (4, first.num_bytes)
  after = shard.path.stat()
  assert (after.st_ino, after.st_mtime_ns) == (
    before.st_ino,
    before.st_mtime_ns,
  )


def change_label(shard):
  shard.jobs[4].labels["sex"][:] = (1, 1)


def truncate(shard):
  os.truncate(shard.path, shard.path.stat().st_size - 1)


def remove(shard):
  shard.path.unlink()


def cut_note(shard):
  os.truncate(shard.note, 20)


@pytest.mark.parametrize("spoil", [change_label, truncate, remove, cut_note])
def test_anything_else_is_written_anew(tmp_path, spoil):
  shard = shards.Shard(tmp_path / "shard", jobs_of(5))
  writer()(shard)
  spoil(shard)
  assert not writer()(shard).resumed
  other = shards.Shard(tmp_path / "other", shard.jobs)
  writer()(other)
  assert shard.path.read_bytes() == other.path.read_bytes()


def make_otherwise(job):
  return make(job)


@pytest.mark.parametrize(
  "other",
  [
    writer(record9="no_signal"),
    shards.Writer(make_otherwise, schema.features(50, LABELS)),
    shards.Writer(make, schema.features(50, {"sex": ("male", "female")})),
  ],
)
def test_other_settings_write_anew(tmp_path, other):
  shard = shards.Shard(tmp_path / "shard", jobs_of(5))
  writer()(shard)
  assert not other(shard).resumed
  assert other(shard).resumed


def test_odd_notes_are_no_notes(tmp_path):
  shard = shards.Shard(tmp_path / "shard", jobs_of(5))
  for text in ("{}", "[]", "null", '{"fingerprint": 1, "size": 2}'):
    shard.note.write_text(text)
    assert not writer()(shard).resumed


@pytest.mark.parametrize(
  "reason", ["missing_file", "unreadable", "truncated", "corrupt"]
)
def test_records_that_were_fixed_come_in(tmp_path, reason, monkeypatch):
  shard = shards.Shard(tmp_path / "shard", jobs_of(5))
  monkeypatch.setitem(BROKEN, "1", reason)
  assert writer()(shard).num_examples == 4
  monkeypatch.delitem(BROKEN, "1")
  assert writer()(shard).num_examples == 5


def test_other_rejections_are_final(tmp_path, monkeypatch):
  shard = shards.Shard(tmp_path / "shard", jobs_of(5))
  monkeypatch.setitem(BROKEN, "1", "no_signal")
  writer()(shard)
  monkeypatch.delitem(BROKEN, "1")
  assert writer()(shard).num_examples == 4


def test_exception_leaves_nothing(tmp_path):
  jobs = [*jobs_of(5), records.RecordJob("no number", "", "", "", {})]
  with pytest.raises(ValueError, match="no number"):
    writer()(shards.Shard(tmp_path / "shard", jobs))
  assert list(tmp_path.iterdir()) == []


def test_full_disk(tmp_path):
  """A limit on the size of files stands in for the disk."""
  code = """
import resource, signal, sys
sys.dont_write_bytecode = True  # it would be cut, too
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
import pathlib
from data_builders import shards
from tests.data_builders import test_shards
shard = shards.Shard(pathlib.Path(sys.argv[1]), test_shards.jobs_of(200))
try:
  test_shards.writer()(shard)
except test_shards.UserError as e:
  print(e)
"""
  command = [sys.executable, "-c", code, tmp_path / "shard"]
  result = subprocess.run(
    command, cwd=ROOT, capture_output=True, text=True, check=True
  )
  assert result.stdout.startswith("cannot write the data set: write() failed")
  assert "is the disk full?" in result.stdout and result.stdout.count("\n") == 1
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_processes_keep_the_order(num_workers):
  assert list(processes.run(calls.double, range(50), num_workers)) == [
    2 * x for x in range(50)
  ]
  with pytest.raises(UserError, match="negative"):
    list(processes.run(calls.double, [1, 2, -1], num_workers))


def test_death_of_a_process():
  with pytest.raises(UserError, match="--num_workers"):
    list(processes.run(calls.die, range(8), 2))


@pytest.mark.parametrize(
  "signals",
  [(signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGINT,)]
  + [(signal.SIGINT, signal.SIGINT)],
)
@pytest.mark.parametrize("busy", ["in the workers", "in the caller"])
def test_workers_end_with_their_parent(signals, busy):
  seconds = 60 if busy == "in the caller" else 0
  # What is started in the background by a shell ignores Ctrl-C, and so do its
  # children.
  code = f"""
import multiprocessing, signal, time
from data_builders import processes
if __name__ == "__main__":
  signal.signal(signal.SIGINT, signal.default_int_handler)
  for _ in processes.run(time.sleep, [0.01, 0.01, *[60] * 100], 2):
    print(*[p.pid for p in multiprocessing.active_children()], flush=True)
    time.sleep({seconds})
"""
  process = subprocess.Popen(
    [sys.executable, "-c", code],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  workers = process.stdout.readline().split()
  for number in signals:
    process.send_signal(number)
    time.sleep(0.05)
  process.communicate(timeout=50)  # the tasks would take minutes
  assert process.returncode
  assert len(workers) == 2
  deadline = time.monotonic() + 20
  while any(os.path.exists(f"/proc/{pid}") for pid in workers):
    assert time.monotonic() < deadline
    time.sleep(0.02)
