"""Checks what a tokenizer does; its files may say something else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from absl import logging

from cgdmer_jax.errors import UserError

if TYPE_CHECKING:
  from transformers import PreTrainedTokenizerFast

_WORD = re.compile(r"[^\W\d_]{4,}")


def ensure_special_tokens(
  tokenizer: PreTrainedTokenizerFast, where: str
) -> None:
  """Makes sure that texts are put between [CLS] and [SEP], as BERT reads them.

  A tokenizer that was trained and saved without a post-processor adds nothing;
  it gets one here.

  Args:
    tokenizer: the tokenizer; changed if it adds nothing.
    where: folder of the tokenizer, for messages.

  Raises:
    UserError: the tokenizer adds other tokens.
  """
  import tokenizers

  around = [tokenizer.cls_token_id, tokenizer.sep_token_id]
  added = tokenizer("")["input_ids"]
  if added == around:
    return
  if added:
    names = tokenizer.convert_ids_to_tokens(added)
    raise UserError(
      f"the tokenizer in {where} puts {' '.join(names)} around a text; expected"
      f" {tokenizer.cls_token} and {tokenizer.sep_token}; give a BERT tokenizer"
    )
  logging.warning(
    "the tokenizer in %s has no post-processor; %s and %s are put around each"
    " text",
    where,
    tokenizer.cls_token,
    tokenizer.sep_token,
  )
  backend = tokenizer.backend_tokenizer
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single=f"{tokenizer.cls_token} $A {tokenizer.sep_token}",
    special_tokens=[
      (tokenizer.cls_token, tokenizer.cls_token_id),
      (tokenizer.sep_token, tokenizer.sep_token_id),
    ],
  )


def warn_of_case(tokenizer: PreTrainedTokenizerFast, where: str) -> None:
  """Warns if a tokenizer and its vocabulary disagree about upper case."""
  normalizer = tokenizer.backend_tokenizer.normalizer
  lowers = normalizer is not None and normalizer.normalize_str("A") == "a"
  special = set(tokenizer.all_special_tokens)
  words = sorted(
    word
    for word in tokenizer.get_vocab()
    if word not in special and _WORD.fullmatch(word)
  )
  cased = [word for word in words if word != word.lower()]
  if lowers and cased:
    logging.warning(
      "the tokenizer in %s makes text lower case, but %d words of its"
      " vocabulary have upper case, such as %r: they are never used; check"
      " do_lower_case",
      where,
      len(cased),
      cased[0],
    )
  elif not lowers and words and not cased:
    logging.warning(
      "the tokenizer in %s keeps upper case, but no word of its vocabulary has"
      " any: %r is read as %s; check do_lower_case",
      where,
      words[0].capitalize(),
      " ".join(tokenizer.tokenize(words[0].capitalize())),
    )
