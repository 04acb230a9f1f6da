"""Features are kept, checked, and can be those of others."""

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators.data_set import SPLITS
from cgdmer_jax.evaluators.encoders import foreign
from tests.evaluators import planted


@pytest.fixture(scope="module")
def data():
  return planted.Data()


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
  again.encoder.ecg = lambda source: 1 / 0
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
  damaged = store.encoder.ecg(data.test)
  damaged.shared[3, 0] = np.nan
  store.encoder.ecg = lambda source: damaged
  with pytest.raises(UserError, match="for 1 of 1501 records of planted/0"):
    store.ecg(data.test)
  assert not list(tmp_path.iterdir())


@pytest.fixture
def foreign_file(data, tmp_path, monkeypatch):
  """A file of the planted encoder's features in any order, and its arrays."""
  encoder = planted.Encoder()
  ids, rows = [], []
  for split in SPLITS:
    ids += list(data.index(split).ids)
    rows.append(encoder.ecg(data.source(split)).shared[:, :12])
  order = np.random.default_rng(0).permutation(len(ids))
  arrays = {
    "ids": np.array(ids)[order],
    "features": np.concatenate(rows)[order],
  }
  path = tmp_path / "theirs.npz"
  np.savez(path, **arrays)
  monkeypatch.setattr(
    foreign.index_lib, "load_index", lambda source: data.index(source.split)
  )
  return path, arrays


def test_foreign_features_are_scored_like_any_other(
  data, foreign_file, tmp_path
):
  theirs = foreign.Foreign(str(foreign_file[0]))
  assert theirs.identity.name == "theirs"
  a = planted.run("linear_probe", data, tmp_path / "a", theirs).outcomes
  b = planted.run("linear_probe", data, tmp_path / "b").outcomes
  for x, y in zip(a, b, strict=True):
    assert x.evaluation.macro_auroc.value == pytest.approx(
      y.evaluation.macro_auroc.value, abs=0.002
    )
  for task, message in {
    "zero_shot": "features of recordings only",
    "finetune": "known by its features only",
    "missing_leads": "features of whole records only",
  }.items():
    with pytest.raises(UserError, match=message):
      planted.run(task, data, tmp_path / "a", theirs)


def test_wrong_files_of_features_are_explained(data, foreign_file, tmp_path):
  path, arrays = foreign_file
  np.savez(path, **{k: v[1:] for k, v in arrays.items()})
  theirs = foreign.Foreign(str(path))
  with pytest.raises(UserError, match="lacks 1 of the .* such as '"):
    planted.run("linear_probe", data, tmp_path / "c", theirs)
  twice = np.repeat(arrays["ids"][:1], len(arrays["ids"]))
  for wrong, message in (
    ({"ids": arrays["ids"]}, "lacks the array 'features'; "),
    ({**arrays, "ids": arrays["ids"][1:]}, r"expected \(N,\) and \(N, D\)"),
    ({**arrays, "ids": twice}, "more than once"),
  ):
    np.savez(path, **wrong)
    with pytest.raises(UserError, match=message):
      foreign.Foreign(str(path))
  with pytest.raises(UserError, match="cannot read the features"):
    foreign.Foreign(str(tmp_path / "none.npz"))
