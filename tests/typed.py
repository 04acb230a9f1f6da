"""The type checker of the test session; see conftest.py."""

import beartype

# As in static type checkers, an int will do where a float is asked for.
checked = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
