"""Every task gives a planted encoder the score that theory gives it."""

import json

import numpy as np
import pytest
import safetensors.numpy

from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.task import Source
from cgdmer_jax.evaluators.tasks import transfer
from tests.evaluators import planted


@pytest.fixture(scope="module")
def data():
  return planted.Data()


def test_zero_shot(data, tmp_path):
  (outcome,) = planted.run("zero_shot", data, tmp_path).outcomes
  planted.check_theory(outcome)


def test_linear_probe(data, tmp_path):
  one, ten, full = planted.run("linear_probe", data, tmp_path).outcomes
  planted.check_theory(full)
  values = [o.evaluation.macro_auroc.value for o in (one, ten, full)]
  assert values == sorted(values)


def test_linear_probe_of_each_lead(data, tmp_path):
  changes = {"representation": "per_lead", "fractions": (1.0,)}
  encoder = planted.Pretrained(patch_length=20)
  (outcome,) = planted.run(
    "linear_probe", data, tmp_path, encoder, changes=changes
  ).outcomes
  assert outcome.setting == "probe_100"
  planted.check_theory(outcome)
  x = planted.store(tmp_path, encoder).per_lead(data.test)
  level = data.test.ecg[:, :, None].repeat(20, 2) / 1000
  np.testing.assert_allclose(x, level.reshape(len(x), -1), atol=1e-5)
  # An encoder without it still has the other probes.
  changes["representation"] = "shared,per_lead"
  findings = planted.run("linear_probe", data, tmp_path, changes=changes)
  assert [o.setting for o in findings.outcomes] == ["probe_100"]
  assert findings.details["per_lead"]["text"].startswith("no probe of per_lead")
  for wrong in ("x", "both,both", ""):
    changes["representation"] = wrong
    with pytest.raises(UserError, match=f"representation='{wrong}'; expected"):
      planted.run("linear_probe", data, tmp_path, changes=changes)


def test_finetune(tmp_path):
  data = planted.Data()
  options = dict(epochs=6, lr=0.1, batch_size=100, fractions=(0.5,))
  encoder = planted.Pretrained()
  before = np.array(encoder.trained.params["ecg_encoder"]["weight"])
  findings = planted.run("finetune", data, tmp_path, encoder, **options)
  planted.check_theory(findings.outcomes[0])
  assert findings.outcomes[0].num_train == 1500
  losses = findings.details["finetune_50"]["validation_loss_by_epoch"]
  assert losses[-1] < losses[0] and 2 <= len(losses) <= 6
  np.testing.assert_array_equal(
    encoder.trained.params["ecg_encoder"]["weight"], before
  )
  check_classifier(findings, data.source("test"))
  # Fewer records than a batch, on four devices; fewer than devices.
  options.update(epochs=1, fractions=(0.013,))
  findings = planted.run("finetune", data, tmp_path, encoder, **options)
  assert findings.outcomes[0].num_train == 39
  options.update(fractions=(0.001,))
  with pytest.raises(UserError, match="3 training records cannot be divided"):
    planted.run("finetune", data, tmp_path, encoder, **options)
  options.update(fractions=(0.5,), lr=float("nan"))
  with pytest.raises(UserError, match="finetune.lr=nan diverged; lower it"):
    planted.run("finetune", data, tmp_path, encoder, **options)


def check_classifier(findings, source):
  """The files are enough to compute the scores, here by hand."""
  content = findings.files["finetune_50/model.safetensors"]
  arrays = safetensors.numpy.load(content)
  level = source.ecg / 1000 * arrays["ecg_encoder/weight"]
  logits = level @ arrays["head/kernel"] + arrays["head/bias"]
  scores = findings.outcomes[0].scores[0]
  np.testing.assert_allclose(scores, logits, atol=1e-3)
  document = json.loads(findings.files["finetune_50/classifier.json"])
  assert document["labels"] == [*planted.NAMES]
  assert document["fraction"] == 0.5 and 0.3 < document["temperature"] < 3
  assert json.loads(findings.files["finetune_50/config.json"])["recipe"]


@pytest.mark.parametrize("task", ["finetune", "reconstruction"])
def test_records_at_another_sampling_rate_are_refused(task, tmp_path):
  data, encoder = planted.Data(), planted.Pretrained()
  encoder.trained.config.preprocess.sampling_rate = 500
  with pytest.raises(UserError, match="100 Hz, the model reads 500 Hz"):
    planted.run(task, data, tmp_path, encoder)


def test_transfer(data, tmp_path):
  other = planted.Data(seed=1)
  (source,) = transfer.sources(other, "superclass", [data])
  assert source == Source(data, "superclass")
  findings = planted.run("transfer", other, tmp_path, source=source)
  (outcome,) = findings.outcomes
  assert outcome.setting == "from_planted_0_superclass"
  # CD is in every record: there is nothing to learn, and it is left out.
  assert [row.name for row in outcome.evaluation.labels] == [*planted.LEADS]
  macro = outcome.evaluation.macro_auroc
  assert macro.low < planted.AUROC < macro.high
  assert transfer.sources(data, "superclass", []) == []
  with pytest.raises(UserError, match="no other data set of this evaluation"):
    planted.run("transfer", data, tmp_path)


def test_missing_leads(data, tmp_path):
  outcomes = planted.run("missing_leads", data, tmp_path).outcomes
  given = {"12_leads": 4, "6_leads": 2, "3_leads": 3, "1_lead": 1}
  assert [o.setting for o in outcomes] == [
    f"{kind}_{name}" for kind in ("probe_100", "zero_shot") for name in given
  ]
  for outcome in outcomes:
    leads = outcome.setting.split("_", 2)[2]
    macro = outcome.evaluation.macro_auroc
    truth = (given[leads] * planted.AUROC + (4 - given[leads]) * 0.5) / 4
    if outcome.setting.startswith("zero_shot"):
      assert macro.low < truth < macro.high
    else:  # Labels whose lead is missing are guessed from the other leads.
      assert macro.value == pytest.approx(truth, abs=0.02)


def test_findings_of_two_label_sets_are_any_of_their_labels():
  mapping = transfer.common_findings("cpsc2018", "superclass", ("NORM", "CD"))
  assert mapping["conduction"] == (("1AVB", "CRBBB", "CLBBB"), ("CD",))
  assert transfer.common_findings("x", "x", ("a",)) == {"a": (("a",), ("a",))}
  assert transfer.common_findings("x", "y", ("a",)) == {}
  labels = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
  carried = transfer._carries_any(labels, ("a", "b", "c"), [("a", "c"), ("b",)])
  np.testing.assert_array_equal(carried, [[1, 0], [1, 1], [0, 0]])
