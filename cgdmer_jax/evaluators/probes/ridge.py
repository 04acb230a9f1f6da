"""Ridge regression: what arithmetic restores of hidden samples.

Hidden leads are predicted from the visible leads of the same instant. Where
every lead is hidden at once, a patch is predicted from the patch before and the
patch after it in the same lead. Both are linear in signals whose patches have
mean zero; the mean of a hidden patch is given, as a decoder has it.

All that a fit needs is the matrix of second moments of the training records:
one matrix serves every choice of what is hidden.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from cgdmer_jax.data import pipeline, preprocessing
from cgdmer_jax.data.leads import NUM_LEADS
from cgdmer_jax.models.forward import Restored

STRENGTH = 1e-3  # of the penalty, in mean variances of what is given


def coefficients(
  moments: np.ndarray, given: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
  """Predicts some coordinates of a vector from others.

  The minimum over W of mean |x_wanted - x_given W|^2 + penalty |W|^2 is at
  W = (M_gg + penalty I)^-1 M_gw.

  Args:
    moments: (D, D), M = mean x x^T over the training samples x.
    given: G numbers of the coordinates that are known.
    wanted: numbers of those that are predicted.

  Returns:
    W, (G, number of wanted).
  """
  known = moments[np.ix_(given, given)]
  penalty = STRENGTH * np.trace(known) / len(given) + 1e-12
  return np.linalg.solve(
    known + penalty * np.eye(len(given)), moments[np.ix_(given, wanted)]
  )


@dataclasses.dataclass(frozen=True)
class Ridge:
  """Regressions of one corpus.

  Attributes:
    preprocess: `config.preprocess` of a run.
    patch_length: p, samples.
    block: b, patches that are hidden at once where every lead is hidden.
    leads: (12, 12) second moments of the leads at one instant.
    times: (12, 2 p, b p) coefficients of each lead, from the patch before and
      the patch after a block to the block.
  """

  preprocess: ConfigDict
  patch_length: int
  block: int
  leads: np.ndarray
  times: np.ndarray

  def restore(
    self, ecg: np.ndarray, lead_valid: np.ndarray, hidden: np.ndarray
  ) -> Restored:
    """Restores hidden patches; see `TrainedModel.reconstruct`.

    Args:
      ecg: int16 (N, 12, T), microvolts.
      lead_valid: bool (N, 12).
      hidden: bool (N, 12, patches); whole leads, or b patches in a row of all
        valid leads, neither the first nor the last.

    Returns:
      float32 (N, 12, T) each.
    """
    patches = _patches(ecg, lead_valid, self.preprocess, self.patch_length)
    mean = np.broadcast_to(patches.mean(-1, keepdims=True), patches.shape)
    restored = patches - mean  # filled below
    for x, valid, unseen in zip(restored, lead_valid, hidden, strict=True):
      given = np.flatnonzero(valid & ~unseen.any(-1))
      wanted = np.flatnonzero(unseen.any(-1))
      if len(given) and len(wanted):
        weights = coefficients(self.leads, given, wanted)
        x[wanted] = np.einsum("gnp,gw->wnp", x[given], weights)
      else:
        self._restore_times(x, wanted, unseen)
    return Restored(
      *(a.reshape(ecg.shape) for a in (patches, restored + mean, mean))
    )

  def _restore_times(
    self, x: np.ndarray, wanted: np.ndarray, unseen: np.ndarray
  ) -> None:
    """Fills a block of patches of leads (12, N, p) from its neighbours."""
    p, b = self.patch_length, self.block
    for lead in wanted:
      start = int(np.argmax(unseen[lead]))
      around = np.concatenate([x[lead, start - 1], x[lead, start + b]])
      x[lead, start : start + b] = (around @ self.times[lead]).reshape(b, p)


def fit(
  source: pipeline.SignalSource,
  numbers: np.ndarray,
  preprocess: ConfigDict,
  patch_length: int,
  block: int,
) -> Ridge:
  """Collects the second moments of training records.

  Args:
    source: training records.
    numbers: which of them.
    preprocess: see `Ridge`, as are the next two.
    patch_length: in samples.
    block: patches.
  """
  span = (block + 2) * patch_length
  leads = np.zeros((NUM_LEADS, NUM_LEADS))
  pairs = np.full_like(leads, 1e-9)  # instants at which both leads are there
  windows = np.zeros((NUM_LEADS, span, span))
  for start in range(0, len(numbers), 64):
    records = [source.signal(int(i)) for i in numbers[start : start + 64]]
    ecg, valid = (
      np.stack([r[key] for r in records]) for key in ("ecg", "lead_valid")
    )
    x = _patches(ecg, valid, preprocess, patch_length)
    x = x - x.mean(-1, keepdims=True)  # missing leads are zero, and stay so
    leads += np.einsum("blnp,bmnp->lm", x, x, optimize=True)
    pairs += x[0, 0].size * (valid.T.astype(float) @ valid)
    for k in range(x.shape[2] - block - 1):
      rows = x[:, :, k : k + block + 2].reshape(len(x), NUM_LEADS, span)
      windows += np.einsum("bli,blj->lij", rows, rows, optimize=True)
  inside = np.arange(patch_length, span - patch_length)
  outside = np.delete(np.arange(span), inside)
  times = [coefficients(moments, outside, inside) for moments in windows]
  return Ridge(preprocess, patch_length, block, leads / pairs, np.stack(times))


def _patches(
  ecg: np.ndarray, lead_valid: np.ndarray, preprocess: ConfigDict, length: int
) -> np.ndarray:
  """Preprocessed patches, float32 (N, 12, patches, p)."""
  x = preprocessing.preprocess(
    jnp.asarray(ecg), jnp.asarray(lead_valid), preprocess
  )
  return np.asarray(preprocessing.patchify(x, length))
