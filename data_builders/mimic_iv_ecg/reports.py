"""Reports of MIMIC-IV-ECG: from the machine's statements to one text.

A record has up to 18 statements, printed by several generations of machines:
in upper case or not, framed by marks (`*** ... ***`, `--- ... ---`), with or
without a full stop, sometimes broken in two.

Each statement, in this order:

1. loses marks (asterisks; equals signs and the hyphens after them) and
   references to measurements such as `(9@128)`, wherever they are;
2. loses the heading `Summary:`;
3. says ECG for EKG;
4. gets single spaces, none before punctuation, one after a full stop between
   words and one on either side of a hyphen that has one on its right;
5. loses hyphens and punctuation at its ends;
6. is dropped if nothing is left, or only the flag `UnconfirmedAnalysis`, which
   tells whether somebody has read the report and nothing about the recording.

Statements become sentences, each with one full stop. A statement that can only
continue the one before it ("or ...", "with ...", "suggests ...", "may be ...",
"consistent with ...") joins its sentence. Everything is lower case
unless asked otherwise. Nothing else is dropped, not even remarks on the quality
of the recording. A report without statements is empty.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

_MARKS = re.compile(r"\*+|=+-*|\(\d+@\d+\)")
_HEADING = re.compile(r"^\s*summary:", re.IGNORECASE)
_EKG = re.compile(r"(?<=\bE)K(?=GS?\b)")
_EKG_LOWER = re.compile(r"(?<=\b[Ee])k(?=gs?\b)")
_SPACE_BEFORE = re.compile(r"\s+(?=[.,;:!])")
_NO_SPACE_AFTER = re.compile(r"(?<=[A-Za-z]{2}\.)(?=[A-Za-z]{2})")
_HYPHEN = re.compile(r"(?<=\w)- ")
_ENDS = " -.,;:!"
_FLAG = re.compile(r"unconfirmed ?analysis", re.IGNORECASE)
_CONTINUATION = re.compile(
  r"(?:or|with|are|is|may be|(?:strongly )?suggests?|consistent with)\b",
  re.IGNORECASE,
)

CLEANING = (
  "Reports: non-empty statements in their order, without marks (asterisks,"
  " equals signs, hyphens at the ends), references to measurements, the heading"
  ' "Summary:" and the flag "UnconfirmedAnalysis"; ECG for EKG; each a sentence'
  " with one full stop, unless it continues the one before."
)


@functools.lru_cache(maxsize=1 << 16)  # a few thousand make up all reports
def clean_statement(text: str) -> str:
  """Cleans one statement; no full stop at its end, case as it is.

  Args:
    text: a statement, for instance "*** INFERIOR INFARCT - POSSIBLY ACUTE ***".

  Returns:
    The statement, or the empty string if it says nothing.
  """
  text = _HEADING.sub("", _MARKS.sub(" ", text))
  text = _EKG_LOWER.sub("c", _EKG.sub("C", text))
  text = _SPACE_BEFORE.sub("", text)
  text = _NO_SPACE_AFTER.sub(" ", text)
  text = " ".join(_HYPHEN.sub(" - ", text).split()).strip(_ENDS)
  return "" if _FLAG.fullmatch(text) else text


def sentences(statements: Iterable[str]) -> tuple[str, ...]:
  """Cleans statements and joins those that are one sentence.

  Args:
    statements: as in the table, in their order.

  Returns:
    Sentences without full stop, case as it is.
  """
  found: list[str] = []
  for text in filter(None, map(clean_statement, statements)):
    if found and _CONTINUATION.match(text):
      found[-1] += f" {text}"
    else:
      found.append(text)
  return tuple(found)


def clean_report(statements: Iterable[str], keep_case: bool = False) -> str:
  """Makes the report of a record from its statements.

  Args:
    statements: as in the table, in their order; empty ones do not count.
    keep_case: keep upper case.

  Returns:
    Sentences, each with a full stop; empty without statements.
  """
  report = " ".join(f"{text}." for text in sentences(statements))
  return report if keep_case else report.lower()


def num_words(report: str) -> int:
  """Counts the words; a hyphen between spaces is not one."""
  return sum(any(map(str.isalnum, word)) for word in report.split())
