import random
import subprocess
import sys

import numpy as np
import pytest
import tokenizers
import transformers

from cgdmer_jax.data import reports, wordpiece
from cgdmer_jax.errors import UserError

WORDS = """
sinus rhythm bradycardia tachycardia normal ecg left right bundle branch block
incomplete complete inferior anterior infarct ST-T changes, 1st degree;
vorhofflimmern überdrehte linkslage (q-waves) non-specific
"""


def make_texts(count: int = 300) -> list[str]:
  rng = random.Random(0)
  return [
    " ".join(rng.choices(WORDS.split(), k=rng.randint(1, 15)))
    for _ in range(count)
  ]


def vocabulary(tokenizer) -> list[str]:
  ids = tokenizer.get_vocab()
  return sorted(ids, key=ids.get)


def test_vocabulary_by_hand():
  # ab 5+2, ##bc 2: (a, ##b) first, then (ab, ##c); (x, ##y) occurs once only.
  words = {"ab": 5, "abc": 2, "xy": 1}
  assert wordpiece.learn_vocabulary(words, 100, ["[PAD]"]) == [
    *("[PAD]", "##b", "##c", "##y", "a", "x"),
    *("ab", "abc"),
  ]
  assert wordpiece.learn_vocabulary(words, 7, ["[PAD]"])[-1] == "ab"


def test_merges_follow_a_naive_count():
  """Incremental pair counts against counting everything at every merge."""
  rng = random.Random(1)
  words = {
    "".join(rng.choices("abc", k=rng.randint(1, 9))): rng.randint(1, 9)
    for _ in range(80)
  }
  vocab = wordpiece.learn_vocabulary(words, 60, ["[PAD]"])

  split = {w: [w[0], *("##" + c for c in w[1:])] for w in words}
  want = ["[PAD]", *sorted({p for ps in split.values() for p in ps})]
  while len(want) < 60:
    counts = {}
    for w, ps in split.items():
      for pair in zip(ps, ps[1:], strict=False):
        counts[pair] = counts.get(pair, 0) + words[w]
    best = min(counts, key=lambda p: (-counts[p], p))
    piece = best[0] + best[1].removeprefix("##")
    if piece not in want:
      want.append(piece)
    for w, ps in split.items():
      out = []
      while ps:
        n = 2 if tuple(ps[:2]) == best else 1
        out.append(piece if n == 2 else ps[0])
        ps = ps[n:]
      split[w] = out
  assert vocab == want


def test_same_texts_same_tokenizer():
  texts = make_texts()
  a = reports.train_tokenizer(texts, 200)
  b = reports.train_tokenizer(reversed(texts), 200)
  assert a.backend_tokenizer.to_str() == b.backend_tokenizer.to_str()
  assert vocabulary(a) != vocabulary(reports.train_tokenizer(texts[:20], 200))


def test_same_vocabulary_in_another_process():
  code = (
    "from cgdmer_jax.data import wordpiece;"
    "w = {'sinus': 9, 'sinuses': 3, 'rhythm': 9, 'rhythmic': 2, 'mic': 2};"
    "print(wordpiece.learn_vocabulary(w, 40, ['[PAD]']))"
  )
  runs = [
    subprocess.run(
      [sys.executable, "-c", code],
      env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
      capture_output=True,
      check=True,
      text=True,
    ).stdout
    for seed in ("1", "2")
  ]
  assert runs[0] == runs[1] != ""


def test_special_tokens_and_unknown():
  tokenizer = reports.train_tokenizer(make_texts(), 200)
  assert vocabulary(tokenizer)[:5] == list(reports.SPECIAL_TOKENS.values())
  assert tokenizer.pad_token_id == 0
  assert tokenizer.mask_token_id == 4
  tokens, cut = reports.tokenize(tokenizer, make_texts(), 128)
  assert cut == 0
  assert not (tokens == tokenizer.unk_token_id).any()
  ids = tokenizer("sinus Ж rhythm")["input_ids"]
  assert ids.count(tokenizer.unk_token_id) == 1


