"""Reports that have statements in common, for tests of positives."""

import numpy as np


def read_statements(size, seed=0):
  """Makes reports of up to four of seven statements.

  Returns:
    tokens, statement int32 (B, 24), report int32 (B,), has_text bool (B,).
  """
  rng = np.random.default_rng(seed)
  phrases = [rng.integers(10, 30, n).tolist() for n in (1, 2, 3, 4, 5, 2, 3)]
  tokens = np.zeros((size, 24), np.int32)
  statement = np.full((size, 24), -1, np.int32)
  for row, numbers in zip(tokens, statement, strict=True):
    chosen = rng.choice(7, rng.integers(1, 5), replace=False)
    ids, owner = [2], [-1]
    for number, k in enumerate(chosen):
      part = phrases[k] + [8, 9][: rng.integers(0, 3)][-1:]  # may end in a sign
      ids += part
      owner += [number + number // 2] * len(part)  # some were not drawn
    row[: len(ids) + 1] = [*ids, 3]
    numbers[: len(ids)] = owner
  report = rng.integers(0, 2 * size, size).astype(np.int32)
  return tokens, statement, report, rng.random(size) < 0.8
