"""The table of distinct reports: by hand, from its cache, on real reports."""

import csv
import types

import numpy as np
import pytest
from etils import epath

from cgdmer_jax.data import index as index_lib
from cgdmer_jax.data import report_table, reports

TEXTS = (
  "Sinus rhythm. Normal ECG.",
  "SINUS RHYTHM, normal  ecg",
  "",
  " ?! ",
  "心电图正常",
  "sinus rhythm",
)
IDS = np.array([0, 1, 2, 3, 4, 5, 0, 0], np.int32)


@pytest.fixture(scope="module")
def tokenizer():
  return reports.train_tokenizer(["sinus rhythm, normal ecg. ?!"] * 2, 100)


def make(tokenizer, texts=TEXTS, ids=IDS, max_length=64, **kwargs):
  return report_table.build(
    texts, ids, tokenizer, max_length=max_length, **kwargs
  )


def test_rows_by_hand(tokenizer):
  table = make(tokenizer)
  assert len(table) == 6
  tokens, _ = reports.tokenize(tokenizer, TEXTS, 64)
  np.testing.assert_array_equal(table.tokens, tokens)
  np.testing.assert_array_equal(table.length, (tokens != 0).sum(1))
  assert table.length.tolist() == [8, 7, 2, 4, 7, 4]
  # Nothing to read: empty, marks only, or nothing that the tokenizer knows.
  assert table.has_text.tolist() == [True, True, False, False, False, True]
  assert table.identity.tolist() == [0, 1, 2, 3, 4, 5]
  np.testing.assert_array_equal(table.report_ids, IDS)
  flat = np.concatenate([t[t != 0] for t in tokens])
  for row, start, length in zip(
    tokens, table.row_starts, table.length, strict=True
  ):
    np.testing.assert_array_equal(flat[start : start + length], row[:length])


def test_rows_of_a_batch(tokenizer):
  table = make(tokenizer, normalise=True)
  rows = np.array([5, 1, 2])
  batch = table.gather(rows, 8)
  np.testing.assert_array_equal(batch["tokens"], table.tokens[rows, :8])
  np.testing.assert_array_equal(batch["statement"], table.statement[rows, :8])
  assert batch["report"].tolist() == table.identity[rows].tolist()
  assert batch["has_text"].tolist() == [True, True, False]


def test_reports_that_differ_in_trivia():
  same = [
    ("Sinus rhythm. Normal ECG.", "SINUS RHYTHM, normal  ecg"),
    ("ST-T changes (V1-V3)", "st t changes V1 V3;"),
    ("Überdrehte\tLinkslage\n", "überdrehte linkslage"),
    ("", "..."),
  ]
  different = [
    ("infarct?", "infarct"),
    ("axis -30", "axis 30"),
    ("QTc 4.5", "QTc 45"),
    ("+ve", "ve"),
    ("< 2 mm", "> 2 mm"),
    ("V1 V2", "V12"),
    ("1,5 mV", "15 mV"),
  ]
  tokenizer = reports.train_tokenizer(["x"], 10)
  for pairs, expected in ((same, 1), (different, 2)):
    for pair in pairs:
      table = make(tokenizer, pair, np.arange(2), normalise=True)
      assert len(set(table.identity.tolist())) == expected, pair
      plain = make(tokenizer, pair, np.arange(2))
      assert plain.identity.tolist() == [0, 1]


def test_cut_reports_are_counted(tokenizer):
  table = make(tokenizer, max_length=6)
  assert table.tokens.shape == (6, 6)
  assert table.length.tolist() == [6, 6, 2, 4, 6, 4]
  assert table.whole_length.tolist() == [8, 7, 2, 4, 7, 4]
  assert table.tokens[0, -1] == tokenizer.sep_token_id
  text = report_table.describe(table, reports.vocabulary(tokenizer), 6)
  assert "\n" not in text
  assert text == (
    "6 distinct reports of 8 records, at most 8 tokens,"
    " 37.50% of the records without text,"
    " 62.50% of the records longer than 6 tokens,"
    " 12.50% of the records with unknown words"
  )
  merged = make(tokenizer, normalise=True)
  text = report_table.describe(merged, reports.vocabulary(tokenizer), 64)
  # The first two; the empty one and the one of marks... "?" means something.
  assert "6 distinct reports (5 after normalisation) of 8 records" in text
  assert "longer" not in text