def test_long_words_are_known():
  word = "vorhofflimmern" * 12
  tokenizer = reports.train_tokenizer([word, "sinus"], 200)
  tokens, _ = reports.tokenize(tokenizer, [word], 512)
  assert not (tokens == tokenizer.unk_token_id).any()


def test_round_trip_through_disk(tmp_path):
  texts = make_texts()
  tokenizer = reports.train_tokenizer(texts, 200)
  reports.save_tokenizer(tokenizer, tmp_path / "tokenizer", 24)
  loaded = reports.load_tokenizer(tmp_path / "tokenizer")
  np.testing.assert_array_equal(
    reports.tokenize(loaded, texts, 32)[0],
    reports.tokenize(tokenizer, texts, 32)[0],
  )
  assert loaded.mask_token_id == tokenizer.mask_token_id
  text = loaded.decode(loaded("Sinus Rhythm")["input_ids"])
  assert text == "[CLS] sinus rhythm [SEP]"


def test_loads_a_bert_checkpoint(tmp_path):
  """As Hugging Face ships them: with or without tokenizer.json."""
  vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sinus", "##es"]
  (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n")
  (tmp_path / "config.json").write_text('{"model_type": "bert"}')
  tokenizer = reports.load_tokenizer(tmp_path)
  assert tokenizer("Sinuses")["input_ids"] == [2, 5, 6, 3]
  transformers.BertTokenizerFast.from_pretrained(tmp_path).save_pretrained(
    tmp_path / "fast"
  )
  (tmp_path / "fast" / "config.json").write_text('{"model_type": "bert"}')
  tokenizer = reports.load_tokenizer(tmp_path / "fast")
  assert tokenizer("Sinuses")["input_ids"] == [2, 5, 6, 3]


def test_upper_case_of_a_bare_vocabulary_is_kept(tmp_path):
  """As Bio_ClinicalBERT ships it: a cased vocabulary that does not say so."""
  special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  (tmp_path / "config.json").write_text('{"model_type": "bert"}')
  vocab = tmp_path / "vocab.txt"
  vocab.write_text("\n".join([*special, "Sinus", "sinus", "ECG"]) + "\n")
  tokenizer = reports.load_tokenizer(tmp_path)
  assert tokenizer("Sinus sinus ECG")["input_ids"] == [2, 5, 6, 7, 3]
  vocab.write_text("\n".join([*special, "sinus", "ecg"]) + "\n")
  tokenizer = reports.load_tokenizer(tmp_path)
  assert tokenizer("Sinus ECG")["input_ids"] == [2, 5, 6, 3]
  (tmp_path / "tokenizer.json").write_text('{"version"')
  with pytest.raises(UserError, match="cannot read the tokenizer in") as e:
    reports.load_tokenizer(tmp_path)
  assert "\n" not in str(e.value)


def test_special_ids_anywhere(tmp_path):
  """As in BERT's own vocabulary, whose special tokens are 0 and 100 to 103."""
  words = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]"]
  words += ["[SEP]", "[MASK]", "sinus"]
  (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
  (tmp_path / "config.json").write_text('{"model_type": "bert"}')
  tokenizer = reports.load_tokenizer(tmp_path)
  assert reports.vocabulary(tokenizer) == reports.Vocabulary(
    105, 0, 100, 103, (0, 100, 101, 102, 103)
  )
  words += [",", "."]
  (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
  tokenizer = reports.load_tokenizer(tmp_path)
  assert reports.vocabulary(tokenizer).separator_ids == (106, 105)


def test_tokenize_pads_and_cuts():
  tokenizer = reports.train_tokenizer(["a b c"], 20)
  a, b = (tokenizer.convert_tokens_to_ids(x) for x in "ab")
  tokens, cut = reports.tokenize(tokenizer, ["a b", "", "b"], 64)
  np.testing.assert_array_equal(
    tokens,
    np.array(
      [
        [2, a, b, 3, 0, 0, 0, 0],
        [2, 3, 0, 0, 0, 0, 0, 0],
        [2, b, 3, 0, 0, 0, 0, 0],
      ],
      np.int32,
    ),
    strict=True,
  )
  assert cut == 0
  texts = ["a " * 7, "a", "b " * 20, "a"]
  tokens, cut = reports.tokenize(tokenizer, texts, 64)
  assert tokens.shape == (4, 24)
  tokens, cut = reports.tokenize(tokenizer, texts, 10)
  assert tokens.shape == (4, 10)
  assert cut == 0.25
  np.testing.assert_array_equal(tokens[2], [2, *[b] * 8, 3])
  np.testing.assert_array_equal(tokens[0], [2, *[a] * 7, 3, 0])


def test_nothing_to_tokenize():
  tokenizer = reports.train_tokenizer(["a"], 20)
  tokens, cut = reports.tokenize(tokenizer, [], 16)
  assert tokens.shape == (0, 8)
  assert cut == 0


def test_mistakes_are_told_in_one_line(tmp_path):
  tokenizer = reports.train_tokenizer(["a"], 20)
  bare = tokenizers.Tokenizer(
    tokenizers.models.WordPiece({"[UNK]": 0}, unk_token="[UNK]")
  )
  transformers.PreTrainedTokenizerFast(
    tokenizer_object=bare, unk_token="[UNK]"
  ).save_pretrained(tmp_path / "bare")
  for call, message in [
    (lambda: reports.load_tokenizer(tmp_path / "x"), "no tokenizer in .*/x"),
    (
      lambda: reports.load_tokenizer(tmp_path / "bare"),
      "has no pad_token, cls_token, sep_token, mask_token",
    ),
    (lambda: reports.train_tokenizer(["", " "], 20), "all reports are empty"),
    (lambda: reports.train_tokenizer(["abcd"], 6), "vocab_size=6 is too small"),
    (lambda: reports.tokenize(tokenizer, ["a"], 2), "max_length=2"),
  ]:
    with pytest.raises(UserError, match=message) as e:
      call()
    assert "\n" not in str(e.value)


def test_statements_end_with_sentences_or_else_with_commas():
  texts = [
    "Sinus rhythm. Q waves in II, III consistent with infarct; abnormal ECG.",
    "SR, normal ECG, please correlate",
    "SINUS RHYTHM",
    "",
  ]
  tokenizer = reports.train_tokenizer(texts, 200)
  table, length = reports.tokenize_statements(tokenizer, texts, 512)
  expected = [
    ["sinus rhythm.", "q waves in ii, iii consistent with infarct;"]
    + ["abnormal ecg."],
    ["sr,", "normal ecg,", "please correlate"],
    ["sinus rhythm"],
    [],
  ]
  pairs = zip(table["tokens"], table["statement"], expected, strict=True)
  for tokens, statement, wanted in pairs:
    assert ((statement < 0) == (tokens < 5)).all()
    assert statement.max(initial=-1) == len(wanted) - 1
    for number, text in enumerate(wanted):
      decoded = tokenizer.decode(tokens[statement == number])
      assert decoded.replace(" ", "") == text.replace(" ", "")
  whole, _ = reports.tokenize(tokenizer, texts, 512)
  np.testing.assert_array_equal(table["tokens"], whole)
  np.testing.assert_array_equal(length, (whole > 0).sum(1))
  short, same = reports.tokenize_statements(tokenizer, texts, 6)
  np.testing.assert_array_equal(same, length)
  np.testing.assert_array_equal(
    short["tokens"], reports.tokenize(tokenizer, texts, 6)[0]
  )
  np.testing.assert_array_equal(
    short["statement"][:, :5], table["statement"][:, :5]
  )
  assert (short["statement"][:, 5] == -1).all()
