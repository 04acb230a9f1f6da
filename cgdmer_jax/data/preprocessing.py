"""From stored int16 microvolts to model input; runs on the device, jitted."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from ml_collections import ConfigDict

from cgdmer_jax import sharding
from cgdmer_jax.arrays import Array
from cgdmer_jax.data import augmentation
from cgdmer_jax.errors import UserError

NORMALISATIONS = ("fixed", "record", "lead")


def bandpass(
  x: Float[Array, "batch lead time"],
  sampling_rate: int,
  low: float,
  high: float,
  lowpass: Float[Array, " batch"] | None = None,
  order: int = 2,
) -> Float[Array, "batch lead time"]:
  """Zero-phase Butterworth band-pass in the frequency domain.

  Multiplies the spectrum by |H|^2 of a high-pass and a low-pass Butterworth
  filter, which is what filtering forward and backward does. The signal is
  continued at both ends by one second of its odd reflection first, as
  `scipy.signal.filtfilt` does, so that the ends do not ring.

  Args:
    x: signal.
    sampling_rate: Hz.
    low: high-pass corner in Hz; 0 for none.
    high: low-pass corner in Hz; 0 for none.
    lowpass: corner of one more low-pass filter for each record, above 0.
    order: order of each Butterworth filter.

  Returns:
    The filtered signal, same shape.
  """
  pad = sampling_rate
  left = 2 * x[..., :1] - x[..., pad:0:-1]
  right = 2 * x[..., -1:] - x[..., -2 : -pad - 2 : -1]
  padded = jnp.concatenate([left, x, right], axis=-1)
  n = padded.shape[-1]
  frequency = np.fft.rfftfreq(n, 1 / sampling_rate)
  gain = np.ones_like(frequency)
  if low:
    ratio = (frequency / low) ** (2 * order)
    gain *= ratio / (1 + ratio)
  if high:
    gain /= 1 + (frequency / high) ** (2 * order)
  gain = jnp.asarray(gain, jnp.float32)[None, None]
  if lowpass is not None:
    ratio = jnp.asarray(frequency, jnp.float32)[None, None]
    gain = gain / (1 + (ratio / lowpass[:, None, None]) ** (2 * order))
  spectrum = jnp.fft.rfft(padded) * gain.astype(jnp.complex64)
  padded = jnp.fft.irfft(spectrum, n=n)
  return padded[..., pad : pad + x.shape[-1]]


def preprocess(
  ecg: Int[Array, "batch lead time"],
  lead_valid: Bool[Array, "batch lead"],
  config: ConfigDict,
  augment: augmentation.Augmentation = augmentation.NONE,
) -> Float[Array, "batch lead time"]:
  """Scales, filters and normalises a batch.

  Args:
    ecg: int16, microvolt.
    lead_valid: False for missing leads; they come out as zeros.
    config: `config.preprocess`: `bandpass` (low, high) in Hz, 0 for none;
      `normalise`: `fixed` divides by `scale` mV and keeps amplitudes
      comparable between records (voltage criteria), `record` and `lead`
      subtract the mean of the record or the lead and divide by its standard
      deviation; `clip`: largest absolute value in the resulting unit;
      `sampling_rate` in Hz.
    augment: what is done to the signals in mV before they are normalised.

  Returns:
    float32 signal; near unit variance with `record` and `lead`, and with
    `fixed` if `scale` is near the standard deviation of the recordings.

  Raises:
    UserError: unknown normalisation.
  """
  return preprocess_with_unit(ecg, lead_valid, config, augment)[0]


def preprocess_with_unit(
  ecg: Int[Array, "batch lead time"],
  lead_valid: Bool[Array, "batch lead"],
  config: ConfigDict,
  augment: augmentation.Augmentation = augmentation.NONE,
) -> tuple[Float[Array, "batch lead time"], Float[Array, "batch lead 1"]]:
  """What `preprocess` returns, and the unit of each lead in mV."""
  valid = lead_valid[..., None]
  x = jnp.where(valid, ecg.astype(jnp.float32) / 1000.0, 0.0)  # mV
  low, high = config.bandpass
  x = augmentation.apply(x, augment)
  if low or high or augment.lowpass is not None:
    # Fourier transforms are not partitioned.
    x = sharding.by_record(
      lambda x, lowpass: bandpass(x, config.sampling_rate, low, high, lowpass)
    )(x, augment.lowpass)
  if config.normalise == "fixed":
    unit = jnp.float32(config.scale)
  elif config.normalise in ("record", "lead"):
    axes = (-1,) if config.normalise == "lead" else (-2, -1)
    weight = jnp.broadcast_to(valid, x.shape).astype(jnp.float32)
    count = jnp.maximum(weight.sum(axes, keepdims=True), 1.0)
    mean = (x * weight).sum(axes, keepdims=True) / count
    x = (x - mean) * weight
    variance = (x**2).sum(axes, keepdims=True) / count
    unit = jnp.sqrt(variance + 1e-6)  # 1 uV^2: far below any signal.
  else:
    raise UserError(
      f"preprocess.normalise={config.normalise!r}; expected one of "
      + ", ".join(NORMALISATIONS)
    )
  x = jnp.where(valid, jnp.clip(x / unit, -config.clip, config.clip), 0.0)
  return x, jnp.broadcast_to(unit, valid.shape)


def patchify(
  x: Float[Array, "batch lead time"], patch_length: int
) -> Float[Array, "batch lead patch sample"]:
  """Cuts each lead into patches of `patch_length` samples.

  Raises:
    UserError: the length is not a multiple of the patch length.
  """
  b, l, t = x.shape
  if t % patch_length:
    raise UserError(
      f"model.patch_length={patch_length} does not divide the {t} samples of a "
      "record; choose a divisor"
    )
  return x.reshape(b, l, t // patch_length, patch_length)


TARGETS = ("patch", "signal", "residual")


def visible_scale(
  patches: Float[Array, "batch lead patch sample"],
  shown: Bool[Array, "batch lead patch"],
) -> Float[Array, "batch 1 1 1"]:
  """Root mean square of the patches of each record that are `shown`."""
  weight = shown[..., None].astype(jnp.float32)
  count = jnp.maximum(weight.sum((1, 2, 3)) * patches.shape[-1], 1.0)
  mean = ((patches * weight) ** 2).sum((1, 2, 3)) / count
  return jnp.sqrt(mean + 1e-3)[:, None, None, None]


def target(
  patches: Float[Array, "batch lead patch sample"],
  shown: Bool[Array, "batch lead patch"],
  kind: str,
) -> tuple[Array, Array, Array]:
  """What a decoder is to predict, and how to undo it.

  Args:
    patches: all patches.
    shown: which of them are visible.
    kind: `config.model.ecg_target`: "patch", each patch at zero mean and unit
      variance; "signal", in units of the root mean square of what is visible;
      "residual", the same, and what the visible leads of the same time tell
      linearly is added to the output of the decoder.

  Returns:
    Targets, and shift and scale: a patch is target * scale + shift.
  """
  if kind == "patch":
    return normalise_patches(patches)
  scale = visible_scale(patches, shown)
  return patches / scale, jnp.zeros_like(scale), scale


def normalise_patches(
  patches: Float[Array, "batch lead patch sample"],
) -> tuple[Array, Array, Array]:
  """Normalises each patch to zero mean and the variance var / (var + 1e-3).

  This is the target of the reconstruction, as in masked auto-encoders (He et
  al. 2022, "norm_pix_loss"). The floor 1e-3 keeps the noise of a silent patch
  from being amplified to unit variance.

  Returns:
    Normalised patches, and what undoes it (..., 1): mean and sqrt(var + 1e-3).
  """
  mean = patches.mean(-1, keepdims=True)
  deviation = jnp.sqrt(patches.var(-1, keepdims=True) + 1e-3)
  return (patches - mean) / deviation, mean, deviation
