"""Products with weights, in 16 bits, whose gradients are summed in float32.

Weights are float32 and products run in the type of the activations. The
gradient of a weight is a sum over all records: over those of a device and then
over devices. If it were made in 16 bits, as JAX would make it from a weight
that was cast before, each part and their sum would be rounded to 8 bits, the
more the more devices there are. Here the parts come out of the product in
float32, which costs nothing there, and are sent so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array

_lecun_normal = nn.initializers.lecun_normal()


def spread(weight: Array, like: Array) -> Array:
  """`weight` broadcast to the shape of `like`, in its type.

  Its gradient is summed in the type of `weight`.
  """
  return jnp.broadcast_to(weight, like.shape).astype(like.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def product(
  x: Array, kernel: Array, axes: int = 1, gathered: bool = False
) -> Array:
  """Product over the last `axes` axes of `x` and the first ones of `kernel`.

  Args:
    x: activations.
    kernel: weights, cast to the type of `x`.
    axes: how many axes are summed over.
    gathered: whether every device gets all of `kernel`; see `sharding.gather`.

  Returns:
    Array of the type of `x`.
  """
  return _multiply(x, _cast(kernel, x.dtype, gathered), axes)


def _product_forward(x, kernel, axes, gathered):
  # Not `product`: recomputation must see that this is a product of matrices.
  y = _multiply(x, _cast(kernel, x.dtype, gathered), axes)
  return y, (x, kernel)


def _product_backward(axes, gathered, saved, g):
  x, kernel = saved
  records = range(x.ndim - axes)
  columns = range(len(records), g.ndim), range(axes, kernel.ndim)
  to_x = lax.dot_general(
    g, _cast(kernel, x.dtype, gathered), (columns, ((), ()))
  )
  dimensions = (records, records), ((), ())

  def in_float32(x, g):
    return lax.dot_general(
      x, g, dimensions, preferred_element_type=kernel.dtype
    )

  def widened(x, g):
    return in_float32(x.astype(kernel.dtype), g.astype(kernel.dtype))

  # CPUs have no product of 16-bit numbers that is float32.
  return to_x, lax.platform_dependent(x, g, cpu=widened, default=in_float32)


product.defvjp(_product_forward, _product_backward)


def _multiply(x, kernel, axes):
  last = range(x.ndim - axes, x.ndim)
  return lax.dot_general(x, kernel, ((last, range(axes)), ((), ())))


def _cast(kernel, dtype, gathered):
  kernel = kernel.astype(dtype)
  return sharding.gather(kernel) if gathered else kernel


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: Array, kernel: Array, stride: int) -> Array:
  """Convolution along time; as many outputs as inputs / `stride`, rounded up.

  Args:
    x: (batch, time, features).
    kernel: (taps, features, outputs), cast to the type of `x`.
    stride: steps of time between outputs.
  """
  return _convolve(x, kernel.astype(x.dtype), stride)


def _convolve(x, kernel, stride):
  numbers = ("NWC", "WIO", "NWC")
  return lax.conv_general_dilated(
    x, kernel, (stride,), "SAME", dimension_numbers=numbers
  )


def _convolution_forward(x, kernel, stride):
  return _convolve(x, kernel.astype(x.dtype), stride), (x, kernel)


def _convolution_backward(stride, saved, g):
  x, kernel = saved
  cast = kernel.astype(x.dtype)
  (to_x,) = jax.vjp(lambda x: _convolve(x, cast, stride), x)[1](g)
  wide, g = x.astype(kernel.dtype), g.astype(kernel.dtype)
  return to_x, jax.vjp(lambda k: _convolve(wide, k, stride), kernel)[1](g)[0]


convolution.defvjp(_convolution_forward, _convolution_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def rows(table: Array, index: Array, dtype: str) -> Array:
  """Rows of a table that every device gets all of: (..., width).

  Args:
    table: (rows, width).
    index: integers.
    dtype: type of the result.
  """
  return jnp.take(_cast(table, dtype, True), index, axis=0)


def _rows_forward(table, index, dtype):
  # A type is nothing that can be kept: an array without elements has it.
  empty = jnp.zeros((table.shape[0], 0), table.dtype)
  y = jnp.take(_cast(table, dtype, True), index, axis=0)
  return y, (empty, index)


def _rows_backward(dtype, saved, g):
  empty, index = saved
  zeros = jnp.zeros((empty.shape[0], g.shape[-1]), empty.dtype)
  return zeros.at[index].add(g.astype(empty.dtype)), None


rows.defvjp(_rows_forward, _rows_backward)


class Dense(nn.Module):
  """Affine map of the last axes; initial weights are those of Flax.

  Attributes:
    features: sizes of the axes that take their place.
    axes: how many axes are mapped.
    use_bias: whether something is added.
    dtype: type of the product.
    kernel_init: of the weights, as a matrix.
  """

  features: int | Sequence[int]
  axes: int = 1
  use_bias: bool = True
  dtype: str = "float32"
  kernel_init: Callable[..., Array] = _lecun_normal

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps the last axes of `x`."""
    out = self.features
    out = (out,) if isinstance(out, int) else tuple(out)
    inputs = x.shape[x.ndim - self.axes :]

    def init(key, shape):
      matrix = math.prod(inputs), math.prod(out)
      return self.kernel_init(key, matrix, jnp.float32).reshape(shape)

    kernel = self.param("kernel", init, (*inputs, *out))
    y = product(x.astype(self.dtype), kernel, self.axes)
    if self.use_bias:
      y += spread(self.param("bias", nn.initializers.zeros, out), y)
    return y


class Convolution(nn.Module):
  """Convolution along time, with what is added; see `convolution`."""

  features: int
  taps: int
  stride: int
  dtype: str = "float32"

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Maps (batch, time, features)."""
    shape = self.taps, x.shape[-1], self.features
    kernel = self.param("kernel", _lecun_normal, shape)
    y = convolution(x.astype(self.dtype), kernel, self.stride)
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    return y + spread(bias, y)
