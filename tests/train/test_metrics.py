import io
import json
import math

import pytest

from cgdmer_jax import progress
from cgdmer_jax.train import metrics


def write_steps(workdir, steps, start_step=0):
  with metrics.Writers(workdir, start_step) as writer:
    for step in steps:
      writer.write(step, {"loss": 1 / step, "loss/align": step * 2.0})


def steps_of(workdir):
  return [row["step"] for row in metrics.read_metrics(workdir)]


def test_what_is_written_is_read(tmp_path):
  write_steps(tmp_path / "run", [10, 20])
  assert metrics.read_metrics(tmp_path / "run") == [
    {"step": 10, "loss": 0.1, "loss/align": 20.0},
    {"step": 20, "loss": 0.05, "loss/align": 40.0},
  ]
  assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_lines_are_on_disk_before_the_writer_is_closed(tmp_path):
  writer = metrics.Writers(tmp_path)
  writer.write(1, {"loss": 2.0})
  assert metrics.read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]
  writer.close()


def test_no_metrics_yet(tmp_path):
  assert metrics.read_metrics(tmp_path) == []


def test_resumed_run_writes_each_step_once(tmp_path):
  write_steps(tmp_path / "whole", range(1, 9))
  write_steps(tmp_path / "run", range(1, 7))  # killed after step 6 ...
  write_steps(tmp_path / "run", range(5, 9), start_step=4)  # ... saved at 4
  files = [tmp_path / d / metrics.FILE_NAME for d in ("whole", "run")]
  assert files[0].read_text() == files[1].read_text()


def test_fresh_start_drops_everything(tmp_path):
  write_steps(tmp_path, [1, 2, 3])
  write_steps(tmp_path, [1])
  assert steps_of(tmp_path) == [1]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"step": 3}', '{"a": "é'])
def test_torn_last_line_is_dropped(tmp_path, torn):
  write_steps(tmp_path, [1, 2])
  path = tmp_path / metrics.FILE_NAME
  with path.open("ab") as f:
    f.write(torn.encode()[:-1] if "é" in torn else torn.encode())
  assert steps_of(tmp_path) == [1, 2]
  write_steps(tmp_path, [3], start_step=2)
  assert steps_of(tmp_path) == [1, 2, 3]
  for line in path.read_text().splitlines():
    json.loads(line)


def test_nan_is_strict_json(tmp_path):
  with metrics.Writers(tmp_path) as writer:
    writer.write(1, {"a": math.nan, "b": -math.inf, "c": 1.0})
  text = (tmp_path / metrics.FILE_NAME).read_text()
  assert json.loads(text, parse_constant=pytest.fail) == {
    "step": 1,
    "a": None,
    "b": None,
    "c": 1.0,
  }
  (row,) = metrics.read_metrics(tmp_path)
  assert math.isnan(row["a"])


class Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_progress_lines():
  clock, stream = Clock(), io.StringIO()
  with progress.Progress(
    300, 100, batch_size=8, stream=stream, clock=clock
  ) as p:
    clock.now += 60  # compilation: does not count
    for step in range(101, 301):
      p.update(
        step, {"loss": 4.0, "align": step / 7} if step % 50 == 0 else None
      )
      clock.now += 0.25
  lines = stream.getvalue().splitlines()
  assert lines == [
    "step 101/300",
    "step 141/300  32 ex/s  eta 0:40",
    "step 181/300  loss 4  align 21.43  32 ex/s  eta 0:30",
    "step 221/300  loss 4  align 28.57  32 ex/s  eta 0:20",
    "step 261/300  loss 4  align 35.71  32 ex/s  eta 0:10",
    "step 300/300  loss 4  align 42.86  32 ex/s  eta 0:00",
  ]


def test_pauses_do_not_count():
  clock = Clock()
  p = progress.Progress(10_000, batch_size=4, stream=io.StringIO(), clock=clock)
  assert p.examples_per_second is None
  for step in range(1, 21):
    p.update(step)
    clock.now += 0.5
    if step == 10:
      with p.paused():
        clock.now += 1000
  assert p.examples_per_second == pytest.approx(8)


def test_rate_is_recent():
  clock = Clock()
  p = progress.Progress(10_000, stream=io.StringIO(), clock=clock)
  for step in range(1, 101):
    p.update(step)
    clock.now += 10 if step < 20 else 1
  assert p.examples_per_second == pytest.approx(1)


def test_bar_in_a_terminal():
  clock, stream = Clock(), Terminal()
  with progress.Progress(4, batch_size=2, stream=stream, clock=clock) as p:
    for step in range(1, 5):
      p.update(step, {"loss": 1.25})
      clock.now += 1
  shown = stream.getvalue()
  assert "4/4" in shown
  assert "loss 1.25" in shown
  assert "2 ex/s  eta 0:00" in shown


def test_duration():
  assert progress._duration(3599.6) == "1:00:00"
  assert progress._duration(65) == "1:05"
