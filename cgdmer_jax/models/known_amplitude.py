"""The height of restored patches, from nothing that was hidden.

What a decoder predicts has no unit of its own. With the target "signal" or
"residual" it counts in root mean squares of what is visible, which the model
knows. With the target "patch" it predicts shapes only: each patch at mean 0 and
variance 1. To draw such a patch in mV a height has to be chosen, and the mean
and deviation of the hidden original would tell more than the model knows.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Bool, Float

from cgdmer_jax.arrays import Array
from cgdmer_jax.data import preprocessing

# What `in_millivolt` does, for captions.
RULES = {
  "patch": (
    "The model predicts the shape of a hidden part, not its height. It is drawn"
    " with the typical height of the visible parts of the same lead; where a"
    " whole lead is hidden, of the other leads."
  ),
  "signal": (
    "The model predicts the height of a hidden part, too, in proportion to what"
    " is visible of the recording."
  ),
}
RULES["residual"] = RULES["signal"]


def in_millivolt(
  decoded: Float[Array, "batch lead patch sample"],
  patches: Float[Array, "batch lead patch sample"],
  recorded: Float[Array, "batch lead patch sample"],
  visible: Bool[Array, "batch lead patch"],
  unit: Float[Array, "batch lead 1 1"],
  kind: str,
) -> Float[Array, "batch lead patch sample"]:
  """Puts what a decoder predicts into mV.

  The result is decoded * height + offset, one of each for a lead. Only visible
  patches decide them:

  - Height. "patch": root mean square over the visible patches of the deviation
    of a patch. Other targets: root mean square of what is visible of the
    record. Both are in the unit of the lead, that is, times `unit`. A lead that
    is hidden as a whole has the mean height of the others.
  - Offset. The mean of the visible samples becomes that of the recording, which
    has a constant part that a filter takes away. A lead that is hidden as a
    whole has none.

  Args:
    decoded: what the decoder predicts.
    patches: what the model reads.
    recorded: the recording in mV, neither filtered nor normalised.
    visible: which patches the model sees.
    unit: what the model's unit is in mV.
    kind: `config.model.ecg_target`.

  Returns:
    mV. It depends on no hidden sample, but through `decoded` and `unit`: with
    `preprocess.normalise` "record" or "lead" the input of the model was divided
    by a deviation that hidden samples are part of.
  """
  weight = visible[..., None].astype(jnp.float32)
  is_seen = visible.any(2)[..., None, None]

  def visible_mean(x: Array) -> Array:
    count = jnp.maximum(weight.sum((2, 3), keepdims=True), 1.0)
    mean = x.mean(3, keepdims=True)
    return (mean * weight).sum((2, 3), keepdims=True) / count

  if kind == "patch":
    _, _, deviation = preprocessing.normalise_patches(patches)
    height = jnp.sqrt(visible_mean(deviation**2)) * unit
    offset = visible_mean(recorded)
  else:
    height = preprocessing.visible_scale(patches, visible) * unit
    offset = visible_mean(recorded - patches * unit)
  num_seen = jnp.maximum(is_seen.sum(1, keepdims=True), 1)
  usual = jnp.where(is_seen, height, 0.0).sum(1, keepdims=True) / num_seen
  height = jnp.where(is_seen, height, usual)
  return decoded * height + jnp.where(is_seen, offset, 0.0)
