"""Report texts to token ids: learning, loading and applying a tokenizer."""

from __future__ import annotations

import collections
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from etils import epath

from cgdmer_jax.data import wordpiece
from cgdmer_jax.errors import UserError

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
_LONGEST = 512  # tokens; BERT's own limit
_SENTENCE_END = re.compile(r"(?<=[.;])\s+|\n+")
_CLAUSE_END = re.compile(r",\s+")


def train_tokenizer(
  texts: Iterable[str], vocab_size: int
) -> PreTrainedTokenizerFast:
  """Learns a lower-case BERT tokenizer (WordPiece) from reports.

  The same texts give the same tokenizer, in any order. Every character of the
  texts is in the vocabulary, so they encode without [UNK].

  Args:
    texts: reports; give the distinct ones, lest frequent reports fill the
      vocabulary.
    vocab_size: most tokens to learn, the five special ones included. Ids of the
      special tokens: [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4.

  Returns:
    A tokenizer that puts [CLS] before and [SEP] behind the text.

  Raises:
    UserError: no words in `texts`, or `vocab_size` is below the number of
      different characters.
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
      " reports, or give a pretrained tokenizer"
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
  tokenizer: PreTrainedTokenizerFast, directory: epath.PathLike
) -> None:
  """Writes the tokenizer in the format of Hugging Face checkpoints."""
  tokenizer.save_pretrained(os.fspath(directory))


def load_tokenizer(directory: epath.PathLike) -> PreTrainedTokenizerFast:
  """Loads a tokenizer from a local directory; nothing is downloaded.

  Args:
    directory: written by `save_tokenizer`, or a Hugging Face checkpoint.

  Raises:
    UserError: no tokenizer there, or one without the special tokens that
      masking and pooling need.
  """
  path = epath.Path(directory)
  names = ("tokenizer.json", "vocab.txt")
  if not any((path / name).exists() for name in names):
    raise UserError(
      f"no tokenizer in {path}: expected {' or '.join(names)}, as in a local"
      " copy of a Hugging Face checkpoint"
    )
  tokenizer = _transformers().AutoTokenizer.from_pretrained(
    os.fspath(path), local_files_only=True
  )
  missing = [k for k in SPECIAL_TOKENS if getattr(tokenizer, k) is None]
  if missing:
    raise UserError(
      f"the tokenizer in {path} has no {', '.join(missing)}; a BERT tokenizer"
      " is needed"
    )
  return tokenizer


def tokenize(
  tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], max_length: int
) -> tuple[np.ndarray, float]:
  """Token ids of each text.

  Args:
    tokenizer: from `train_tokenizer` or `load_tokenizer`.
    texts: n texts; an empty one becomes [CLS] [SEP].
    max_length: tokens to keep at most, the special ones included. A text that
      is cut still ends with [SEP].

  Returns:
    int32 (n, S), padded on the right with the pad id, S = what the longest text
    needs, rounded up to a multiple of 8, at most `max_length`; and the share of
    texts that were cut.
  """
  if max_length < 3:
    raise UserError(
      f"max_length {max_length} leaves no room for text between [CLS] and [SEP]"
    )
  rows = _encode(tokenizer, list(texts))["input_ids"]
  too_long = [i for i, row in enumerate(rows) if len(row) > max_length]
  if too_long:
    long_texts = [texts[i] for i in too_long]
    cut = _encode(tokenizer, long_texts, max_length)["input_ids"]
    for i, row in zip(too_long, cut, strict=True):
      rows[i] = row
  tokens = _table(rows, tokenizer.pad_token_id, max_length)
  return tokens, len(too_long) / max(1, len(rows))


def tokenize_statements(
  tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> dict[str, np.ndarray]:
  """Token ids of each report, and the statement that each token belongs to.

  Statements end with a full stop, a semicolon or a line. A report without any
  of these inside is cut at its commas: many reports are written so.

  Args:
    tokenizer: from `train_tokenizer` or `load_tokenizer`.
    texts: n reports; of a report longer than 512 tokens the rest is left out.

  Returns:
    `tokens` int32 (n, S), padded on the right with the pad id, and `statement`
    int32 (n, S): number from 0, or -1 for [CLS], [SEP] and padding.
  """
  encoded = _encode(tokenizer, list(texts), _LONGEST, offsets=True)
  rows = []
  for text, offsets in zip(texts, encoded["offset_mapping"], strict=True):
    breaks = [m.end() for m in _SENTENCE_END.finditer(text.rstrip())]
    if not breaks:
      breaks = [m.end() for m in _CLAUSE_END.finditer(text.rstrip())]
    start, end = np.asarray(offsets).T
    number = np.searchsorted(breaks, start, side="right")
    rows.append(np.where(end > start, number, -1))
  return {
    "tokens": _table(encoded["input_ids"], tokenizer.pad_token_id, _LONGEST),
    "statement": _table(rows, -1, _LONGEST),
  }


def _table(rows, fill: int, max_length: int) -> np.ndarray:
  """Rows of unequal length as int32 (n, S), filled up on the right."""
  longest = max(map(len, rows), default=1)
  padded = -(-longest // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE
  table = np.full((len(rows), min(padded, max_length)), fill, np.int32)
  for i, row in enumerate(rows):
    table[i, : len(row)] = row
  return table


def _encode(tokenizer, texts, max_length=None, offsets=False):
  if not texts:
    return {"input_ids": [], "offset_mapping": []}
  return tokenizer(
    texts,
    truncation=max_length is not None,
    max_length=max_length,
    return_attention_mask=False,
    return_token_type_ids=False,
    return_offsets_mapping=offsets,
    verbose=False,
  )


def _transformers():
  # Its advice to install PyTorch would only confuse.
  os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
  import transformers

  return transformers
