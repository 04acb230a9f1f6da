"""Learns a WordPiece vocabulary, the same one every time.

The trainer of the `tokenizers` library walks hash maps in random order: the
same texts give other ids, and even other pieces, in another process. A resumed
or repeated run needs the same ids, hence this one.
"""

from __future__ import annotations

import collections
import heapq
from collections.abc import Mapping, Sequence

from cgdmer_jax.errors import UserError

PREFIX = "##"  # of pieces that continue a word


def learn_vocabulary(
  word_counts: Mapping[str, int],
  vocab_size: int,
  special_tokens: Sequence[str],
) -> list[str]:
  """Learns pieces by byte-pair merges (Sennrich et al., ACL 2016).

  Starts from single characters and joins the most frequent neighbours, ties in
  alphabetical order, until the vocabulary is full or no pair occurs twice. The
  result depends on the counts only, not on their order.

  Args:
    word_counts: occurrences of each normalised word.
    vocab_size: most pieces to learn, special tokens included.
    special_tokens: come first, in this order.

  Returns:
    The vocabulary; a piece's id is its position.

  Raises:
    UserError: `vocab_size` is below the number of characters.
  """
  words = sorted(word_counts)
  pieces = [[w[0], *(PREFIX + c for c in w[1:])] for w in words]
  alphabet = sorted({p for word in pieces for p in word})
  vocabulary = [*special_tokens, *alphabet]
  if len(vocabulary) > vocab_size:
    raise UserError(
      f"vocab_size={vocab_size} is too small: the reports have {len(alphabet)}"
      " different characters (those that begin a word counted apart) besides"
      f" {len(special_tokens)} special tokens; set it to at least"
      f" {len(vocabulary)}"
    )
  known = set(vocabulary)
  pairs = _Pairs(pieces, [word_counts[w] for w in words])
  while len(vocabulary) < vocab_size:
    pair = pairs.most_frequent()
    if pair is None:
      break
    piece = pair[0] + pair[1].removeprefix(PREFIX)
    pairs.merge(pair, piece)
    if piece not in known:  # other merges may have led to the same piece
      known.add(piece)
      vocabulary.append(piece)
  return vocabulary


class _Pairs:
  """Counts of neighbouring pieces, kept up to date while they are merged."""

  def __init__(self, pieces: list[list[str]], counts: list[int]):
    self._pieces = pieces
    self._word_counts = counts
    self._counts = collections.Counter()
    self._words = collections.defaultdict(set)  # pair -> words that had it
    for i in range(len(pieces)):
      self._add(i, +1)
    # Largest count first; entries whose count has changed since are skipped.
    self._heap = [(-n, pair) for pair, n in self._counts.items()]
    heapq.heapify(self._heap)

  def _add(self, i: int, sign: int) -> set[tuple[str, str]]:
    pairs = list(zip(self._pieces[i], self._pieces[i][1:], strict=False))
    for pair in pairs:
      self._counts[pair] += sign * self._word_counts[i]
      self._words[pair].add(i)
    return set(pairs)

  def most_frequent(self) -> tuple[str, str] | None:
    while self._heap:
      count, pair = heapq.heappop(self._heap)
      if -count == self._counts[pair]:
        return pair if -count >= 2 else None
    return None

  def merge(self, pair: tuple[str, str], piece: str) -> None:
    changed = set()
    for i in self._words.pop(pair):
      changed |= self._add(i, -1)
      self._pieces[i] = _join(self._pieces[i], pair, piece)
      changed |= self._add(i, +1)
    for other in changed:
      heapq.heappush(self._heap, (-self._counts[other], other))


def _join(word: list[str], pair: tuple[str, str], piece: str) -> list[str]:
  joined = []
  i = 0
  while i < len(word):
    if tuple(word[i : i + 2]) == pair:
      joined.append(piece)
      i += 2
    else:
      joined.append(word[i])
      i += 1
  return joined
