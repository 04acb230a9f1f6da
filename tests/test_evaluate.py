"""The evaluation as a whole: what is done stays done, what fails is told."""

import csv
import dataclasses
import json
import os
import pathlib
import shutil

import jax
import ml_collections
import numpy as np
import pytest

from cgdmer_jax import evaluate, sharding
from cgdmer_jax.data import preprocessing, views
from cgdmer_jax.data.source import EcgSource
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import data_set, tasks
from cgdmer_jax.evaluators.encoders import features
from cgdmer_jax.evaluators.encoders import parse as encoders
from cgdmer_jax.evaluators.probes import linear
from cgdmer_jax.evaluators.task import Source
from cgdmer_jax.evaluators.tasks import transfer
from configs import benchmark
from tests import toy
from tests.runs import make_run


@pytest.fixture(scope="module")
def runs(tiny_data, tmp_path_factory):
  root = tmp_path_factory.mktemp("runs")
  for seed in range(2):
    make_run(tiny_data, root / f"clip-{seed}", "clip", seed)
  make_run(tiny_data, root / "mae-0", "mae")
  return root


def config(**changes):
  c = benchmark.get_config().unlock()
  c.evaluation.update(toy.get_config().evaluation)
  c.evaluation.update(datasets="", label_sets=("superclass",))
  c.evaluation.update(changes)
  c.evaluation.finetune.update(epochs=1, fractions=(1.0,))
  return c


def crash(*_, **__):
  raise ZeroDivisionError


def test_benchmark_goes_on_where_it_stopped(
  runs, tiny_data, tmp_path, monkeypatch, capsys
):
  c = config(
    tasks=(
      *("zero_shot", "linear_probe", "finetune", "retrieval"),
      *("transfer", "reconstruction"),
    )
  )
  c.encoders = f"{runs}/*,random_convolutions"
  broken = dataclasses.replace(tasks.TASKS["retrieval"], run=crash)
  with monkeypatch.context() as patch:
    patch.setitem(tasks.TASKS, "retrieval", broken)
    with pytest.raises(ZeroDivisionError):
      evaluate.run(c, tmp_path, tiny_data)
  before = {
    p: p.stat().st_mtime_ns for p in (tmp_path / "results").glob("*/*.json")
  }
  assert len(before) == 3  # zero-shot, probe and fine-tuning of the first run
  assert evaluate.run(c, tmp_path, tiny_data)
  assert all(p.stat().st_mtime_ns == time for p, time in before.items())
  check_what_a_benchmark_leaves(tmp_path)
  capsys.readouterr()
  check_that_nothing_is_done_twice(c, tmp_path, tiny_data, monkeypatch)
  printed = capsys.readouterr().out.replace("\n", " ")
  assert printed.count("over up to 2 pretraining seeds") == 2


def check_what_a_benchmark_leaves(workdir):
  document = json.loads((workdir / "results/comparison.json").read_text())
  macros = {
    (row["encoder"], row["task"]): row
    for row in document["rows"]
    if row["label"] == "macro"
  }
  assert macros["clip", "linear_probe"]["seeds"] == 2
  assert {name for name, _ in macros} == {
    *("clip", "mae", "random convolutions")
  }
  assert {task for _, task in macros} == {
    *("zero_shot", "linear_probe", "finetune")
  }
  reasons = {
    (n["encoder"], n["task"]): n["reason"] for n in document["not_done"]
  }
  assert "no report encoder" in reasons["mae", "zero_shot"]
  assert "no report encoder" in reasons["mae", "retrieval"]
  assert "has no decoder" in reasons["clip", "reconstruction"]
  assert "features only" in reasons["random convolutions", "finetune"]
  assert "no other data set" in reasons["clip", "transfer"]
  with (workdir / "results/comparison.csv").open() as file:
    assert len(list(csv.DictReader(file))) == len(document["rows"])
  tables = (workdir / "results/tables.md").read_text()
  assert "scores are too high" not in tables  # nobody has seen the test
  assert "Not done:" in tables and "over up to 2 pretraining seeds" in tables
  assert r"\toprule" in (workdir / "results/tables.tex").read_text()
  assert {p.name for p in (workdir / "figures").iterdir()} == {
    "auroc-synthetic_ecg-tiny-superclass.png",
    "macro-synthetic_ecg-tiny-superclass.png",
    "reconstruction-synthetic_ecg-tiny.png",
  }
  # The fields that decide a result are in it, and no others.
  assert set(document["options"]["linear_probe"]) == {
    *("train", "validation", "test", "max_train"),
    *("representation", "fractions", "seeds", "min_positives"),
    "num_bootstrap",
  }


