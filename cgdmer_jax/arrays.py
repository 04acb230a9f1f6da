"""Names for arrays in annotations."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

# Functions take arrays of NumPy and of JAX.
Array = jax.Array | np.ndarray

# A field of a tree that is mapped over: an array, its `jax.ShapeDtypeStruct`,
# its sharding, or whatever else a map puts there.
Leaf = Any
