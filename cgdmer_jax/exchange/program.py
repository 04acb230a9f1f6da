"""The ECG encoder as StableHLO: it runs without the code of this package.

    import jax, numpy as np
    encode = jax.export.deserialize(bytearray(open(FILE, "rb").read())).call
    parts = encode(ecg, lead_valid)

`ecg` is int16 (batch, 12, 10 s), microvolt at the sampling rate of the model,
leads in the order of `leads.LEADS`; `lead_valid` is bool (batch, 12), False
where a lead is missing. `parts` has `shared` and, if there is such an encoder,
`specific`, float32 (batch, width). Filter and normalisation are inside.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import jax
import jax.export
import jax.numpy as jnp

from cgdmer_jax.arrays import Array
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.errors import UserError, one_line
from cgdmer_jax.models.forward import Forward
from cgdmer_jax.recordings import windows
from cgdmer_jax.trained_model import TrainedModel

FILE_NAME = "ecg_encoder.stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def make(trained: TrainedModel) -> bytes:
  """Lowers the ECG encoder, parameters included, for any batch size."""
  # cuDNN's attention exists on one platform only; nothing is on a mesh.
  compute = trained.model.compute.__class__(
    dtype=trained.model.compute.dtype, scan=trained.model.compute.scan
  )
  model = trained.model.clone(compute=compute)
  forward = Forward(model, trained.config.preprocess)
  params = jax.device_get(trained.params)

  def encode(ecg: Array, lead_valid: Array) -> dict[str, Array]:
    parts = forward.encode_ecg(params, ecg, lead_valid)
    named = {"shared": parts.shared, "specific": parts.specific}
    return {k: x.astype(jnp.float32) for k, x in named.items() if x is not None}

  (batch,) = jax.export.symbolic_shape("batch")
  length = trained.config.preprocess.sampling_rate * windows.WINDOW_SECONDS
  length -= length % trained.config.model.patch_length
  lowered = jax.export.export(jax.jit(encode), platforms=PLATFORMS)(
    jax.ShapeDtypeStruct((batch, NUM_LEADS, length), jnp.int16),
    jax.ShapeDtypeStruct((batch, NUM_LEADS), jnp.bool_),
  )
  return bytes(lowered.serialize())


def read(path: pathlib.Path) -> Callable[..., dict[str, Array]]:
  """Reads a program; for its arguments see the head of this file.

  Raises:
    UserError: the file cannot be read, or is damaged.
  """
  try:
    return jax.export.deserialize(bytearray(path.read_bytes())).call
  # The parsers below raise errors of their own, and assertions.
  except Exception as e:
    raise UserError(
      f"{path} cannot be read ({type(e).__name__}: {one_line(e)}); export the"
      " run again"
    ) from e
