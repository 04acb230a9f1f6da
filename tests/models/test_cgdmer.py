"""What the model may and may not see; decoders against oracles."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgdmer_jax.data import preprocessing
from cgdmer_jax.errors import UserError
from cgdmer_jax.models import layers, masking, report_masking
from cgdmer_jax.models.forward import Forward
from cgdmer_jax.train import checks, setup, train_step
from tests import small

pytestmark = pytest.mark.usefixtures("strict_promotion")

CONFIG = small.config()
MODEL = setup.build_model(CONFIG, small.VOCABULARY)


@pytest.fixture(scope="module")
def params():
  return jax.jit(
    functools.partial(train_step.init_params, MODEL, CONFIG.seed)
  )()


@functools.partial(jax.jit, static_argnums=0)
def inputs(kind="spatial_temporal"):
  batch = jax.tree.map(jnp.asarray, small.batch())
  x = preprocessing.preprocess(batch.ecg, batch.lead_valid, CONFIG.preprocess)
  patches = preprocessing.patchify(x, CONFIG.model.patch_length)
  mask = masking.sample_patch_mask(
    jax.random.key(0), batch.lead_valid, 8, kind, 0.5, 0.5
  )
  return batch, patches, mask


@functools.partial(jax.jit, static_argnames="method")
def apply(params, *args, method=None):
  return MODEL.apply({"params": params}, *args, method=method)


@pytest.mark.parametrize("kind", masking.KINDS)
def test_nothing_leaks_from_hidden_patches(params, kind):
  batch, patches, mask = inputs(kind)
  words = report_masking.unmasked_tokens(batch.tokens)

  @jax.jit
  @jax.grad
  def everything(patches):
    out = apply(params, patches, batch.lead_valid, mask, words)
    z = (out.ecg.shared**3).sum() + (out.ecg.specific**3).sum()
    return z + (out.samples**3).sum()

  gradient = np.abs(np.asarray(everything(patches))).max(-1)
  hidden = np.asarray(mask.hidden)
  visible = ~hidden & np.asarray(batch.lead_valid)[..., None]
  assert (gradient[hidden] == 0).all()
  assert (gradient[visible] > 0).all()


def test_missing_leads_are_invisible(params):
  batch, patches, mask = inputs()
  words = report_masking.unmasked_tokens(batch.tokens)
  lead_valid = batch.lead_valid.at[0, 2:9].set(False)  # fewer than 6 valid
  mask = masking.sample_patch_mask(
    jax.random.key(1), lead_valid, 8, "spatial_temporal", 0.5, 0.5
  )
  garbage = jnp.where(lead_valid[..., None, None], patches, 1e3)
  clean = apply(params, patches, lead_valid, mask, words)
  dirty = apply(params, garbage, lead_valid, mask, words)
  for name in ("shared", "specific"):
    np.testing.assert_array_equal(
      getattr(clean.ecg, name), getattr(dirty.ecg, name)
    )
  valid = np.asarray(lead_valid)
  np.testing.assert_array_equal(
    np.asarray(clean.samples)[valid], np.asarray(dirty.samples)[valid]
  )
  # The same garbage in valid leads would show.
  shown = apply(params, garbage, jnp.ones_like(lead_valid), mask, words)
  assert not np.array_equal(shown.samples, clean.samples)


def test_padding_of_reports_is_invisible(params):
  batch, _, _ = inputs()
  tokens = batch.tokens[:, :12].at[:, 8:].set(0)
  _, short = apply(params, tokens[:, :8], method="encode_report")
  _, padded = apply(params, tokens, method="encode_report")
  np.testing.assert_allclose(short.shared, padded.shared, atol=1e-6)
  np.testing.assert_allclose(short.specific, padded.specific, atol=1e-6)


def test_visible_order_does_not_matter(params):
  # Encoding is a function of the set of visible patches: the full view equals
  # the same patches listed in another order.
  batch, patches, _ = inputs()
  full = masking.full_view(batch.lead_valid, 8)
  order = jnp.asarray(np.random.default_rng(0).permutation(96))
  shuffled = full.replace(order=full.order[:, order], seen=full.seen[:, order])
  _, a = apply(params, patches, full, method="encode_ecg")
  _, b = apply(params, patches, shuffled, method="encode_ecg")
  np.testing.assert_allclose(a.shared, b.shared, atol=1e-5)


def test_embeddings_are_means_of_tokens_of_valid_leads(params):
  batch, patches, _ = inputs()
  full = masking.full_view(batch.lead_valid, 8)
  _, z = apply(params, patches, full, method="encode_ecg")
  forward = Forward(MODEL, CONFIG.preprocess)
  tokens = np.asarray(
    jax.jit(forward.ecg_tokens)(params, batch.ecg, batch.lead_valid)
  )
  assert tokens.shape == (8, 12, 8, 32) and not tokens[2, 7].any()
  count = 8 * np.asarray(batch.lead_valid).sum(1)
  mean = tokens.sum((1, 2)) / count[:, None]
  both = np.concatenate([z.shared, z.specific], axis=1)
  np.testing.assert_allclose(mean, both, atol=1e-5)


def test_axial_block_equals_full_attention_with_axial_mask():
  rng = np.random.default_rng(0)
  b, l, n, d = 3, 12, 5, 8
  x = jnp.asarray(rng.normal(size=(b, l, n, d)), jnp.float32)
  lead_valid = jnp.asarray(rng.random((b, l)) < 0.8)
  block = layers.AxialBlock(num_heads=2, mlp_dim=16)
  params = jax.jit(block.init)(jax.random.key(0), x, lead_valid)["params"]

  def attention(name, y, allowed):
    """Full attention over L*N tokens, written out head by head."""
    p = params[name]
    y = y.reshape(b, l * n, d)
    qkv = jnp.einsum("btd,dchk->cbhtk", y, p["qkv"]["kernel"])
    qkv += p["qkv"]["bias"][:, None, :, None]
    score = jnp.einsum("bhqk,bhsk->bhqs", qkv[0], qkv[1]) / jnp.sqrt(d / 2)
    score = jnp.where(allowed[:, None], score, -jnp.inf)
    y = jnp.einsum("bhqs,bhsk->bqhk", jax.nn.softmax(score), qkv[2])
    y = jnp.einsum("bqhk,hkd->bqd", y, p["out"]["kernel"])
    y += p["out"]["bias"][None, None]
    return y.reshape(b, l, n, d)

  def norm(name, y):
    return nn.LayerNorm().apply({"params": params[name]}, y)

  @jax.jit
  def expected(x):
    lead, time = jnp.divmod(jnp.arange(l * n), n)
    same_lead = jnp.tile(lead[:, None] == lead[None], (b, 1, 1))
    same_time = (time[:, None] == time[None])[None] & lead_valid[:, None, lead]
    y = x + attention("time", norm("norm_time", x), same_lead)
    y += attention("lead", norm("norm_lead", y), same_time)
    mlp = layers.Mlp(16).apply({"params": params["mlp"]}, norm("norm_mlp", y))
    return y + mlp

  got = jax.jit(block.apply)({"params": params}, x, lead_valid)
  np.testing.assert_allclose(got, expected(x), atol=2e-5)


def test_decoder_restores_a_hidden_lead_only_across_leads(params):
  batch, patches, mask = inputs()
  fused, _ = apply(params, patches, mask, method="encode_ecg")
  hidden_lead = int(np.flatnonzero(np.asarray(mask.hidden)[0].all(-1))[0])

  @jax.jit
  @jax.grad
  def lead_sum(fused):
    given = fused, patches, mask, batch.lead_valid
    out = apply(params, *given, method="decode_ecg")
    return (out[0, hidden_lead] ** 2).sum()

  gradient = lead_sum(fused)
  assert np.abs(gradient[0]).max() > 0  # other leads inform it
  assert np.abs(gradient[1:]).max() == 0  # other records do not


def test_recipes_have_only_the_parts_they_need():
  parts = {}
  for recipe in ("random", "mae", "clip", "masked_clip", "cg_dmer"):
    c = small.config(f"recipe={recipe}")
    model = setup.build_model(c, small.VOCABULARY)
    parts[recipe] = set(
      jax.eval_shape(functools.partial(train_step.init_params, model, c.seed))
    )
  backbone = {"ecg_encoder", "ecg_projection", "shared_encoder"}
  report = {"report_encoder", "report_projection", "log_scale", "bias"}
  restoring = {"ecg_decoder", "arithmetic"}
  decoders = restoring | {"report_decoder", "word_bias"}
  specific = {"ecg_specific_encoder", "report_specific_encoder"}
  assert parts["mae"] == backbone | restoring
  assert parts["clip"] == backbone | report
  assert parts["masked_clip"] == backbone | report | decoders
  assert parts["cg_dmer"] == backbone | report | decoders | specific
  assert parts["random"] == parts["cg_dmer"]


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("model.patch_length", 33, "does not divide the 200 samples"),
    ("model.specific", False, "needs model.specific=True"),
    ("mask.kind", "none", "nothing to restore"),
    ("loss.alignment", "clip", "expected one of sigmoid, infonce"),
    ("align_view", "half", "expected one of masked, full"),
    ("mask.kind", "leads", "mask.kind='leads'; expected one of none, random"),
    ("preprocess.normalise", "z", "expected one of fixed, record, lead"),
    ("data.statements", (), r"data.statements=\(\)"),
    ("data.statements", (1, -1), r"data.statements=\(1, -1\)"),
  ],
)
def test_impossible_combinations(key, value, message):
  c = small.config()
  with c.unlocked():
    c.update_from_flattened_dict({key: value})
  with pytest.raises(UserError, match=message):
    checks.check(c, small.NUM_SAMPLES)
