"""Files and folders: every one has its line, and bad ones stop nothing."""

import csv
import json
import shutil

import numpy as np
import pytest

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.errors import UserError
from cgdmer_jax.inference import folders, predicting
from cgdmer_jax.recordings.tables import Defaults
from tests.recordings import clinic_files


@pytest.fixture(scope="module")
def folder(ecg_mv, tmp_path_factory):
  """The same recording in every format, and files that are damaged."""
  path = tmp_path_factory.mktemp("files")
  ecg = np.rint(ecg_mv[0] * 1e3).astype(int)
  for name, write in clinic_files.WRITERS.items():
    write(path / name.replace(" ", "_"), [*LEADS], ecg, 500)
  lines = [f"{x}.dat 16 1000/mV 16 0 0 0 0 {x}\n" for x in LEADS]
  header = "".join(x.replace(x.split()[0], "wfdb.dat") for x in lines)
  (path / "wfdb.hea").write_text(f"wfdb 12 500 5000\n{header}")
  (path / "wfdb.dat").write_bytes(ecg.T.astype("<i2").tobytes())
  text = "\n".join(",".join(map(str, row)) for row in ecg.T)
  head = f"# sampling_rate=500\n# unit=uV\n{','.join(LEADS)}\n"
  (path / "table.csv").write_text(head + text)
  np.savez(
    path / "a.npz", ecg=ecg / 1e3, leads=LEADS, sampling_rate=500, unit="mV"
  )
  (path / "README.txt").write_text("These are recordings.\nOf one patient.\n")
  cut = (path / "EDF").read_bytes()[:-500]
  (path / "cut.edf").write_bytes(cut)
  return path


def test_every_format_gives_the_embedding_of_its_wfdb_twin(model, folder):
  files = folders.list_files([str(folder)])
  found = {x.record: x for x in folders.run(model, files)}
  twin = found["wfdb"].result
  ok = [name for name, x in found.items() if x.status == "ok"]
  assert len(ok) == len(clinic_files.WRITERS) + 3
  for name in ok:
    shared = found[name].result.shared
    np.testing.assert_allclose(shared, twin.shared, atol=1e-4, err_msg=name)
  assert found["README"].status == "skipped"
  assert found["cut"].status == "failed" and "bytes" in found["cut"].reason


def run(folder, format_, target=None, sentences="", names=None, **defaults):
  return predicting.run(
    names or [str(folder)],
    "simulated",
    sentences,
    format_,
    target,
    Defaults(**defaults),
  )


def test_csv_joins_by_file_name(model, folder, tmp_path, capsys):
  target = tmp_path / "a.csv"
  assert not run(folder, "csv", target, "sinus rhythm; atrial fibrillation")
  with target.open() as file:
    rows = {row["record"]: row for row in csv.DictReader(file)}
  assert len(rows) == len(clinic_files.WRITERS) + 5
  row, result = rows["wfdb"], model.predict(folder / "wfdb")
  found = {(x.label_set, x.code): x for x in result.findings}
  p = found["all", "SR"].probability
  assert float(row["all:SR"]) == pytest.approx(p, rel=1e-4)
  assert -1 < float(row["sinus rhythm"]) < 1
  assert rows["cut"]["all:SR"] == "" and rows["cut"]["status"] == "failed"
  lines = capsys.readouterr().err.splitlines()
  told = [x for x in lines if x.split(":")[0] in ("ok", "failed", "skipped")]
  assert len(told) == len(rows)
  assert lines[-1] == "9 ok, 1 failed, 1 skipped"


def test_json_is_one_document(folder, capsys):
  assert run(folder, "json", names=[str(folder / "wfdb")], sentences="pacing")
  document = json.loads(capsys.readouterr().out)
  assert "not a medical device" in document["notice"]
  calibration = document["model"]["calibration"]
  assert calibration["dataset"] == "synthetic_ecg/quality, validation"
  [record] = document["records"]
  assert record["leads_used"] == [*LEADS] and record["seconds"] == 10
  assert 0 <= record["sentences"][0]["percentile"] <= 1
  assert len(record["evidence"]) == 3


def test_table_names_findings_and_doubts(folder, capsys, tmp_path):
  path = tmp_path / "one.csv"
  rows = "\n".join("\n".join(f"{x}" for x in range(100)) for _ in range(50))
  path.write_text(f"V1 (uV)\n{rows}\n")
  assert run(folder, "table", names=[str(path)], sampling_rate=500.0)
  out = capsys.readouterr().out
  assert "I missing" in out and "leads V1\n" in out
  assert "calibrated on synthetic_ecg/quality" in out and "medical" in out


def test_a_named_file_that_is_no_recording_fails(folder, capsys):
  assert not run(folder, "table", names=[str(folder / "README.txt")])
  out = capsys.readouterr().out
  assert "failed" in out and "calibrated" not in out  # nothing was


def test_any_error_of_a_reader_costs_its_file_only(
  model, folder, tmp_path, monkeypatch
):
  shutil.copy(folder / "table.csv", tmp_path / "a.csv")
  shutil.copy(folder / "a.npz", tmp_path)
  monkeypatch.setattr("cgdmer_jax.recordings.tables.read_numpy", None)
  files = folders.list_files([str(tmp_path)])
  assert [x.status for x in folders.run(model, files)] == ["ok", "failed"]


def test_mistakes_in_the_command(folder, tmp_path):
  for changes, message in (
    ({"format_": "xml"}, "table, json, csv"),
    ({"names": [str(tmp_path)]}, "no file in"),
    ({"unit": "kg"}, "--unit=kg"),
    ({"sentences": " ; "}, "no sentence"),
  ):
    with pytest.raises(UserError, match=message):
      run(folder, **{"format_": "csv"} | changes)
  assert predicting.read_sentences("a; b ;a") == ["a", "b"]
  path = tmp_path / "sentences.txt"
  path.write_text("one; or two\n\nthree\n")
  assert predicting.read_sentences(str(path)) == ["one; or two", "three"]
