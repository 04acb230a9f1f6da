"""Report texts to token ids: learning, loading and applying a tokenizer."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, SupportsIndex

import numpy as np
from etils import epath

from cgdmer_jax.data import tokenizer_checks, wordpiece
from cgdmer_jax.errors import UserError, one_line

if TYPE_CHECKING:  # importing transformers takes seconds; do it when needed
  from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = {
  "pad_token": "[PAD]",
  "unk_token": "[UNK]",
  "cls_token": "[CLS]",
  "sep_token": "[SEP]",
  "mask_token": "[MASK]",
}
_LENGTH_MULTIPLE = 8  # of the token axis, for the sake of accelerators
_SENTENCE_END = re.compile(r"(?<=[.;])\s+|\n+")
_CLAUSE_END = re.compile(r",\s+")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """What a model needs to know about a tokenizer.

  Attributes:
    size: number of ids, special ones included.
    pad_id: id of padding.
    unk_id: id of words that the tokenizer does not know.
    mask_id: id that stands for a masked token.
    special_ids: ids of all special tokens, ascending.
    separator_ids: ids of the signs that may end a statement.
  """

  size: int
  pad_id: int
  unk_id: int
  mask_id: int
  special_ids: tuple[int, ...]
  separator_ids: tuple[int, ...] = ()


def vocabulary(tokenizer: PreTrainedTokenizerFast) -> Vocabulary:
  """Reads the ids of `tokenizer`."""
  ids = tokenizer.get_vocab()
  return Vocabulary(
    size=1 + max(ids.values()),
    pad_id=tokenizer.pad_token_id,
    unk_id=tokenizer.unk_token_id,
    mask_id=tokenizer.mask_token_id,
    special_ids=tuple(sorted(tokenizer.all_special_ids)),
    separator_ids=tuple(ids[x] for x in ".;," if x in ids),
  )


def train_tokenizer(
  texts: Iterable[str], vocab_size: int
) -> PreTrainedTokenizerFast:
  """Learns a lower-case BERT tokenizer (WordPiece) from reports.

  The same texts give the same tokenizer, in any order. Every character of the
  texts is in the vocabulary, so they encode without [UNK].

  Args:
    texts: distinct reports; repeated ones would fill the vocabulary with their
      words.
    vocab_size: most tokens to learn, the five special ones included. Ids of the
      special tokens: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4.

  Returns:
    A tokenizer that puts [CLS] before and [SEP] after the text.

  Raises:
    UserError: there are no words in `texts`, or `vocab_size` is below the
      number of different characters.
  """
  import tokenizers

  normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
  splitter = tokenizers.pre_tokenizers.BertPreTokenizer()
  counts = collections.Counter()
  for text in texts:
    normalized = normalizer.normalize_str(text)
    counts.update(w for w, _ in splitter.pre_tokenize_str(normalized))
  if not counts:
    raise UserError(
      "cannot learn a tokenizer: all reports are empty; choose a data set with"
      " reports, or set report.checkpoint to use its tokenizer"
    )
  special = tuple(SPECIAL_TOKENS.values())
  vocabulary = wordpiece.learn_vocabulary(counts, vocab_size, special)
  ids = {token: i for i, token in enumerate(vocabulary)}
  backend = tokenizers.Tokenizer(
    tokenizers.models.WordPiece(
      ids,
      unk_token="[UNK]",
      max_input_chars_per_word=max(100, *map(len, counts)),
    )
  )
  backend.normalizer = normalizer
  backend.pre_tokenizer = splitter
  backend.decoder = tokenizers.decoders.WordPiece(prefix=wordpiece.PREFIX)
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
  )
  backend.add_special_tokens(list(special))
  return _transformers().PreTrainedTokenizerFast(
    tokenizer_object=backend, **SPECIAL_TOKENS
  )


def save_tokenizer(
  tokenizer: PreTrainedTokenizerFast,
  directory: epath.PathLike,
  max_length: int,
) -> None:
  """Writes the tokenizer in the format of Hugging Face checkpoints.

  Versions 4 and 5 of transformers read it alike.

  Args:
    tokenizer: from `train_tokenizer` or `load_tokenizer`.
    directory: folder; made if missing.
    max_length: most tokens that its model reads; `truncation=True` cuts there.
  """
  tokenizer.save_pretrained(os.fspath(directory))
  path = epath.Path(directory) / "tokenizer_config.json"
  fields = json.loads(path.read_text("utf-8"))
  for name in ("backend", "is_local", "local_files_only"):  # version 5 only
    fields.pop(name, None)
  fields["tokenizer_class"] = "PreTrainedTokenizerFast"
  fields["model_max_length"] = max_length
  path.write_text(json.dumps(fields, indent=2) + "\n")


def load_tokenizer(directory: epath.PathLike) -> PreTrainedTokenizerFast:
  """Loads a tokenizer from a local directory; nothing is downloaded.

  `vocab.txt` alone does not say whether case is kept. Then the tokenizer keeps
  upper case if the vocabulary has upper-case words: `transformers` would make
  every text lower case, and most words would be unknown.

  Args:
    directory: written by `save_tokenizer`, or a Hugging Face checkpoint.

  Raises:
    UserError: there is no tokenizer, or it lacks special tokens that masking
      and pooling need.
  """
  path = epath.Path(directory)
  names = ("tokenizer.json", "vocab.txt")
  if not any((path / name).exists() for name in names):
    raise UserError(
      f"no tokenizer in {path}; expected {' or '.join(names)}, as in a local"
      " copy of a Hugging Face checkpoint"
    )
  described = ("tokenizer.json", "tokenizer_config.json")
  options = {}
  if not any((path / name).exists() for name in described):
    words = (path / "vocab.txt").read_text("utf-8").split()
    cased = any(w != w.lower() and not w.startswith("[") for w in words)
    options["do_lower_case"] = not cased
  try:
    tokenizer = _transformers().AutoTokenizer.from_pretrained(
      os.fspath(path), local_files_only=True, **options
    )
  # Damaged files raise errors of many kinds.
  except Exception as e:
    reason = one_line(e)
    raise UserError(
      f"cannot read the tokenizer in {path} ({reason}); copy it again"
    ) from e
  missing = [k for k in SPECIAL_TOKENS if getattr(tokenizer, k) is None]
  if missing:
    raise UserError(
      f"the tokenizer in {path} has no {', '.join(missing)}; give a BERT"
      " tokenizer"
    )
  tokenizer_checks.ensure_special_tokens(tokenizer, os.fspath(path))
  tokenizer_checks.warn_of_case(tokenizer, os.fspath(path))
  return tokenizer


def tokenize(
  tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int
) -> tuple[np.ndarray, float]:
  """Turns texts into token ids.

  Args:
    tokenizer: from `train_tokenizer` or `load_tokenizer`.
    texts: n texts; an empty one becomes [CLS] [SEP].
    max_length: most tokens to keep, the special ones included. A text that
      is cut still ends with [SEP].

  Returns:
    int32 (n, S), padded on the right with the pad id, S = what the longest text
    needs, rounded up to a multiple of 8, at most `max_length`; and the share of
    texts that were cut.
  """
  rows = _encode(tokenizer, texts, max_length)["input_ids"]
  tokens = _table(
    [_cut(row, max_length) for row in rows], tokenizer.pad_token_id
  )
  too_long = sum(len(row) > max_length for row in rows)
  return tokens[:, :max_length], too_long / max(1, len(rows))


def split_statements(text: str) -> list[str]:
  """The statements of a report, without the marks at their ends.

  Cut as in `tokenize_statements`.
  """
  parts = _SENTENCE_END.split(text.strip())
  if len(parts) == 1:
    parts = _CLAUSE_END.split(text.strip())
  return [x for x in (part.strip(" .;\n") for part in parts) if x]


def tokenize_statements(
  tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
  """Turns reports into token ids, each with the number of its statement.

  Statements end with a full stop, a semicolon or a line. A report without any
  of these inside is cut at its commas: many reports are written so.

  Args:
    tokenizer: from `train_tokenizer` or `load_tokenizer`.
    texts: n reports.
    max_length: most tokens to keep; see `tokenize`.

  Returns:
    `tokens` int32 (n, S), padded on the right with the pad id, and `statement`
    int32 (n, S): number from 0, or -1 for [CLS], [SEP] and padding; and int32
    (n,): tokens of each report before any was cut.
  """
  encoded = _encode(tokenizer, texts, max_length)
  tokens, statement = [], []
  for text, row, offsets in zip(
    texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
  ):
    breaks = [m.end() for m in _SENTENCE_END.finditer(text.rstrip())]
    if not breaks:
      breaks = [m.end() for m in _CLAUSE_END.finditer(text.rstrip())]
    start, end = np.asarray(offsets).T
    number = np.searchsorted(breaks, start, side="right")
    tokens.append(_cut(row, max_length))
    statement.append(_cut(np.where(end > start, number, -1), max_length))
  arrays = {
    "tokens": _table(tokens, tokenizer.pad_token_id)[:, :max_length],
    "statement": _table(statement, -1)[:, :max_length],
  }
  whole = np.array([len(row) for row in encoded["input_ids"]], np.int32)
  return arrays, whole


def _cut(
  row: Sequence[SupportsIndex] | np.ndarray, max_length: int
) -> Sequence[SupportsIndex] | np.ndarray:
  """Keeps the first tokens and the last one, which is [SEP]."""
  if len(row) <= max_length:
    return row
  return [*row[: max_length - 1], row[-1]]


def padded_length(longest: int) -> int:
  """Length that a row of `longest` tokens is padded to."""
  return -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE


def _table(rows, fill: int) -> np.ndarray:
  """Pads rows of unequal length on the right; returns int32 (n, S)."""
  longest = max(map(len, rows), default=1)
  result = np.full((len(rows), padded_length(longest)), fill, np.int32)
  for i, row in enumerate(rows):
    result[i, : len(row)] = row
  return result


def _encode(tokenizer, texts, max_length):
  if max_length < 3:
    raise UserError(
      f"max_length={max_length} leaves no room for text between [CLS] and"
      " [SEP]; expected at least 3"
    )
  if not texts:
    return {"input_ids": [], "offset_mapping": []}
  return tokenizer(
    list(texts),
    truncation=False,
    return_attention_mask=False,
    return_token_type_ids=False,
    return_offsets_mapping=True,
    verbose=False,
  )


def _transformers():
  # Hides its advice to install PyTorch.
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  import transformers

  return transformers
