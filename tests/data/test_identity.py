"""Identities are equal for copies, and for nothing else."""

import numpy as np
import pytest

from cgdmer_jax.data import identity


@pytest.mark.parametrize("rate", [100, 500])
def test_what_is_the_same_recording(rate):
  rng = np.random.default_rng(rate)
  ecg = rng.integers(-999, 999, (12, 10 * rate)).astype(np.int16)
  own = identity.identify(ecg, rate)
  assert len(own) == identity.SIZE
  same = ecg.copy()
  same[:, 5 * rate :] = 0  # cut, and padded
  same[:, : rate // 10] += 1  # the end of a filter
  assert identity.identify(same, rate) == own
  assert identity.identify(np.asfortranarray(ecg[:, : 5 * rate]), rate) == own
  for other in (
    np.roll(ecg, 1, axis=1),
    np.roll(ecg, 1, axis=0),
    -ecg,
    ecg + np.int16(1),
    np.where(np.arange(12)[:, None] == 3, np.int16(0), ecg),
  ):
    assert identity.identify(other, rate) != own


def test_which_are_among_others():
  rng = np.random.default_rng(0)
  text = [rng.bytes(identity.SIZE) for _ in range(50)]
  rows = identity.to_rows(b"".join(text[:30]))
  others = identity.to_rows(b"".join(text[20:]))
  expected = [x in text[20:] for x in text[:30]]
  assert rows.shape == (30, 2) and sum(expected) == 10
  np.testing.assert_array_equal(identity.is_among(rows, others), expected)
