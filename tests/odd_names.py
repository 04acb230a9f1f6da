"""Names that nobody expects, and every one is allowed."""

import string

import hypothesis.strategies as st
import numpy as np

# All of ASCII punctuation but the separator, blanks, and text of other kinds:
# accents, several scripts, right to left, combining, beyond 16 bits.
ALPHABET = (
  "".join(c for c in string.punctuation if c != "/")
  + "  azAZ09\u00a0\u3000éßøЖ心電図קアर\u0301🙂"
)
LONGEST = 200  # characters
TEXTS = st.text(ALPHABET, min_size=1, max_size=LONGEST).filter(
  lambda text: text not in (".", "..")
)


def make(seed, most_bytes=240):
  """A name of up to 200 characters that leaves room for a suffix."""
  rng = np.random.default_rng(seed)
  size = rng.integers(20, LONGEST + 1)
  name = "".join(rng.choice([*ALPHABET], size)).encode()[:most_bytes]
  return name.decode(errors="ignore")
