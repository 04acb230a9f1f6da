"""The list of records that cannot be used."""

import json

import pytest

from data_builders import rejects


def test_long_details_are_cut(tmp_path):
  found = rejects.Rejects(1.0)
  found.add("a", "unreadable", "x" * 10**6)
  found.leave_out("b", "short_report", "y" * rejects.MAX_DETAIL)
  found.write(tmp_path / "list")
  lines = (tmp_path / "list").read_text("utf-8").splitlines()
  details = [json.loads(line)["detail"] for line in lines]
  assert details == [
    "x" * (rejects.MAX_DETAIL - 3) + "...",
    "y" * rejects.MAX_DETAIL,
  ]


def test_details_that_are_no_text(tmp_path):
  found = rejects.Rejects(1.0)
  found.add("a", "unreadable", "folder\udce9/a.hea")  # a path in Latin-1
  found.write(tmp_path / "list")
  line = (tmp_path / "list").read_text("utf-8")
  assert json.loads(line)["detail"] == "folder\udce9/a.hea"


def test_left_out_records_do_not_count_against_the_limit():
  found = rejects.Rejects(0.1)
  found.total = 10
  for i in range(5):
    found.leave_out(str(i), "short_report", "")
  found.add("5", "corrupt", "")
  found.check()
  assert found.summary() == "corrupt 1"
  assert found.left_out_summary() == "short_report 5"
  found.add("6", "corrupt", "")
  with pytest.raises(rejects.TooManyRejected, match="^2 of"):
    found.check()
