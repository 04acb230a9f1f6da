"""Floating-point operations of a program, and what devices can do.

XLA's own `cost_analysis` counts the body of a scan once, however often it runs.
Here the traced program is walked instead.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.extend
import numpy as np
from jax.interpreters import partial_eval

from cgdmer_jax.data.batch import Batch
from cgdmer_jax.train import optim, train_step
from cgdmer_jax.train.objective import Objective

# Dense 16-bit products with float32 sums, per second and JAX device, by what
# `device_kind` contains; from the makers' data sheets.
_PEAK = {
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5p": 459e12,
  "TPU v5": 459e12,  # so its compiler calls the v5p
  "TPU v6 lite": 918e12,
  "A100": 312e12,
  "H100": 989e12,
  "H200": 989e12,
}


def peak(kind: str) -> float | None:
  """Operations per second in bfloat16 of one device; None if unknown.

  Args:
    kind: name of the device in JAX, `device_kind`.
  """
  found = [value for name, value in _PEAK.items() if name in kind]
  return found[0] if found else None


def count(function: Callable, *arguments: Any) -> int:
  """Counts the operations in matrix products and convolutions of `function`.

  A multiplication and an addition are two operations. Everything else, such as
  norms and softmax, is left out, as is usual for utilisation (Chowdhery et al.
  2022, PaLM, appendix B).

  Args:
    function: function of `arguments`; it is traced, not run.
    *arguments: arrays, or `jax.ShapeDtypeStruct`.

  Raises:
    NotImplementedError: there is a product in a loop of unknown length.
  """
  jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
  # Gradients of inputs that nothing asks for are in it, too.
  needed, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
  return _count(needed)


def count_step(objective: Objective, params: Any, batch: Batch) -> int:
  """Counts the operations of one training step, forward and backward.

  Only those of the model count: neither what is recomputed to save memory, nor
  the optimizer.

  Args:
    objective: the model and its losses.
    params: all parameters; shapes are enough.
    batch: the global batch; shapes are enough.
  """
  model = objective.forward.model
  plain = dataclasses.replace(
    objective,
    forward=dataclasses.replace(
      objective.forward,
      model=model.clone(
        compute=dataclasses.replace(model.compute, remat="none")
      ),
      mesh=None,
    ),
    loss=objective.loss.copy_and_resolve_references(),
    microbatches=1,
  )
  with plain.loss.unlocked():
    plain.loss.ring = False
  trained, frozen = optim.split(params, model.num_frozen)

  def gradient(trained, frozen, batch):
    def loss_fn(trained):
      key = train_step.step_key(0, 0)
      return plain.terms(optim.merge(trained, frozen), batch, key)["loss"]

    return jax.grad(loss_fn)(trained)

  return count(gradient, trained, frozen, batch)


def _count(jaxpr) -> int:
  """Counts the operations of a jaxpr, each as often as it runs."""
  total = 0
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name == "dot_general":
      total += _product(equation)
    elif name == "conv_general_dilated":
      total += _convolution(equation)
    elif name == "scan":
      body = equation.params["jaxpr"].jaxpr
      total += equation.params["length"] * _count(body)
    elif name == "cond":
      branches = equation.params["branches"]
      total += max(_count(branch.jaxpr) for branch in branches)
    else:
      bodies = jax.extend.core.jaxprs_in_params(equation.params)
      inner = sum(map(_count, bodies))
      if name == "while" and inner:
        raise NotImplementedError("products in a loop of unknown length")
      total += inner
  return total


def _product(equation) -> int:
  """Operations of a product: 2 x batch x rows x columns x contracted."""
  (contracted, _), _ = equation.params["dimension_numbers"]
  left = equation.invars[0].aval.shape
  out = equation.outvars[0].aval.shape
  return 2 * math.prod(out) * math.prod(left[i] for i in contracted)


def _convolution(equation) -> int:
  """Operations of a convolution: 2 x outputs x window x channels.

  Products with the zeros of padded or dilated inputs are left out.
  """
  numbers = equation.params["dimension_numbers"]
  x, kernel = (v.aval.shape for v in equation.invars)
  out = equation.outvars[0].aval.shape
  total = 2 * math.prod(out[i] for i in numbers.out_spec[:2])
  total *= kernel[numbers.rhs_spec[1]]
  for axis, stride in enumerate(equation.params["window_strides"]):
    low, _ = equation.params["padding"][axis]
    dilation = equation.params["lhs_dilation"][axis]
    taps = np.arange(kernel[numbers.rhs_spec[2 + axis]])
    taps *= equation.params["rhs_dilation"][axis]
    first = np.arange(out[numbers.out_spec[2 + axis]]) * stride - low
    place = first[:, None] + taps
    size = x[numbers.lhs_spec[2 + axis]]
    inside = (place >= 0) & (place <= (size - 1) * dilation)
    total *= int((inside & (place % dilation == 0)).sum())
  return total
