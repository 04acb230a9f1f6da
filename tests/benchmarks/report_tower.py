"""What frozen report encoders cost, and how corpora go through the table.

    python -m tests.benchmarks.report_tower step minilm     # 384 x 6
    python -m tests.benchmarks.report_tower step bert_base  # 768 x 12
    python -m tests.benchmarks.report_tower table FILE TOKENIZER LENGTH

`step`: training steps of the recipe `clip` with a frozen encoder of that size,
whose outputs are computed in every step, or read from the cache in memory, or
from the one on disk; one after the other in every round, batch 16, reports of
64 tokens. Parameters and data are noise.

`table`: a file with a report on each line, or a CSV with a column `report`;
the directory of a Hugging Face tokenizer, or `own` for one that is learnt from
the file; and the most tokens to keep.
"""

import collections
import csv
import pathlib
import statistics
import sys
import tempfile
import time
import types

import numpy as np

SIZES = {"minilm": (384, 6, 12, 1536), "bert_base": (768, 12, 12, 3072)}
BATCH, LENGTH, DISTINCT, ROUNDS, WARM_UP = 16, 64, 256, 12, 2


def time_steps(name):
  import jax
  from etils import epath

  from cgdmer_jax import sharding
  from cgdmer_jax.config import fields
  from cgdmer_jax.data import report_table
  from cgdmer_jax.data.batch import Batch
  from cgdmer_jax.data.reports import Vocabulary
  from cgdmer_jax.train import frozen_reports, setup, train_step
  from configs import pretrain

  c = pretrain.get_config("recipe=clip").unlock()
  c.model.report.update(fields.transformer(*SIZES[name]))
  c.model.report.update(vocab_size=30522, num_positions=512)
  c.report.update(checkpoint="noise", train="frozen", max_length=LENGTH)
  c.data.statements = (0,)
  c.train.update(batch_size=BATCH, steps=1000)
  vocabulary = Vocabulary(30522, 0, 100, 103, (0, 100, 101, 102, 103))
  training = setup.assemble(c, vocabulary)
  model, mesh = training.model, training.mesh
  rng = np.random.default_rng(0)
  tokens = rng.integers(104, 30522, (DISTINCT, LENGTH)).astype(np.int32)
  rows = np.arange(DISTINCT, dtype=np.int32)
  length = np.full(DISTINCT, LENGTH, np.int32)
  table = report_table.ReportTable(
    tokens, 0 * tokens, length, length, rows, rows >= 0, rows, "noise"
  )
  signals = {
    "ecg": rng.integers(-500, 500, (BATCH, 12, 1000)).astype(np.int16),
    "lead_valid": np.ones((BATCH, 12), bool),
  }
  with tempfile.TemporaryDirectory() as folder:
    source = types.SimpleNamespace(path=epath.Path(folder), split="train")
    state = train_step.create_state(model, training.optimizer, mesh, c.seed)
    start = time.perf_counter()
    states = frozen_reports.frozen_states(model, state.params, table, source)
    took = time.perf_counter() - start
    print(f"{name}: cache of {DISTINCT} reports filled in {took:.1f} s")
    resident = {"state_table": frozen_reports.place(states, mesh, 1024)}
    towers = {
      "every step": frozen_reports.Reports(table, (LENGTH,)),
      "cache on disk": frozen_reports.Reports(table, (LENGTH,), states),
      "cache in memory": frozen_reports.Reports(
        table, (LENGTH,), resident=resident
      ),
    }
    times = collections.defaultdict(list)
    for _ in range(ROUNDS + WARM_UP):
      for kind, reports in towers.items():
        start = time.perf_counter()
        batch = signals | reports.rows(rng.choice(rows, BATCH))
        batch = Batch(**sharding.put_batch(batch, mesh), **reports.resident)
        state, metrics = training.step(state, batch)
        jax.block_until_ready(metrics)
        times[kind].append(time.perf_counter() - start)
  medians = {k: statistics.median(t[WARM_UP:]) for k, t in times.items()}
  for kind, median in medians.items():
    ratio = medians["every step"] / median
    print(f"{name}, {kind}: {1e3 * median:.0f} ms a step, {ratio:.1f} times")


def fill_table(file, tokenizer, length):
  from cgdmer_jax.data import report_table, reports

  path = pathlib.Path(file)
  with path.open(encoding="utf-8", newline="") as lines:
    if path.suffix == ".csv":
      texts = [row["report"] for row in csv.DictReader(lines)]
    else:
      texts = lines.read().splitlines()
  number = {}
  ids = np.array([number.setdefault(t, len(number)) for t in texts])
  distinct = tuple(number)
  if tokenizer == "own":
    words = reports.train_tokenizer(distinct, 2000)
  else:
    words = reports.load_tokenizer(tokenizer)
  vocabulary = reports.vocabulary(words)
  for normalise in (False, True):
    start = time.perf_counter()
    table = report_table.build(
      distinct, ids, words, max_length=length, normalise=normalise
    )
    took = time.perf_counter() - start
    facts = report_table.describe(table, vocabulary, length)
    print(f"normalise={normalise}, {took:.2f} s: {facts}")
  lengths = table.static_lengths(64)
  read = table.length[table.report_ids].mean()
  print(f"batches of 64: {lengths} tokens; a report has {read:.1f} on average")


if __name__ == "__main__":
  if len(sys.argv) == 3 and sys.argv[1] == "step" and sys.argv[2] in SIZES:
    time_steps(sys.argv[2])
  elif len(sys.argv) == 5 and sys.argv[1] == "table":
    fill_table(*sys.argv[2:4], int(sys.argv[4]))
  else:
    sys.exit(__doc__)
