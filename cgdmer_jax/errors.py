"""Errors that a user can mend."""


class UserError(ValueError):
  """A mistake in what the user gave: one line, shown without a traceback.

  The message names the offending value, what was expected and what to do.
  """
