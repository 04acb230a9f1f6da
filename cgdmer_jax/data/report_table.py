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
# Characters without meaning: not signs, question marks, and points and commas
# inside numbers.
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
    """Returns the fields of a batch that describe its reports.

    Args:
      rows: int (b,), the report of each record.
      length: number of tokens; enough for the longest of them.

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
    tokenizer: turns reports into tokens.
    max_length: most tokens to keep of a report.
    normalise: whether reports that differ only in case, white space and
      punctuation count as the same; signs, question marks, decimal points and
      commas are no punctuation.
    key: hash of all that the table depends on.
  """
  rows, whole_length = reports.tokenize_statements(tokenizer, texts, max_length)
  tokens = rows["tokens"]
  vocabulary = reports.vocabulary(tokenizer)
  known = ~np.isin(tokens, vocabulary.special_ids)
  has_words = np.array([any(map(str.isalnum, text)) for text in texts], bool)
  compared = texts
  if normalise:
    compared = [_TRIVIAL.sub(" ", text.casefold()).strip() for text in texts]
  numbers: dict[str, int] = {}
  identity = [numbers.setdefault(text, len(numbers)) for text in compared]
  return ReportTable(
    tokens=tokens,
    statement=rows["statement"],
    length=np.minimum(whole_length, max_length),
    whole_length=whole_length,
    identity=np.array(identity, np.int32),
    has_text=has_words & known.any(axis=1),
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
  """Loads the table of a split from its cache file, or builds and caches it.

  Args:
    source: the split.
    index: its reports, and which record has which.
    tokenizer: see `build`.
    max_length: see `build`.
    normalise: see `build`.
  """
  words = json.loads(tokenizer.backend_tokenizer.to_str())
  words |= {"truncation": None, "padding": None}  # left by the last call
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
  """Describes in one line how reports fit the tokenizer and the model.

  Args:
    table: the reports.
    vocabulary: ids of the tokenizer.
    max_length: most tokens that the model reads.
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
  count = len(np.unique(table.identity))
  merged = "" if count == len(table) else f" ({count} after normalisation)"
  return ", ".join(
    [
      f"{len(table)} distinct reports{merged} of {len(records)} records",
      f"at most {table.whole_length.max(initial=0)} tokens",
      *parts,
    ]
  )
