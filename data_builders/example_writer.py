"""Writes records with the same bytes in every run.

A record is a protocol buffer with a map, and a map is serialised in an order
that differs between processes. Equal data sets would have unequal checksums.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from tensorflow_datasets.core import writer
from tensorflow_datasets.proto import tf_example_pb2


class DeterministicWriter(writer.ExampleWriter):
  """Sorts the features of each record by name.

  A builder uses it by returning one from `_example_writer`.
  """

  def write(
    self, path: str | os.PathLike[str], examples: Iterable[tuple[Any, bytes]]
  ) -> Any:
    """Writes a shard of (key, serialised record) pairs."""
    return super().write(path, ((k, _sorted(v)) for k, v in examples))


def _sorted(serialised: bytes) -> bytes:
  example = tf_example_pb2.Example.FromString(serialised)
  return example.SerializeToString(deterministic=True)