def test_static_lengths_are_those_that_batches_need(tokenizer):
  rng = np.random.default_rng(0)
  texts = [" ".join(["ecg"] * n) + " ?" * (n % 2) for n in range(60)]
  ids = np.minimum(rng.geometric(0.15, 5000), 58)
  table = make(tokenizer, texts, ids)
  longest = table.length[rng.choice(ids, (20000, 16))].max(1)
  lengths = table.static_lengths(16)
  assert len(lengths) == 3
  assert lengths[-1] - 8 < table.length[ids].max() <= lengths[-1]
  for length, share in zip(lengths, (0.5, 0.9), strict=False):
    assert length % 8 == 0
    assert (longest <= length).mean() > share - 0.02
    assert (longest <= length - 8).mean() < share + 0.02
  assert table.static_lengths(100_000) == lengths[-1:]
  one = make(tokenizer, ["ecg"], np.zeros(2, int))
  assert one.static_lengths(16) == (8,)


@pytest.fixture
def source(tmp_path):
  return types.SimpleNamespace(
    path=epath.Path(tmp_path), split="train[:8]", fingerprint="f"
  )


def test_second_load_reads_the_cache(source, tokenizer, monkeypatch):
  index = index_lib.RecordIndex(IDS, IDS, TEXTS, IDS, IDS, {})
  calls = []
  real = reports.tokenize_statements
  monkeypatch.setattr(
    reports,
    "tokenize_statements",
    lambda *args: calls.append(0) or real(*args),
  )

  def load(tokenizer=tokenizer, **kwargs):
    settings = {"max_length": 64, **kwargs}
    return report_table.load(source, index, tokenizer, **settings)

  first, second = load(), load()
  assert len(calls) == 1
  for name, value in vars(second).items():
    np.testing.assert_array_equal(value, getattr(first, name), err_msg=name)
  # Truncation of an earlier call is no part of the tokenizer.
  tokenizer("ecg", truncation=True, max_length=3)
  assert load().key == first.key and len(calls) == 1
  keys = {first.key}
  other = reports.train_tokenizer(["normal ecg"], 100)
  for kwargs in ({"max_length": 6}, {"normalise": True}, {"tokenizer": other}):
    keys.add(load(**kwargs).key)
    count = len(calls)
    load(**kwargs)
    assert len(calls) == count
  source.fingerprint = "g"  # other records
  keys.add(load().key)
  assert len(keys) == len(calls) == 5
  # A damaged file is written anew.
  for file in (source.path / "cgdmer_index").iterdir():
    file.write_bytes(b"PK")
  assert load().key in keys and len(calls) == 6
  names = [f.name for f in (source.path / "cgdmer_index").iterdir()]
  assert not [name for name in names if name.endswith(".tmp")]


def test_ptb_xl_reports(real_data):
  """Every report of PTB-XL that was published without its signal."""
  with (real_data / "ptb_xl_reports.csv").open(encoding="utf-8") as file:
    texts = [row["report"] for row in csv.DictReader(file)]
  assert len(texts) == 10_990
  distinct = tuple(dict.fromkeys(texts))
  number = {text: i for i, text in enumerate(distinct)}
  ids = np.array([number[text] for text in texts])
  tokenizer = reports.train_tokenizer(distinct, 2000)
  table = make(tokenizer, distinct, ids, max_length=128)
  merged = make(tokenizer, distinct, ids, max_length=128, normalise=True)
  assert len(table) == len(set(texts))
  assert len(np.unique(merged.identity)) < len(table)
  unknown = tokenizer.unk_token_id
  assert not (table.tokens == unknown).any()  # umlauts are known
  np.testing.assert_array_equal(
    table.whole_length,
    [len(tokenizer(text)["input_ids"]) for text in distinct],
  )
  assert table.has_text[table.report_ids].mean() > 0.99


def test_mimic_statements(real_data):
  """Every statement that the machines of MIMIC-IV-ECG make."""
  path = real_data / "mimic_iv_ecg" / "machine_statements.txt"
  texts = path.read_text(encoding="utf-8").splitlines()
  assert len(texts) == len(set(texts)) == 3862
  tokenizer = reports.train_tokenizer(texts, 2000)
  table = make(tokenizer, texts, np.arange(3862), max_length=64)
  assert len(table) == 3862
  assert not (table.tokens == tokenizer.unk_token_id).any()
  # What is left without letters and digits: lines of asterisks and the like.
  silent = [t for t, has in zip(texts, table.has_text, strict=True) if not has]
  assert len(silent) < 10
  assert not any(c.isalnum() for text in silent for c in text)
