"""Disentanglement: parts with a known content, and CKA against a loop."""

import numpy as np
import pytest
import scipy.stats

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set
from cgdmer_jax.evaluators.tasks import disentanglement
from cgdmer_jax.models import cgdmer
from tests.evaluators import planted


@pytest.fixture(scope="module")
def data():
  return planted.Data()


class Parts(planted.Encoder):
  """Shared: the labels. Specific: the modality, by a known shift."""

  shift = 2.0

  def _embed(self, level, seed, shift):
    rng = np.random.default_rng([seed, len(level)])
    specific = rng.normal(size=(len(level), 6))
    specific[:, 0] += shift
    return cgdmer.Embedding(level.astype(np.float32), specific)

  def ecg(self, source):
    shared = super().ecg(source).shared[:, :12]
    return self._embed(shared, 0, self.shift)

  def report(self, texts):
    source = planted.Source(texts[0].split()[0])
    rng = np.random.default_rng(7)
    rows = [int(text.split()[1]) for text in texts]
    level = rng.normal(size=(len(rows), 12))
    for j, lead in enumerate(planted.LEADS.values()):
      at = LEADS.index(lead)
      level[:, at] += planted.SHIFT * source.labels[rows, j]
    return self._embed(level, 1, 0.0)


def test_disentanglement_needs_reports(data, tmp_path, monkeypatch):
  nothing = lambda texts: np.zeros(len(texts), bool)  # noqa: E731
  monkeypatch.setattr(data_set, "has_text", nothing)
  with pytest.raises(UserError, match="no train record has a report"):
    planted.run("disentanglement", data, tmp_path, Parts())


def test_disentanglement(data, tmp_path):
  findings = planted.run("disentanglement", data, tmp_path, Parts())
  outcomes = {o.setting: o for o in findings.outcomes}
  planted.check_theory(outcomes["finding_from_ecg_shared"])
  planted.check_theory(outcomes["finding_from_report_shared"])
  for modality in ("ecg", "report"):
    outcome = outcomes[f"finding_from_{modality}_specific"]
    assert abs(outcome.evaluation.macro_auroc.value - 0.5) < 0.02
  measures = {(m.setting, m.name): m.estimate for m in findings.measures}
  assert abs(measures["modality", "AUROC from shared"].value - 0.5) < 0.03
  specific = measures["modality", "AUROC from specific"]
  truth = scipy.stats.norm.cdf(Parts.shift / np.sqrt(2))
  assert specific.low < truth < specific.high
  nothing = measures["CKA", "ecg shared to ecg specific"]
  assert nothing.low < 0 < nothing.high
  # Labels are what ECG and report have in common.
  common = measures["CKA", "ecg shared to report shared"]
  assert common.low > 0


def test_cka_equals_a_loop_and_knows_its_ends():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(40, 3)), rng.normal(size=(40, 5))
  y[:, :2] += x[:, :2]
  once = np.ones((40, 1))
  rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
  assert disentanglement.cka(x, 5 * x @ rotation + 1, once)[0] == pytest.approx(
    1
  )

  def hsic(k, l):  # Song et al. 2012, equation 4, term by term
    n, pairs = len(k), range(len(k))
    trace = sum(k[i, j] * l[i, j] for i in pairs for j in pairs if i != j)
    k_sum = sum(k[i, j] for i in pairs for j in pairs if i != j)
    l_sum = sum(l[i, j] for i in pairs for j in pairs if i != j)
    three = sum(
      k[i, j] * l[i, m]
      for i in pairs
      for j in pairs
      for m in pairs
      if i not in (j, m)
    )
    return (
      trace + k_sum * l_sum / ((n - 1) * (n - 2)) - 2 * three / (n - 2)
    ) / (n * (n - 3))

  k, l = ((z - z.mean(0)) @ (z - z.mean(0)).T for z in (x, y))
  expected = hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))
  value = disentanglement.cka(x, y, once)[0]
  assert value == pytest.approx(expected, rel=1e-9)
