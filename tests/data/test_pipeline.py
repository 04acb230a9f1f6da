import itertools

import numpy as np
import pytest

from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import pipeline
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError


class NumberedSource:
  """Record i holds the number i, so that batches tell what they contain."""

  name = "numbers"
  sampling_rate = 100

  def __init__(self, count: int):
    self._count = count

  def __len__(self):
    return self._count

  def signal(self, index):
    assert 0 <= index < self._count
    return {
      "ecg": np.full((12, 4), index, np.int16),
      "lead_valid": np.arange(12) != index % 12,
    }


N = 23
REPORT_IDS = (np.arange(N, dtype=np.int32) * 7) % 5
TOKENS = np.arange(5 * 8, dtype=np.int32).reshape(5, 8)


def report_rows(rows, every_row):
  """The tokens, as many as the highest row of the whole batch."""
  return {"tokens": TOKENS[rows, : every_row.max() + 4]}


def batches(count, *, batch_size=4, seed=0, source=None, **kwargs):
  iterator = pipeline.train_batches(
    source or NumberedSource(N),
    REPORT_IDS,
    report_rows,
    batch_size=batch_size,
    seed=seed,
    **kwargs,
  )
  try:
    return list(itertools.islice(iterator, count))
  finally:
    iterator.close()


def numbers(batches_):
  return np.concatenate([b["ecg"][:, 0, 0] for b in batches_])


def assert_same_batches(a, b):
  assert len(a) == len(b) > 0
  for x, y in zip(a, b, strict=True):
    assert set(x) == set(y)
    for key in x:
      np.testing.assert_array_equal(x[key], y[key], strict=True)


def test_fields_of_a_batch():
  for batch in batches(3):
    assert set(batch) == {"ecg", "lead_valid", "tokens"}
    assert batch["ecg"].shape == (4, 12, 4)
    assert batch["ecg"].dtype == np.int16
    assert batch["lead_valid"].dtype == np.bool_
    assert batch["tokens"].dtype == np.int32
    i = batch["ecg"][:, 0, 0]
    np.testing.assert_array_equal(
      batch["lead_valid"], np.arange(12) != (i % 12)[:, None]
    )
    rows = REPORT_IDS[i]
    tokens = TOKENS[rows, : rows.max() + 4]
    np.testing.assert_array_equal(batch["tokens"], tokens)


def test_epochs_are_complete_and_reshuffled():
  stream = numbers(batches(N * 3, batch_size=4)).reshape(-1, N)
  assert len(stream) == 12
  for epoch in stream:
    assert sorted(epoch) == list(range(N))
  orders = {tuple(epoch) for epoch in stream}
  assert len(orders) == 12
  assert tuple(range(N)) not in orders


def test_seed_decides_the_order():
  assert_same_batches(batches(9, seed=3), batches(9, seed=3))
  assert (numbers(batches(9, seed=3)) != numbers(batches(9, seed=4))).any()


@pytest.mark.parametrize("start", [1, 5, 6, 17])
def test_resumes_at_any_step(start):
  whole = batches(25)
  assert_same_batches(batches(25 - start, start_step=start), whole[start:])


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch(count):
  whole = batches(10, batch_size=8)
  parts = [
    batches(10, batch_size=8, process_index=p, process_count=count)
    for p in range(count)
  ]
  joined = [
    {k: np.concatenate([b[k] for b in step]) for k in step[0]}
    for step in zip(*parts, strict=True)
  ]
  assert_same_batches(joined, whole)
  assert (parts[0][0]["ecg"] != parts[1][0]["ecg"]).any()


def test_threads_and_workers_do_not_change_the_stream(tiny):
  source = EcgSource("tiny_ecg", "train[:23]", tiny.data_dir)
  want = batches(8, source=source, num_threads=1)
  assert_same_batches(batches(8, source=source, num_threads=3), want)
  assert_same_batches(batches(8, source=source, num_workers=1), want)


def test_batches_hold_the_records_on_disk(tiny):
  source = EcgSource("tiny_ecg", "train", tiny.data_dir)
  index = index_lib.build_index(source)
  tokens = np.arange(len(index.reports), dtype=np.int32)[:, None]
  stream = pipeline.train_batches(
    source,
    index.report_ids,
    lambda rows, _: {"tokens": tokens[rows]},
    batch_size=37,
    seed=1,
  )
  batch = next(stream)
  stream.close()
  want = {r["ecg"].tobytes(): r for r in tiny.records["train"].values()}
  assert len(want) == 37
  for ecg, valid, token in zip(
    batch["ecg"], batch["lead_valid"], batch["tokens"], strict=True
  ):
    record = want.pop(ecg.tobytes())
    np.testing.assert_array_equal(valid, record["lead_valid"])
    assert index.reports[token[0]] == record["report"]


@pytest.mark.parametrize("batch_size", [1, 4, 23, 32])
def test_eval_goes_once_over_the_records(batch_size):
  stream = list(pipeline.eval_batches(NumberedSource(N), batch_size=batch_size))
  assert len(stream) == -(-N // batch_size)
  for batch in stream:
    assert batch["ecg"].shape == (batch_size, 12, 4)
    assert batch["index"].dtype == np.int32
    assert batch["valid"].dtype == np.bool_
    np.testing.assert_array_equal(batch["ecg"][:, 0, 0], batch["index"])
  valid = np.concatenate([b["valid"] for b in stream])
  index = np.concatenate([b["index"] for b in stream])
  np.testing.assert_array_equal(index[valid], np.arange(N))
  np.testing.assert_array_equal(index[~valid], N - 1)  # padding: ordinary input


def test_eval_batches_of_two_processes():
  whole = list(pipeline.eval_batches(NumberedSource(N), batch_size=6))
  parts = [
    pipeline.eval_batches(
      NumberedSource(N), batch_size=6, process_index=p, process_count=2
    )
    for p in range(2)
  ]
  joined = [
    {k: np.concatenate([a[k], b[k]]) for k in a}
    for a, b in zip(*parts, strict=True)
  ]
  assert_same_batches(joined, whole)


def test_mistakes_are_told_in_one_line():
  for kwargs, message in [
    ({"batch_size": 6, "process_count": 4}, "batch_size=6 .* 4 processes"),
    ({"batch_size": 0}, "batch_size=0"),
    ({"batch_size": 24}, "batch_size=24 is larger .* 23 records"),
  ]:
    with pytest.raises(UserError, match=message) as e:
      pipeline.train_batches(
        NumberedSource(N), REPORT_IDS, report_rows, seed=0, **kwargs
      )
    assert "\n" not in str(e.value)
