"""Why a recording cannot be used: an exception class for each reason."""

from __future__ import annotations


class Rejected(Exception):
  """A record cannot be used; `reason` is the slug that it is counted under."""

  reason = "rejected"


class MissingFile(Rejected):
  """The header or a signal file of a listed record does not exist."""

  reason = "missing_file"


class Unreadable(Rejected):
  """The files are not a WFDB record that we can read."""

  reason = "unreadable"


class Truncated(Rejected):
  """A signal file is shorter than its header says."""

  reason = "truncated"


class Corrupt(Rejected):
  """The samples do not add up to the checksum in the header."""

  reason = "corrupt"


class MissingLeads(Rejected):
  """Fewer than 6 of the 12 leads are in the file."""

  reason = "missing_leads"


class AmbiguousLeads(Rejected):
  """A lead is in the file more than once."""

  reason = "ambiguous_leads"


class WrongRate(Rejected):
  """The sampling rate is absent, absurd or not that of the data set."""

  reason = "wrong_rate"


class WrongLength(Rejected):
  """The recording is shorter than the records of the data set."""

  reason = "wrong_length"


class UnknownUnit(Rejected):
  """The header gives no unit of voltage, or no gain."""

  reason = "unknown_unit"


class TooManyNan(Rejected):
  """Missing samples leave fewer than 6 leads."""

  reason = "too_many_nan"


class NoSignal(Rejected):
  """Constant leads leave fewer than 6 leads."""

  reason = "no_signal"


class OutOfRange(Rejected):
  """The voltage exceeds what a record can hold, +-32.767 mV."""

  reason = "out_of_range"


class BadMetadata(Rejected):
  """The table of the data set has no usable row for the record."""

  reason = "bad_metadata"
