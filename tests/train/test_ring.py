"""The ring gives what the global view gives, in a fraction of the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax import sharding
from cgdmer_jax.train import losses, positives, ring
from tests.train.statements import read_statements

pytestmark = pytest.mark.usefixtures("strict_promotion")

MESHES = ((1, 1, 1), (4, 1, 1), (1, 4, 1), (2, 2, 1), (2, 1, 2))
KINDS = ("sigmoid", "infonce")


def mesh_of(shape):
  devices = np.array(jax.devices()[: np.prod(shape)]).reshape(shape)
  return jax.sharding.Mesh(devices, sharding.AXES)


def global_view(kind, z_ecg, z_report, texts, log_scale, bias):
  if kind == "infonce":
    return losses.infonce_alignment(z_ecg, z_report, texts, log_scale)
  return losses.sigmoid_alignment(z_ecg, z_report, texts, log_scale, bias)


def batch(size, width, share_with_text, has_statements=False):
  """Half of the reports occur more than once, in one way or the other."""
  rng = np.random.default_rng(0)
  z = rng.normal(size=(2, size, width)).astype(np.float32)
  numbers = rng.integers(0, size, (3, size))
  statements = None
  if has_statements:
    tokens, statement, *_ = read_statements(size)
    marks = jax.jit(positives.fingerprint_statements, static_argnums=2)
    statements = np.asarray(marks(tokens, statement, (8, 9)))
  texts = positives.Texts(
    report=numbers[0].astype(np.int32),
    words=numbers[1:].T.astype(np.uint32) // (size // 8),
    has_text=rng.random(size) < share_with_text,
    statements=statements,
  )
  return z[0], z[1], texts


@pytest.mark.parametrize("share_with_text", [0.8, 0.0])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", MESHES)
def test_value_and_gradient(shape, kind, share_with_text, monkeypatch):
  monkeypatch.setattr(ring, "_CHUNK", 5)  # four chunks on four devices
  mesh = mesh_of(shape)
  has_statements = shape[1] > 1 and share_with_text > 0
  z_ecg, z_report, texts = sharding.put_batch(
    batch(64, 12, share_with_text, has_statements), mesh
  )
  # A scale beyond the clamp of InfoNCE, so that logits are as large as can be.
  scalars = jnp.log(jnp.float32(150.0)), jnp.float32(-3.0)

  def in_a_ring(z_ecg, z_report, *scalars):
    return ring.alignment(kind, z_ecg, z_report, texts, *scalars, mesh)

  def globally(z_ecg, z_report, *scalars):
    value = global_view(kind, z_ecg, z_report, texts, *scalars)
    return value, positives.false_negatives(texts)

  (got, got_gradient), (want, want_gradient) = (
    jax.jit(jax.value_and_grad(f, (0, 1, 2, 3), has_aux=True))(
      z_ecg, z_report, *scalars
    )
    for f in (in_a_ring, globally)
  )
  np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
  np.testing.assert_allclose(got[1], want[1], rtol=1e-6)
  assert (want[0] > 1) == (share_with_text > 0)
  for a, b in zip(got_gradient, want_gradient, strict=True):
    # Sums of 64 x 64 float32 terms in another order.
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a, b, atol=2e-6 * scale)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_of_a_device(kind):
  """At 8,192 records on 4 devices, without running anything."""
  mesh = mesh_of((4, 1, 1))
  cut = sharding.batch_sharding(mesh)

  def abstract(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=cut)

  z_ecg, z_report, texts = jax.tree.map(abstract, batch(8192, 64, 1.0))

  def temporary(function):
    gradient = jax.jit(jax.grad(function, (0, 1)))
    compiled = gradient.lower(z_ecg, z_report, texts).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  scalars = jnp.log(10.0), jnp.float32(-10.0)
  in_a_ring = temporary(
    lambda a, b, texts: ring.alignment(kind, a, b, texts, *scalars, mesh)[0]
  )
  globally = temporary(
    lambda a, b, texts: global_view(kind, a, b, texts, *scalars)
  )
  assert in_a_ring < globally / 6
