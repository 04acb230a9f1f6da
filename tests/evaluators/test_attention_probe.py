"""The attention probe: its formula, and labels that stand in one lead."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.task import Inputs, Options
from cgdmer_jax.evaluators.tasks import TASKS, attention_probe
from tests.evaluators import planted


def test_attention_is_that_of_a_loop():
  rng = np.random.default_rng(0)
  tokens = rng.normal(size=(2, 12, 3, 5)).astype(np.float32)
  valid = np.ones((2, 12), bool)
  valid[1, 4:] = False
  params = {
    "query": rng.normal(size=(5, 4)).astype(np.float32),
    "kernel": rng.normal(size=(4, 5, 6)).astype(np.float32),
    "bias": rng.normal(size=6).astype(np.float32),
  }
  ours = attention_probe.logits(
    jax.tree.map(jnp.asarray, params), jnp.asarray(tokens), jnp.asarray(valid)
  )
  for i in range(2):
    x = tokens[i][valid[i]].reshape(-1, 5)
    theirs = params["bias"].astype(float)
    for head in range(4):
      weight = scipy.special.softmax(x @ params["query"][:, head])
      theirs += (weight @ x) @ params["kernel"][head]
    np.testing.assert_allclose(ours[i], theirs, rtol=1e-4)


class Tokens(features.Store):
  """One token a lead: which lead it is, and its level."""

  def tokens(self, source):
    level = source.ecg[:, :, None, None] / 1000
    place = np.broadcast_to(np.eye(12)[None, :, None], (*level.shape[:3], 12))
    return np.concatenate([place, level], axis=-1).astype(np.float16)


def options(task, given, **changes):
  config = planted.evaluation()
  config.update(num_bootstrap=50, seeds=2, **changes)
  return Options(task, config, given)


def test_attention_finds_the_lead_of_a_label(tmp_path):
  task = TASKS["attention_probe"]
  store = Tokens(planted.Encoder(), tmp_path)
  given = Inputs(store, planted.Data(), "superclass")
  findings = task.run(given, options(task, given, fractions=(0.02, 1.0)))
  few, full = findings.outcomes
  assert (few.setting, few.num_train) == ("attention_2", 60)
  assert len(few.scores) == 2 and len(full.scores) == 1
  # The mean over all leads would give Phi(SHIFT / sqrt(12 * 2)) = 0.60.
  value = full.evaluation.macro_auroc.value
  assert planted.AUROC - 0.04 < value < planted.AUROC + 0.01
  assert few.evaluation.macro_auroc.value < value
  fitted = findings.details["calibration_attention"]["attention_100"]
  assert fitted["temperatures"][0] == pytest.approx(1, abs=0.2)
  other = Inputs(planted.store(tmp_path), planted.Data(), "superclass")
  with pytest.raises(UserError, match="there is none"):
    task.run(other, options(task, other))
