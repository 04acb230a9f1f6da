"""How a build tells which leads it could not use."""

import numpy as np
import pytest
import wfdb

from cgdmer_jax.data.leads import LEADS
from cgdmer_jax.recordings import codec
from tests.data_builders import cinc_corpus, data_sets

RATE = 500
SPEC = codec.SignalSpec(RATE, 10 * RATE)


def gap(start, seconds):
  return slice(int(start * RATE), int((start + seconds) * RATE))


def test_each_reason():
  signal = cinc_corpus.signal(0).T * 1000
  present = np.ones(12, bool)
  present[0] = False
  signal[0] = np.nan
  signal[1, gap(2, 0.3)] = np.nan
  for k in range(11):  # short ones, 11 % in all
    signal[2, gap(0.8 * k, 0.1)] = np.nan
  signal[3] = 7
  signal[4] = np.nan  # a lead without a sample
  signal[5, gap(3, 0.1)] = np.nan  # repaired
  encoded = codec.encode(codec.Recording(signal, present, RATE), SPEC)
  assert encoded.faults == (
    "missing", "long_gap", "many_gaps", "constant", "many_gaps",
  )  # fmt: skip
  assert encoded.lead_valid.tolist() == 5 * [False] + 7 * [True]


def write(folder, name, sig_names, mv):
  wfdb.wrsamp(
    name, RATE, ["mV"] * 12, sig_names, mv, fmt=["16"] * 12,
    adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(folder),
    comments=["Dx: 426783006"],
  )  # fmt: skip


@pytest.mark.parametrize("num_workers", [1, 2])
def test_summary_and_metadata(tmp_path, capsys, monkeypatch, num_workers):
  monkeypatch.setattr("data_builders.records._JOBS_PER_WORKER", 8)
  source = tmp_path / "in"
  source.mkdir()
  for i in range(1, 21):
    mv = cinc_corpus.signal(i)
    names = list(LEADS)
    if i == 1:
      mv[:, 6:8] = 0.5
    elif i <= 4:
      names[7] = "V2 (noisy)"  # not the name of a lead
    write(source, f"JS{i:05}", names, mv)
  cinc_corpus.build_set(source, tmp_path, num_workers=num_workers)
  out = capsys.readouterr().out
  assert "invalid leads 5: missing 3, constant 2\n" in out
  info, members = data_sets.read("csn/100hz", tmp_path)
  assert info.metadata["invalid_leads"] == {"constant": 2, "missing": 3}
  valid = [r["lead_valid"] for r in data_sets.every(members).values()]
  assert np.count_nonzero(~np.array(valid)) == 5


def test_comment_behind_a_name_is_none_of_it(tmp_path):
  source = tmp_path / "in"
  for i in range(1, 21):
    cinc_corpus.write(source, "csn", {i: cinc_corpus.signal(i)})
  header = source / "JS00001.hea"
  header.write_text(header.read_text().replace(" V3\n", " V3 # noisy\n"))
  cinc_corpus.build_set(source, tmp_path)
  _, members = data_sets.read("csn/100hz", tmp_path)
  record = data_sets.every(members)["JS00001"]
  assert record["lead_valid"].all() and record["ecg"][8].any()
