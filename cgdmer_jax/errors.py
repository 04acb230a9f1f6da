"""Errors that a user can fix, and how errors are shown."""

from __future__ import annotations


class UserError(ValueError):
  """A mistake in what the user gave: one line, shown without a traceback.

  The message names the offending value, what was expected and what to do.
  """


def one_line(error: BaseException, limit: int = 200) -> str:
  """The message of an error on one line, cut after `limit` characters.

  For errors of libraries inside a message of ours. An error without a message
  is shown by the name of its class.
  """
  return " ".join(str(error).split())[:limit] or type(error).__name__
