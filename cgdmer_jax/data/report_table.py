"""The distinct reports of a split, tokenised once.

Corpora repeat themselves: about 800,000 MIMIC-IV-ECG records share some 180,000
texts. Everything that depends on the text alone has a row for each distinct
report, and a record knows the number of its row.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cgdmer_jax import keyed
from cgdmer_jax.data import cache, reports
from cgdmer_jax.data.index import RecordIndex

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerFast

_FORMAT = "1"  # raise it when the content of the cache file changes
# What reports differ in without meaning it. Signs, question marks, and the
# points and commas inside numbers do mean something.
_TRIVIAL = re.compile(r"(?:[^\w?+<>%=.,-]|(?<!\d)[.,]|[.,](?!\d)|-(?!\d))+")


@dataclasses.dataclass(frozen=True)
class ReportTable:
  """R distinct reports, and which one each of N records has.

  Attributes:
    tokens: int32 (R, S), padded on the right.
    statement: int32 (R, S), see `reports.tokenize_statements`.
    length: int32 (R,), tokens of each row, padding not counted.
    whole_length: int32 (R,), the same before any were cut.
    identity: int32 (R,), equal for reports that count as the same.
    has_text: bool (R,), False for reports that say nothing: without letters and
      digits, or without a single piece that the tokenizer knows.
    report_ids: int32 (N,), the row of each record.
    key: hash of all that the rows depend on.
  """

  tokens: np.ndarray
  statement: np.ndarray
  length: np.ndarray
  whole_length: np.ndarray
  identity: np.ndarray
  has_text: np.ndarray
  report_ids: np.ndarray
  key: str

  def __len__(self) -> int:
    return len(self.tokens)

  @functools.cached_property
  def row_starts(self) -> np.ndarray:
    """int64 (R,), where each row begins when they are joined unpadded."""
    return np.cumsum(self.length, dtype=np.int64) - self.length

  def static_lengths(self, batch_size: int) -> tuple[int, ...]:
    """The few lengths that batches are padded to, ascending.

    A batch needs room for its longest report. Half and nine tenths of the
    batches get by with the first two lengths, all with the last one; lengths
    that are equal after rounding count once. Each costs one compilation.
    """
    longest = np.sort(self.length[self.report_ids])
    lengths = {
      reports.padded_length(_quantile(longest, share ** (1 / batch_size)))
      for share in (0.5, 0.9, 1.0)
    }
    return tuple(sorted(min(n, self.tokens.shape[1]) for n in lengths))

  def gather(self, rows: np.ndarray, length: int) -> dict[str, np.ndarray]:
    """What a batch needs to know of its reports.

    Args:
      rows: int (b,), the report of each record.
      length: tokens that the longest of them has room for.

    Returns:
      tokens, statement int32 (b, length); report int32 (b,), its identity;
      has_text bool (b,).
    """
    return {
      "tokens": self.tokens[rows, :length],
      "statement": self.statement[rows, :length],
      "report": self.identity[rows],
      "has_text": self.has_text[rows],
    }


def _quantile(ascending: np.ndarray, share: float) -> int:
  """The smallest value that at least `share` of the values do not exceed."""
  return int(ascending[max(0, int(np.ceil(share * len(ascending))) - 1)])


def build(
  texts: Sequence[str],
  report_ids: np.ndarray,
  tokenizer: PreTrainedTokenizerFast,
  *,
  max_length: int,
  normalise: bool = False,
  key: str = "",
) -> ReportTable:
  """Tokenises the distinct reports of a data set.

  Args:
    texts: R distinct reports.
    report_ids: int (N,), the report of each record.
    tokenizer: of the reports.
    max_length: tokens to keep of a report at most.
    normalise: whether reports count as the same that differ in case, white
      space and punctuation only; signs, question marks, decimal points and
      commas are no punctuation.
    key: kept with the table.
  """
  rows, whole_length = reports.tokenize_statements(tokenizer, texts, max_length)
  tokens = rows["tokens"]
  vocabulary = reports.vocabulary(tokenizer)
  known = ~np.isin(tokens, vocabulary.special_ids)
  says = np.array([any(map(str.isalnum, text)) for text in texts], bool)
  same = texts
  if normalise:
    same = [_TRIVIAL.sub(" ", text.casefold()).strip() for text in texts]
  number: dict[str, int] = {}
  identity = [number.setdefault(text, len(number)) for text in same]
  return ReportTable(
    tokens=tokens,
    statement=rows["statement"],
    length=np.minimum(whole_length, max_length),
    whole_length=whole_length,
    identity=np.array(identity, np.int32),
    has_text=says & known.any(axis=1),
    report_ids=np.asarray(report_ids, np.int32),
    key=key,
  )


def load(
  source: cache.Split,
  index: RecordIndex,
  tokenizer: PreTrainedTokenizerFast,
  *,
  max_length: int,
  normalise: bool = False,
) -> ReportTable:
  """The table of a split: from its cache file, else built and cached.

  Args:
    source: the split.
    index: its index.
    tokenizer: see `build`.
    max_length: see `build`.
    normalise: see `build`.
  """
  words = json.loads(tokenizer.backend_tokenizer.to_str())
  words |= {"truncation": None, "padding": None}  # of the last call; not ours
  name = keyed.make_key(_FORMAT, words, max_length, normalise)
  key = keyed.make_key(name, source.fingerprint)
  suffix = f".reports-{name[:12]}.npz"
  arrays = cache.read_arrays(source, suffix, key)
  if arrays is not None:
    return ReportTable(**arrays, key=key)
  table = build(
    index.reports,
    index.report_ids,
    tokenizer,
    max_length=max_length,
    normalise=normalise,
    key=key,
  )
  arrays = dataclasses.asdict(table)
  del arrays["key"]
  cache.write_arrays(source, suffix, key, **arrays)
  return table


def describe(
  table: ReportTable, vocabulary: reports.Vocabulary, max_length: int
) -> str:
  """One line on how the reports fit the tokenizer and the model.

  Args:
    table: the reports.
    vocabulary: of the tokenizer.
    max_length: tokens that the model reads at most.
  """
  records = table.report_ids
  share = {
    "without text": ~table.has_text,
    f"longer than {max_length} tokens": table.whole_length > max_length,
    "with unknown words": (table.tokens == vocabulary.unk_id).any(axis=1),
  }
  parts = [
    f"{np.mean(rows[records]):.2%} of the records {what}"
    for what, rows in share.items()
    if rows.any()
  ]
  same = len(np.unique(table.identity))
  merged = "" if same == len(table) else f" ({same} after normalisation)"
  return ", ".join(
    [
      f"{len(table)} distinct reports{merged} of {len(records)} records",
      f"at most {table.whole_length.max(initial=0)} tokens",
      *parts,
    ]
  )
