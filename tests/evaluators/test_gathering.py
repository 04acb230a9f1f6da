"""Tables add up over calls, and show what can be compared only."""

import dataclasses

import pytest

from cgdmer_jax.evaluators import tasks
from cgdmer_jax.evaluators.scores import gathering, results, summary
from tests.evaluators import made

ORDER = tuple(tasks.TASKS)


def result(name="a", path="/runs/a", fingerprint="f", step=9, **changes):
  """A result with few resamples, of an encoder in a place."""
  protocol = changes.pop("protocol", "p")
  one = made.make_result(name, **changes)
  encoder = results.Identity(
    name, fingerprint, 0, f"{path}/checkpoints/{step}", step, path
  )
  key = results.make_key(one.task, one.label_set, protocol, fingerprint)
  return dataclasses.replace(one, encoder=encoder, key=key, protocol=protocol)


def shown(every):
  return [(r.task, r.label_set, r.encoder.name) for r in every]


def write(workdir, *every):
  for one in every:
    results.write(workdir, one)


def test_calls_add_up(tmp_path):
  first = result(task="zero_shot", label_set="form")
  write(tmp_path, first)
  second = result(task="linear_probe", label_set="form")
  write(tmp_path, second)
  every = gathering.gather(tmp_path, [second], ORDER)
  assert shown(every) == [
    ("zero_shot", "form", "a"),
    ("linear_probe", "form", "a"),
  ]
  summary.write(tmp_path, every, (), tasks.TASKS, 20)
  table = (tmp_path / "results/tables.md").read_text()
  assert "| encoder | zero-shot | probe 1 % | probe 100 % |" in table
  # Another encoder adds a row; what the first call drew is drawn again.
  third = result("b", "/runs/b", "g", task="zero_shot", label_set="form")
  write(tmp_path, third)
  every = gathering.gather(tmp_path, [third], ORDER)
  assert {r.encoder.name for r in every} == {"a", "b"} and len(every) == 3


def test_encoders_of_one_name_are_told_apart(tmp_path):
  write(tmp_path, result("clip", "/runs/x", "f"))
  now = result("clip", "/runs/y", "g")
  write(tmp_path, now)
  every = gathering.gather(tmp_path, [now], ORDER)
  assert [r.encoder.name for r in every] == ["clip (y)", "clip (x)"]
  # The same weights in another place are the same encoder.
  moved = dataclasses.replace(
    now, encoder=dataclasses.replace(now.encoder, path="/elsewhere/y")
  )
  every = gathering.gather(tmp_path, [moved], ORDER)
  assert len(every) == 2


def test_a_run_that_was_trained_longer_replaces_itself(tmp_path):
  write(tmp_path, result(), result(task="zero_shot"))
  longer = result(fingerprint="g", step=20)
  write(tmp_path, longer)
  folder = results.path_of(
    tmp_path, "linear_probe", longer.dataset, "form", "", ""
  )
  assert len([*folder.parent.glob("*.json")]) == 1
  assert len([*folder.parent.glob("*.npz")]) == 1
  # What was not done again is of another encoder now.
  every = gathering.gather(tmp_path, [longer], ORDER)
  assert [r.key for r in every] == [longer.key]
  every = gathering.gather(tmp_path, [], ORDER)
  assert [r.key for r in every] == [longer.key]


def test_results_of_other_options_are_left_out(tmp_path):
  write(tmp_path, result("a"), result("b", "/runs/b", "g"))
  now = result("c", "/runs/c", "h", protocol="q")
  write(tmp_path, now)
  assert shown(gathering.gather(tmp_path, [now], ORDER)) == [
    ("linear_probe", "form", "c")
  ]
  every = gathering.gather(tmp_path, [result("a")], ORDER)
  assert [r.encoder.name for r in every] == ["a", "b"]


def test_what_cannot_be_read_is_left_out(tmp_path):
  one = result()
  write(tmp_path, one)
  path = results.write(tmp_path, result("b", "/runs/b", "g"))
  path.write_text("{}")
  assert len(gathering.gather(tmp_path, [one], ORDER)) == 1
  assert gathering.gather(tmp_path, [one], ("zero_shot",)) == []


def test_reasons_of_earlier_calls_stay(tmp_path):
  every = [result()]
  where = "ptb_xl/100hz", "form", "no report encoder"
  summary.write(
    *(tmp_path, every, [summary.NotDone("a", "zero_shot", *where)]),
    *(tasks.TASKS, 20),
  )
  summary.write(tmp_path, every, (), tasks.TASKS, 20)
  assert "no report encoder" in (tmp_path / "results/tables.md").read_text()
  every.append(result(task="zero_shot"))
  summary.write(tmp_path, every, (), tasks.TASKS, 20)
  assert "Not done" not in (tmp_path / "results/tables.md").read_text()


@pytest.mark.parametrize("count", [1, 3])
def test_seeds_of_one_group_share_a_name(count):
  identities = [
    results.Identity("clip", f"f{i}", i, path=f"/runs/clip-{i}", group="g")
    for i in range(count)
  ] + [results.Identity("clip", "h", 0, path="/runs/wide", group="w")]
  names = gathering.names_apart(identities)
  first = "clip (clip)" if count > 1 else "clip (clip-0)"
  assert list(names.values()) == [first] * count + ["clip (wide)"]
