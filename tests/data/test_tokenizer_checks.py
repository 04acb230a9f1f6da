"""What tokenizers do, beside what they are called."""

import json
import logging

import pytest
import tokenizers
import transformers

from cgdmer_jax.data import reports
from cgdmer_jax.errors import UserError

WORDS = ("sinus", "rhythm", "left", "axis", "deviation")


def write(folder, words=WORDS, lowercase=True, template=None):
  """A tokenizer as the `tokenizers` library leaves it."""
  special = list(reports.SPECIAL_TOKENS.values())
  ids = {token: i for i, token in enumerate([*special, *words])}
  backend = tokenizers.Tokenizer(
    tokenizers.models.WordPiece(ids, unk_token="[UNK]")
  )
  backend.normalizer = tokenizers.normalizers.BertNormalizer(
    lowercase=lowercase
  )
  backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
  backend.add_special_tokens(special)
  if template:
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single=template, special_tokens=[(t, ids[t]) for t in special]
    )
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=backend, **reports.SPECIAL_TOKENS
  )
  tokenizer.save_pretrained(folder)


def test_special_tokens_are_put_around_a_text(tmp_path, caplog):
  write(tmp_path)
  with caplog.at_level(logging.WARNING, logger="absl"):
    tokenizer = reports.load_tokenizer(tmp_path)
  assert "has no post-processor" in caplog.text
  texts = ["sinus rhythm", "", "sinus rhythm left axis deviation"]
  tokens, cut = reports.tokenize(tokenizer, texts, 5)
  assert tokens[:, :5].tolist() == [
    [2, 5, 6, 3, 0],
    [2, 3, 0, 0, 0],
    [2, 5, 6, 7, 3],  # [SEP] is last, not the word that was cut
  ]
  assert cut == pytest.approx(1 / 3)
  rows, _ = reports.tokenize_statements(tokenizer, texts, 5)
  assert rows["tokens"][:, :5].tolist() == tokens[:, :5].tolist()
  # So it is once saved: nothing to be warned of.
  reports.save_tokenizer(tokenizer, tmp_path / "saved", 24)
  caplog.clear()
  again = reports.load_tokenizer(tmp_path / "saved")
  assert not caplog.records
  assert again("sinus")["input_ids"] == [2, 5, 3]


def test_other_tokens_around_a_text_are_refused(tmp_path):
  write(tmp_path, template="[CLS] $A")
  with pytest.raises(UserError, match=r"puts \[CLS\] around a text; expected"):
    reports.load_tokenizer(tmp_path)


@pytest.mark.parametrize(
  ("words", "lowercase", "message"),
  [
    (("Sinus", "rhythm"), True, "1 words .* 'Sinus': they are never used"),
    (("sinus", "rhythm"), False, r"'Rhythm' is read as \[UNK\]"),
    (("Sinus", "rhythm"), False, None),
    (("sinus", "rhythm"), True, None),
  ],
)
def test_case_of_words(words, lowercase, message, tmp_path, caplog):
  write(tmp_path, words, lowercase, "[CLS] $A [SEP]")
  with caplog.at_level(logging.WARNING, logger="absl"):
    reports.load_tokenizer(tmp_path)
  if message is None:
    assert not caplog.records
  else:
    assert caplog.records
    import re

    assert re.search(message, caplog.text), caplog.text


def test_saved_tokenizers_name_nothing_that_one_version_only_knows(tmp_path):
  tokenizer = reports.train_tokenizer(["sinus rhythm"] * 3, 60)
  reports.save_tokenizer(tokenizer, tmp_path, 24)
  fields = json.loads((tmp_path / "tokenizer_config.json").read_text())
  assert fields["tokenizer_class"] == "PreTrainedTokenizerFast"
  assert not {"backend", "is_local", "local_files_only"} & fields.keys()
  loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
  long = loaded("sinus rhythm " * 80, truncation=True)["input_ids"]
  assert len(long) == 24 and long[-1] == loaded.sep_token_id
  assert loaded("sinus")["input_ids"] == tokenizer("sinus")["input_ids"]