def check_that_nothing_is_done_twice(c, workdir, tiny_data, monkeypatch):
  monkeypatch.setattr(features, "extract", crash)
  evaluate.run(c, workdir, tiny_data)
  num_features = len([*(workdir / "features").iterdir()])
  # So it is when everything was copied elsewhere, and is of another time.
  runs = pathlib.Path(c.encoders.partition("/*")[0])
  copy = workdir / "copy"
  shutil.copytree(tiny_data, copy / "data")
  shutil.copytree(runs, copy / "runs")
  for name in ("features", "results"):
    shutil.copytree(workdir / name, copy / "work" / name)
  for path in copy.rglob("*"):
    os.utime(path, (1e9, 1e9))
  elsewhere = ml_collections.ConfigDict(c.to_dict())
  elsewhere.encoders = c.encoders.replace(str(runs), str(copy / "runs"))
  tiny_data, workdir, c = copy / "data", copy / "work", elsewhere

  # And when encoders have other names, in other company.
  def rename(parsed):
    for encoder in parsed:
      name = f"{encoder.identity.name}!"
      encoder.identity = dataclasses.replace(
        encoder.identity, name=name, plain_name=name
      )

  with monkeypatch.context() as patch:
    patch.setattr(encoders, "_name_apart", rename)
    evaluate.run(c, workdir, tiny_data)
  assert "| mae! |" in (workdir / "results/tables.md").read_text()
  assert len([*(workdir / "features").iterdir()]) == num_features
  # Other options are other results.
  c.evaluation.update(tasks=("linear_probe",), seeds=1)
  monkeypatch.setattr(linear, "fit", crash)
  with pytest.raises(ZeroDivisionError):
    evaluate.run(c, workdir, tiny_data)


def test_a_task_that_nobody_can_do_is_an_error(runs, tiny_data, tmp_path):
  c = config()
  c.evaluation.tasks = ("zero_shot",)
  c.encoders = f"{runs}/mae-0"
  with pytest.raises(UserError, match="'mae' has no report encoder"):
    evaluate.run(c, tmp_path, tiny_data)
  c.evaluation.update(tasks=("linear_probe",), representation="specific")
  with pytest.raises(UserError, match="no modality-specific part"):
    evaluate.run(c, tmp_path, tiny_data)
  assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"tasks": ("x", "zero_shot")}, "unknown task x; known: zero_shot, linear"),
    ({"label_sets": ("x",)}, "has no label set 'x'; it has superclass"),
    ({"datasets": "nothing/here"}, "no data set 'nothing/here'"),
    ({"prompts": "none.json", "tasks": ("zero_shot",)}, "cannot read the prom"),
  ],
)
def test_mistakes_are_explained(runs, tiny_data, tmp_path, changes, message):
  c = config()
  c.evaluation.update(changes)
  c.encoders = f"{runs}/clip-0"
  with pytest.raises(UserError, match=message):
    evaluate.run(c, tmp_path, tiny_data)


def test_names_of_encoders(runs, tiny_data):
  mesh = sharding.make_mesh((-1, 1, 1))

  def parse(names):
    return encoders.parse(names, mesh, 16)

  parsed = parse(f"{runs}/clip-*, {runs}/mae-0/checkpoints/7,random")
  identities = [e.identity for e in parsed]
  assert [i.name for i in identities] == ["clip", "clip", "mae", "random"]
  assert [i.seed for i in identities] == [0, 1, 0, 0]
  assert [i.step for i in identities] == [7, 7, 7, None]
  assert len({i.fingerprint for i in identities}) == 4
  again = parse(f"{runs}/clip-*,{runs}/mae-0,random")
  assert [i.fingerprint for i in identities] == [
    e.identity.fingerprint for e in again
  ]
  # Runs of one recipe that differ in more than their seed have other names.
  other = runs / "others" / "wide"
  make_run(tiny_data, other, "clip", 0, **{"mask.time_ratio": 0.3})
  names = [e.identity.name for e in parse(f"{runs}/clip-*,{other}")]
  assert names == ["clip (clip)", "clip (clip)", "clip (wide)"]
  # Once is enough, and not everything beside runs is one.
  assert (
    len(parse(f"{runs}/mae-0,{runs}/mae-*,{runs}/mae-0/checkpoints/*")) == 1
  )
  (runs / "others" / "recipes.points").write_text("--config=...")
  (runs / "others" / "begun").mkdir()
  (runs / "others" / "begun" / "config.json").write_text(
    (other / "config.json").read_text()
  )
  assert [e.identity.path for e in parse(f"{runs}/others/*")] == [str(other)]
  for wrong, message in (
    ("", "no encoder"),
    (f"{runs}/no*", "no run matches"),
    (f"{runs}/none", "no run in"),
    ("random", "take their architecture from a run"),
  ):
    with pytest.raises(UserError, match=message):
      parse(wrong)


def test_a_run_that_is_not_done_is_no_seed_of_others(tiny_data, tmp_path):
  mesh = sharding.make_mesh((-1, 1, 1))
  for seed, steps in enumerate((7, 7, 9)):
    make_run(
      tiny_data, tmp_path / f"{seed}", "mae", seed, **{"train.steps": steps}
    )
  parsed = encoders.parse(f"{tmp_path}/*", mesh, 16)
  assert [e.identity.name for e in parsed] == ["mae", "mae", "mae, step 7"]


