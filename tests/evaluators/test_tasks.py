"""Every task gives a planted encoder the score that theory gives it."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.encoders import foreign
from cgdmer_jax.evaluators.scores import statistics
from cgdmer_jax.evaluators.tasks import adapters as tasks
from cgdmer_jax.evaluators.tasks import (
  disentanglement,
  reconstruction,
  retrieval,
  transfer,
)
from cgdmer_jax.models import cgdmer
from tests.evaluators import planted


@pytest.fixture(scope="module")
def data():
  return planted.Data()


def run(task, data, tmp_path, encoder=None):
  label_set = "superclass" if tasks.TASKS[task].labels else ""
  return tasks.TASKS[task].run(
    planted.store(tmp_path, encoder), data, label_set
  )


def check_theory(outcome, truth=planted.AUROC):
  """Both the average and nearly all labels: no more than chance would miss."""
  assert outcome.scores.shape[1] == planted.SIZES["test"]
  macro = outcome.evaluation.macro_auroc
  assert macro.low < truth < macro.high, outcome.setting
  inside = [
    row.auroc.low < truth < row.auroc.high
    for row in outcome.evaluation.labels
    if row.auroc
  ]
  assert len(inside) == 4 and sum(inside) >= 3
  assert outcome.evaluation.labels[-1].skipped == "no negative in test"


def test_zero_shot(data, tmp_path):
  (outcome,) = run("zero_shot", data, tmp_path).outcomes
  check_theory(outcome)


def test_linear_probe(data, tmp_path):
  one, ten, full = run("linear_probe", data, tmp_path).outcomes
  check_theory(full)
  values = [o.evaluation.macro_auroc.value for o in (one, ten, full)]
  assert values == sorted(values)


def test_finetune(tmp_path):
  data = planted.Data()
  data.options.finetune.update(
    epochs=6, lr=0.1, batch_size=100, fractions=(0.5,)
  )
  encoder = planted.Pretrained()
  before = np.array(encoder.trained.params["ecg_encoder"]["weight"])
  findings = run("finetune", data, tmp_path, encoder)
  check_theory(findings.outcomes[0])
  assert findings.outcomes[0].num_train == 1500
  losses = findings.details["finetune_50"]["validation_loss_by_epoch"]
  assert losses[-1] < losses[0] and 2 <= len(losses) <= 6
  np.testing.assert_array_equal(
    encoder.trained.params["ecg_encoder"]["weight"], before
  )
  # Fewer records than a batch, on four devices; fewer than devices.
  data.options.finetune.update(epochs=1, fractions=(0.013,))
  findings = run("finetune", data, tmp_path, encoder)
  assert findings.outcomes[0].num_train == 39
  data.options.finetune.update(fractions=(0.001,))
  with pytest.raises(UserError, match="3 training records cannot be divided"):
    run("finetune", data, tmp_path, encoder)
  data.options.finetune.update(fractions=(0.5,))
  data.options.finetune.update(lr=float("nan"), epochs=1)
  with pytest.raises(UserError, match="finetune.lr=nan diverged; lower it"):
    run("finetune", data, tmp_path, encoder)


@pytest.mark.parametrize("task", ["finetune", "reconstruction"])
def test_records_at_another_sampling_rate_are_refused(task, tmp_path):
  data, encoder = planted.Data(), planted.Pretrained()
  encoder.trained.config.preprocess.sampling_rate = 500
  with pytest.raises(UserError, match="100 Hz, the model reads 500 Hz"):
    run(task, data, tmp_path, encoder)


def test_transfer(data, tmp_path):
  other = planted.Data(seed=1)
  other.others = [data]
  (teacher,) = other.teachers("superclass")
  assert teacher == (data, "superclass")
  store = planted.store(tmp_path)
  (outcome,) = (
    tasks.TASKS["transfer"].run(store, other, "superclass", *teacher).outcomes
  )
  assert outcome.setting == "from_planted_0_superclass"
  # CD is in every record: there is nothing to learn, and it is left out.
  assert [row.name for row in outcome.evaluation.labels] == [*planted.LEADS]
  macro = outcome.evaluation.macro_auroc
  assert macro.low < planted.AUROC < macro.high
  assert data.teachers("superclass") == []
  with pytest.raises(UserError, match="no other data set of this evaluation"):
    run("transfer", data, tmp_path)


def test_missing_leads(data, tmp_path):
  outcomes = run("missing_leads", data, tmp_path).outcomes
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


class Matching(planted.Encoder):
  """Half of the reports match their recordings, the rest match nothing."""

  def ecg(self, source):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(len(source), 64)).astype(np.float32)
    return cgdmer.Embedding(shared, None)

  def report(self, texts):
    shared = self.ecg(texts).shared.copy()
    rng = np.random.default_rng(1)
    wrong = rng.random(len(texts)) < 0.5
    shared[wrong] = rng.normal(size=(wrong.sum(), 64))
    self.right = ~wrong
    return cgdmer.Embedding(shared, None)


def test_retrieval(data, tmp_path):
  encoder = Matching(data.mesh)
  findings = run("retrieval", data, tmp_path, encoder)
  measures = {(m.setting, m.name): m for m in findings.measures}
  n = planted.SIZES["test"]
  for direction in ("ecg_to_report", "report_to_ecg"):
    for k in (1, 5, 10):
      measure = measures[direction, f"recall@{k}"]
      assert measure.chance == pytest.approx(k / n)
      share = encoder.right.mean()
      theory = share + (1 - share) * k / n
      assert measure.estimate.value == pytest.approx(theory, abs=0.006)
      assert measure.estimate.low < 0.5 < measure.estimate.high + 0.01


def test_ranks_count_ties_by_half_and_copies_as_hits():
  queries = np.eye(3)
  candidates = np.array([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0, 1]])
  hits = (np.array([0, 1, 2]), np.array([0, 0, 1, 2]))
  np.testing.assert_array_equal(
    retrieval.ranks(queries, candidates, hits), [1, 1, 1]
  )
  hits = (np.array([0, 1, 2]), np.array([0, 1, 1, 2]))
  # A stranger with the same score; the second of two; the only one.
  np.testing.assert_array_equal(
    retrieval.ranks(queries, candidates, hits), [1.5, 1, 1]
  )
  hits = (np.array([5]), np.array([0, 1, 1, 5]))
  np.testing.assert_array_equal(
    retrieval.ranks(queries[:1], candidates, hits), [3]
  )


def test_frequent_reports_count_for_chance_and_as_one_query():
  """An encoder that gives each record the same embedding, and each report."""
  copies = np.array([6, 3, 1, 1, 1])
  report_ids = np.repeat(np.arange(5), copies)
  findings = retrieval.retrieval(
    *(np.ones((12, 2)), np.ones((5, 2)), report_ids, np.ones(5, bool)),
    *(np.arange(12), np.arange(12)),
    num_bootstrap=50,
  )
  measures = {(m.setting, m.name): m for m in findings.measures}
  chances = {key: m.chance for key, m in measures.items()}
  assert chances["ecg_to_report", "recall@1"] == 6 / 12
  assert chances["ecg_to_report", "recall@5"] == 1
  assert chances["ecg_to_report", "median rank"] == 1
  assert chances["report_to_ecg", "recall@1"] == pytest.approx(1 / 5)
  assert chances["report_to_ecg", "median rank"] == 3
  # Equal similarities: a text with more recordings is found earlier, once.
  ranks = 1 + 0.5 * (12 - copies)
  recall = measures["report_to_ecg", "recall@5"].estimate
  assert recall.value == pytest.approx((ranks <= 5).mean())
  assert measures["report_to_ecg", "median rank"].estimate.value == 6.5


def test_records_with_one_report_are_hits_of_each_other():
  rng = np.random.default_rng(0)
  texts = rng.normal(size=(4, 8))
  report_ids = np.array([0, 0, 1, 2, 3, 0])
  findings = retrieval.retrieval(
    texts[[0, 0, 1, 2, 3, 0]],
    texts,
    report_ids,
    np.array([True, True, True, False]),  # the last report is empty
    np.arange(6),
    np.arange(6),
    num_bootstrap=20,
  )
  assert findings.details["retrieval"] == {
    **{"num_records": 5, "num_reports": 3, "num_without_report": 1}
  }
  for measure in findings.measures:
    assert measure.estimate.value == 1  # recall, and median rank
  with pytest.raises(UserError, match="records with different reports"):
    retrieval.retrieval(
      *(texts, texts, np.zeros(4, int), np.ones(4, bool)),
      *(np.arange(4), np.arange(4)),
    )


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
  monkeypatch.setattr(tasks, "_has_text", nothing)
  with pytest.raises(UserError, match="no train record has a report"):
    run("disentanglement", data, tmp_path, Parts(data.mesh))


def test_disentanglement(data, tmp_path):
  findings = run("disentanglement", data, tmp_path, Parts(data.mesh))
  outcomes = {o.setting: o for o in findings.outcomes}
  check_theory(outcomes["finding_from_ecg_shared"])
  check_theory(outcomes["finding_from_report_shared"])
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
  found = disentanglement.cka(x, y, once)[0]
  assert found == pytest.approx(expected, rel=1e-9)


class Waves:
  """Recordings with beats at known times."""

  sampling_rate, num_samples, name, split = 100, 1000, "waves", "test"

  def __len__(self):
    return 30

  def signal(self, index):
    rng = np.random.default_rng(index)
    time = np.arange(1000) / 100
    ecg = 0.02 * rng.normal(size=(12, 1000))
    for beat in self.beats():
      for at, width, height in (
        (-0.15, 0.02, 0.1),
        (0, 0.015, 1),
        (0.25, 0.05, 0.3),
      ):
        ecg += height * np.exp(-0.5 * ((time - beat - at) / width) ** 2)
    return {
      "ecg": np.rint(1000 * ecg).astype(np.int16),
      "lead_valid": np.ones(12, bool),
    }

  @staticmethod
  def beats():
    return np.arange(0.5, 10, 0.9)


def test_reconstruction_measures_a_planted_error():
  source = Waves()
  names = np.array([str(i) for i in range(30)])
  index = tasks.index_lib.RecordIndex(
    names, names, ("x",), np.zeros(30, np.int32), {}
  )
  encoder = planted.Pretrained(error=0.3, patch_length=50)
  findings = reconstruction.reconstruct(
    encoder.trained, source, index, batch_size=8, num_bootstrap=50
  )
  found = {(m.setting, m.name.split(", ")[1]): m for m in findings.measures}
  assert len(found) == 2 * (1 + 12 + 4)
  for setting in reconstruction.KINDS:
    # The error is 0.3 deviations of each patch, the floor of 1e-3 included.
    value = found[setting, "all"].estimate.value
    assert 0.09 <= value < 0.1
    regions = [found[setting, r].estimate.value for r in ("QRS", "rest")]
    assert regions[0] < value < regions[1]  # where the signal is, and is not
  model = encoder.trained.model
  model.reconstruct = False
  with pytest.raises(UserError, match="'planted' has no decoder"):
    reconstruction.reconstruct(encoder.trained, source, index, batch_size=8)


@pytest.mark.parametrize("rate", [100, 500])
def test_regions_follow_the_beats(rate):
  signal = Waves().signal(0)["ecg"][1] / 1000
  signal = np.repeat(signal, rate // 100)
  found = reconstruction.regions(signal, rate)
  names = np.array(reconstruction.REGIONS)
  for beat in Waves.beats()[1:-1]:
    at = {-0.15: "P", 0.0: "QRS", 0.25: "T", -0.3: "rest"}
    for delay, name in at.items():
      assert names[found[round((beat + delay) * rate)]] == name
  flat = reconstruction.regions(np.zeros(1000), 100)
  assert (names[flat] == "rest").all()


def test_findings_of_two_label_sets_are_any_of_their_labels():
  mapping = transfer.findings("cpsc2018", "superclass", ("NORM", "CD"))
  assert mapping["conduction"] == (("1AVB", "CRBBB", "CLBBB"), ("CD",))
  assert transfer.findings("x", "x", ("a",)) == {"a": (("a",), ("a",))}
  assert transfer.findings("x", "y", ("a",)) == {}
  labels = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
  found = transfer._any(labels, ("a", "b", "c"), [("a", "c"), ("b",)])
  np.testing.assert_array_equal(found, [[1, 0], [1, 1], [0, 0]])


def test_few_leads_hide_the_others_and_are_kept_apart(data, tmp_path):
  store = planted.store(tmp_path)
  whole = store.ecg(data.test).shared
  few = store.ecg(data.test, ("I", "V2")).shared
  given = [0, LEADS.index("V2"), 12]
  np.testing.assert_array_equal(few[:, given], whole[:, given])
  assert not np.delete(few, given, axis=1).any()
  assert len(list(tmp_path.iterdir())) == 2


def test_features_are_computed_once_and_damage_is_no_obstacle(data, tmp_path):
  store = planted.store(tmp_path)
  first = store.ecg(data.test).shared
  again = planted.store(tmp_path)
  again.encoder.ecg = None  # would fail
  np.testing.assert_array_equal(again.ecg(data.test).shared, first)
  (path,) = tmp_path.iterdir()
  path.write_bytes(path.read_bytes()[:100])
  fresh = planted.store(tmp_path)
  np.testing.assert_array_equal(fresh.ecg(data.test).shared, first)
  fresh.encoder.identity = fresh.encoder.identity.__class__("x", "other")
  fresh._known.clear()
  fresh.ecg(data.source("validation"))
  assert len(list(tmp_path.iterdir())) == 2


def test_damaged_features_are_refused(data, tmp_path):
  store = planted.store(tmp_path)
  found = store.encoder.ecg(data.test)
  found.shared[3, 0] = np.nan
  store.encoder.ecg = lambda source: found
  with pytest.raises(UserError, match="for 1 of 1501 records of planted/0"):
    store.ecg(data.test)
  assert not list(tmp_path.iterdir())


def test_foreign_features_are_scored_like_any_other(
  data, tmp_path, monkeypatch
):
  encoder = planted.Encoder(data.mesh)
  ids, rows = [], []
  for split in tasks.SPLITS:
    ids += list(data.index(split).ids)
    rows.append(encoder.ecg(data.source(split)).shared[:, :12])
  path = tmp_path / "theirs.npz"
  order = np.random.default_rng(0).permutation(len(ids))
  arrays = {
    "ids": np.array(ids)[order],
    "features": np.concatenate(rows)[order],
  }
  np.savez(path, **arrays)
  monkeypatch.setattr(foreign, "EcgSource", planted.Source)
  monkeypatch.setattr(
    foreign.index_lib, "load_index", lambda source: data.index(source.split)
  )
  theirs = foreign.Foreign(str(path))
  assert theirs.identity.name == "theirs"
  found = run("linear_probe", data, tmp_path / "a", theirs).outcomes
  ours = run("linear_probe", data, tmp_path / "b").outcomes
  for a, b in zip(found, ours, strict=True):
    assert a.evaluation.macro_auroc.value == pytest.approx(
      b.evaluation.macro_auroc.value, abs=0.002
    )
  with pytest.raises(UserError, match="features of recordings only"):
    run("zero_shot", data, tmp_path / "a", theirs)
  with pytest.raises(UserError, match="known by its features only"):
    run("finetune", data, tmp_path / "a", theirs)
  with pytest.raises(UserError, match="features of whole records only"):
    run("missing_leads", data, tmp_path / "a", theirs)
  np.savez(path, **{k: v[1:] for k, v in arrays.items()})
  with pytest.raises(UserError, match="lacks 1 of the .* such as"):
    run("linear_probe", data, tmp_path / "c", foreign.Foreign(str(path)))
  for wrong, message in (
    ({"ids": arrays["ids"]}, "lacks the array 'features is not"),
    ({**arrays, "ids": arrays["ids"][1:]}, r"expected \(N,\) and \(N, D\)"),
    (
      {**arrays, "ids": np.repeat(arrays["ids"][:1], len(ids))},
      "more than once",
    ),
  ):
    np.savez(path, **wrong)
    with pytest.raises(UserError, match=message):
      foreign.Foreign(str(path))
  with pytest.raises(UserError, match="cannot read the features"):
    foreign.Foreign(str(tmp_path / "none.npz"))


def test_weighted_median_counts_repeated_records():
  rng = np.random.default_rng(0)
  values = rng.integers(1, 50, 31).astype(float)
  weights = statistics.subject_weights(np.arange(31), 40, 0)
  found = retrieval._weighted_median(values, weights)
  expected = [np.median(np.repeat(values, w.astype(int))) for w in weights.T]
  np.testing.assert_allclose(found, expected)
  assert jnp.isfinite(found).all()
