"""Reads a matrix in a struct of a MATLAB file (level 5).

`scipy.io.loadmat` reads whatever MATLAB writes, but on some damaged files it
ends the process with a segmentation fault, which nothing can catch.

Format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

_HEADER_BYTES = 128
_LITTLE_ENDIAN_LEVEL_5 = b"\0\1IM"  # the end of the header
_MAX_BYTES = 1 << 28  # of a compressed variable; the largest has 7 MB

_MATRIX, _COMPRESSED = 14, 15
_TYPES = {
  1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
  12: "<i8", 13: "<u8",
}  # fmt: skip
_STRUCT_CLASS = 2
_NUMBER_CLASSES = range(6, 16)
_COMPLEX = 0x800


def read_field(content: bytes, variable: str, field: str) -> np.ndarray:
  """Reads a real matrix of numbers.

  Args:
    content: the file.
    variable: name of a struct.
    field: name of a field of that struct.

  Returns:
    float64, two-dimensional.

  Raises:
    ValueError: the file is damaged or has no such field.
  """
  if content[_HEADER_BYTES - 4 : _HEADER_BYTES] != _LITTLE_ENDIAN_LEVEL_5:
    raise ValueError("not a little-endian MATLAB file of level 5")
  for kind, data in _elements(content[_HEADER_BYTES:]):
    if kind == _COMPRESSED:
      [(kind, data)] = _elements(_decompress(data))
    if kind != _MATRIX:
      raise ValueError(f"element of type {kind} instead of a matrix")
    flags, _, name, *parts = _elements(data)
    if name[1] == variable.encode():
      return _numbers(_field(flags[1], parts, field))
  raise ValueError(f"no variable {variable!r}")


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
  """Type and data of each element."""
  at = 0
  while at < len(content):
    if len(content) < at + 8:
      raise ValueError("an element is cut")
    kind, size = struct.unpack_from("<II", content, at)
    start = at + 8
    end = start + size
    at = end if kind == _COMPRESSED else end + -size % 8
    if kind >> 16:  # four bytes at most are in the tag itself
      kind, size = kind & 0xFFFF, kind >> 16
      start, at = start - 4, start
      end = start + size
    if end > min(at, len(content)):
      raise ValueError("an element is cut")
    yield kind, content[start:end]


def _decompress(content: bytes) -> bytes:
  stream = zlib.decompressobj()
  try:
    data = stream.decompress(content, _MAX_BYTES)
  except zlib.error as e:
    raise ValueError(str(e)) from e
  if not stream.eof:  # else its checksum was right
    raise ValueError("a compressed variable is cut")
  return data


def _field(flags: bytes, parts: list[tuple[int, bytes]], field: str) -> bytes:
  """The matrix that is a field of a struct."""
  if flags[:1] != bytes([_STRUCT_CLASS]):
    raise ValueError("the variable is not a struct")
  (_, width), (_, names), *values = parts
  size = int.from_bytes(width, "little")
  if not 0 < size <= len(names) or len(names) // size != len(values):
    raise ValueError(f"{len(values)} fields")
  fields = [
    names[i : i + size].rstrip(b"\0").decode("latin-1")
    for i in range(0, len(values) * size, size)
  ]
  if fields.count(field) != 1:
    raise ValueError(f"fields {fields}")
  kind, data = values[fields.index(field)]
  if kind != _MATRIX:
    raise ValueError(f"field of type {kind}")
  return data


def _numbers(matrix: bytes) -> np.ndarray:
  """The values of a matrix; small integers are stored in fewer bytes."""
  (_, flags), (_, dimensions), _, (kind, data) = _elements(matrix)
  mask = int.from_bytes(flags[:4], "little")
  if mask & 0xFF not in _NUMBER_CLASSES or mask & _COMPLEX:
    raise ValueError(f"matrix with the flags {mask:#x}")
  if kind not in _TYPES or len(dimensions) != 8:
    raise ValueError(f"matrix of type {kind}")
  rows, columns = struct.unpack("<ii", dimensions)
  values = np.frombuffer(data, _TYPES[kind])
  if min(rows, columns) < 0 or rows * columns != len(values):
    raise ValueError(f"{len(values)} values for {rows} x {columns}")
  return values.reshape(rows, columns, order="F").astype(np.float64)