def test_features_of_others_with_one_file_name(tmp_path):
  paths = [tmp_path / name / "features.npz" for name in "ab"]
  for i, path in enumerate(paths):
    path.parent.mkdir()
    ids = np.array([b"x", b"y"])
    np.savez(path, ids=ids, features=np.full((2, 3), i))
  mesh = sharding.make_mesh((-1, 1, 1))
  parsed = encoders.parse(",".join(map(str, paths)), mesh, 16)
  assert [e.identity.name for e in parsed] == [
    f"features ({name}/features.npz)" for name in "ab"
  ]
  for content in (b"", b"PK\x03\x04"):
    paths[0].write_bytes(content)
    with pytest.raises(UserError, match="cannot read the features"):
      encoders.parse(str(paths[0]), mesh, 16)
  np.savez(paths[0], ids=np.array(["x"]), features=np.array([["text"]]))
  with pytest.raises(UserError, match="cannot read the features"):
    encoders.parse(str(paths[0]), mesh, 16)


def test_each_source_of_a_transfer_is_a_result_of_its_own(
  runs, tiny_data, tmp_path, monkeypatch
):
  """Sources with different findings are not cut to what they share."""
  names = ("synthetic_ecg/tiny", "csn/100hz")

  class Renamed(data_set.DataSet):
    def __init__(self, name, *rest):
      super().__init__("synthetic_ecg/tiny", *rest)
      self.name = name

    def source(self, split):
      return EcgSource("synthetic_ecg/tiny", split, tiny_data)

  def sources(data, label_set, others):
    (other,) = others
    assert {data.name, other.name} == set(names)
    return [Source(other, "form"), Source(other, label_set)]

  def common_findings(source, target, labels):
    if source == target:
      return {name: ((name,), (name,)) for name in labels}
    return {"first": (label_sets[source][:1], labels[:1])}

  label_sets = EcgSource("synthetic_ecg/tiny", "test", tiny_data).label_sets
  changed = dataclasses.replace(tasks.TASKS["transfer"], sources=sources)
  monkeypatch.setitem(tasks.TASKS, "transfer", changed)
  monkeypatch.setattr(evaluate, "DataSet", Renamed)
  monkeypatch.setattr(transfer, "common_findings", common_findings)
  c = config(tasks=("transfer",), datasets=",".join(names))
  c.encoders = f"{runs}/mae-0"
  evaluate.run(c, tmp_path, tiny_data)
  folders = {p.name for p in (tmp_path / "results").iterdir() if p.is_dir()}
  assert folders == {
    f"transfer-{a.replace('/', '_')}-superclass_from_{b.replace('/', '_')}_{s}"
    for a, b in (names, names[::-1])
    for s in ("form", "superclass")
  }


def test_random_encoders_of_all_preprocessing(runs, tiny_data):
  mesh = sharding.make_mesh((-1, 1, 1))
  grid = encoders.parse(f"{runs}/clip-0,random_grid", mesh, 16)[1:]
  assert len(grid) == 12
  names = [e.identity.name for e in grid]
  assert "random, 50 Hz, lead, above 0.5 Hz" in names
  assert "random, 100 Hz, fixed, unfiltered" in names
  source = EcgSource("synthetic_ecg/tiny", "test[:5]", tiny_data)
  pair = [
    grid[names.index(f"random, {rate} Hz, record, unfiltered")]
    for rate in (100, 50)
  ]
  for encoder in pair:
    assert encoder.ecg(source).shared.shape == (5, 16)
  # Half the rate, each second sample; what lies above 20 Hz is gone.
  slow = views.Decimated(source, 2)
  ecg, whole = slow.signal(0)["ecg"], source.signal(0)["ecg"]
  assert ecg.shape == (12, 500) and slow.sampling_rate == 50
  assert np.corrcoef(ecg[1], whole[1, ::2])[0, 1] > 0.95


def test_random_convolutions_see_what_is_given(runs, tiny_data):
  del runs
  mesh = sharding.make_mesh((-1, 1, 1))
  (encoder,) = encoders.parse("random_convolutions", mesh, 8)
  source = EcgSource("synthetic_ecg/tiny", "test[:9]", tiny_data)
  shared = encoder.ecg(source).shared
  assert shared.shape == (9, 2010) and np.isfinite(shared).all()
  # By hand, for the kernels of the first length and dilation.
  dilation, weights, biases = encoder._groups[0]
  assert dilation == 1
  x = source.signal(3)
  filtered = _filtered(x["ecg"])
  response = np.stack(
    [
      sum(
        np.convolve(lead, kernel[::-1], "same")
        for lead, kernel in zip(filtered, weights[k], strict=True)
      )
      + biases[k]
      for k in range(len(weights))
    ]
  )
  count = len(weights)
  np.testing.assert_allclose(shared[3, :count], response.max(1), rtol=1e-3)
  np.testing.assert_allclose(
    shared[3, count : 2 * count], (response > 0).mean(1), atol=2e-3
  )


def _filtered(ecg):
  x = jax.numpy.asarray(ecg[None] / 250.0, "float32")
  return np.asarray(preprocessing.bandpass(x, 100, 0.5, 0.0))[0]
