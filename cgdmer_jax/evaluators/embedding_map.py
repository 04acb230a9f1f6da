"""Where test records lie in the space of embeddings, in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

_MAX_RECORDS = 400  # evenly spread over the test records


def project(features: np.ndarray) -> dict[str, Any]:
  """Principal components of features, for a picture.

  The features are centred and projected on the two directions of their greatest
  variance. Distances in the picture are a part of the distances only; `shares`
  says how much of the variance it shows.

  Args:
    features: (N, D).

  Returns:
    As JSON has it: `rows`, which of the N records are shown, `x` and `y` of
    these, and `shares` of the variance along x and y. Empty for less than three
    records or dimensions, or features that are all the same.
  """
  rows = np.unique(
    np.linspace(0, len(features) - 1, _MAX_RECORDS).round().astype(int)
  )
  if min(features.shape) < 3:
    return {}
  x = np.asarray(features[rows], np.float64)
  x -= x.mean(axis=0)
  u, s, _ = np.linalg.svd(x, full_matrices=False)
  total = (s**2).sum()
  if not np.isfinite(total) or total <= 0:
    return {}
  places = (u[:, :2] * s[:2] / s[0]).round(4)
  return {
    "rows": rows.tolist(),
    "x": places[:, 0].tolist(),
    "y": places[:, 1].tolist(),
    "shares": (s[:2] ** 2 / total).tolist(),
  }
