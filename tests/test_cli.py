"""The console script, presets by name, help, lists, and the log file."""

import json
import logging
import pathlib
import shutil
import subprocess
import sys
import tomllib

import pytest

from cgdmer_jax import cli, command, disk, listing, log_file
from cgdmer_jax.config import configurations, fields
from cgdmer_jax.errors import UserError
from cgdmer_jax.evaluators import tasks

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments, cwd):
  done = subprocess.run(
    [sys.executable, "-m", "cgdmer_jax", *arguments],
    cwd=cwd,
    env={"PYTHONPATH": str(ROOT), "GLIBC_TUNABLES": ""},
    capture_output=True,
    text=True,
    check=False,
  )
  return done.returncode, done.stdout + done.stderr


def test_the_script_is_declared():
  text = (ROOT / "pyproject.toml").read_text("utf-8")
  scripts = tomllib.loads(text)["project"]["scripts"]
  assert scripts == {"cgdmer": f"{cli.__name__}:{cli.main.__name__}"}


def test_every_command_exists():
  for module, config, _ in cli.COMMANDS.values():
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()
    assert not config or config in configurations.names()


def test_help_names_tasks_configurations_and_fields(tmp_path):
  status, text = run("pretrain", "--help", cwd=tmp_path)
  assert status == 0 and "Traceback" not in text
  assert text.index("--workdir") < text.index("--multihost")
  words = set(text.replace(",", " ").split())
  assert words >= {*tasks.TASKS, *configurations.names()}
  assert words >= {"lead_ratio", "warmup_ratio", *fields.pretraining().optim}


def test_a_configuration_by_name_from_any_folder(tmp_path):
  status, text = run(
    "pretrain", "--config=pretrain:base", "--print_config", cwd=tmp_path
  )
  assert status == 0, text
  assert json.loads(text)["model"]["ecg"]["width"] == 768
  status, text = run("evaluate", "--config.optim=1", cwd=tmp_path)
  assert status == 2 and text.count("\n") == 1
  assert text.startswith("error: the configuration has no field 'optim'")
  assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
  ("words", "expected"),
  [
    (["--config=pretrain"], ["--config={}/pretrain.py"]),
    (["--config=zero_shot:a,b=c"], ["--config={}/zero_shot.py:a,b=c"]),
    (["--config", "bench"], ["--config", "{}/bench.py"]),
    (["--config=configs/bench.py:x"], ["--config=configs/bench.py:x"]),
    (["--config=nothing"], ["--config=nothing"]),
    (["--workdir", "bench"], ["--workdir", "bench"]),
  ],
)
def test_names_become_paths(words, expected):
  expected = [word.format(configurations.FOLDER) for word in expected]
  assert configurations.by_path(words) == expected


def test_an_unknown_command(monkeypatch, capsys):
  monkeypatch.setattr(sys, "argv", ["cgdmer", "train"])
  with pytest.raises(SystemExit) as stop:
    cli.main()
  assert stop.value.code == 2
  assert "unknown command 'train'; expected pretrain" in capsys.readouterr().err


@pytest.mark.parametrize(
  ("error", "message"),
  [
    (KeyError("'lrx'\\nDid you mean \"lr\"?"), "no field 'lrx'; did you mean"),
    (ValueError("flag: \nValueError: recipe='x'"), "error: recipe='x'; see"),
  ],
)
def test_errors_of_libraries_become_one_clean_line(error, message, capsys):
  with pytest.raises(SystemExit):
    command.stop_parsing(error)
  text = capsys.readouterr().err
  assert message in text and text.count("\n") == 1 and "\\" not in text


def test_the_log_waits_for_the_folder(tmp_path):
  workdir = tmp_path / "run"
  handler = log_file.keep(workdir, lambda record: record.name != "other")
  try:
    logging.getLogger("ours").warning("first")
    assert not workdir.exists()
    workdir.mkdir()
    logging.getLogger("other").warning("not shown")
    logging.getLogger("ours").warning("second")
  finally:
    logging.getLogger().removeHandler(handler)
  lines = (workdir / log_file.FILE_NAME).read_text().splitlines()
  assert [line.split()[-1] for line in lines] == ["first", "second"]


def test_room_is_asked_for(tmp_path):
  disk.check_free(tmp_path / "a/b", 1000, "the records")
  free = shutil.disk_usage(tmp_path).free
  with pytest.raises(UserError, match="the records need .* GB and .* GB left"):
    disk.check_free(tmp_path / "a/b", 2 * free, "the records")


def test_runs_are_listed_with_state_and_best_numbers(tmp_path):
  config = {"recipe": "clip", "data": {"dataset": "d/100hz"}}
  config["train"] = {"steps": 9}
  row = {"metric": "AUROC", "label": "macro", "dataset": "d/100hz"}
  row |= {"label_set": "form", "setting": "probe_1"}
  rows = [
    row | {"value": 0.7, "encoder": "random"},
    row | {"value": 0.8, "encoder": "clip"},
  ]
  for name in ("a", "b"):
    (tmp_path / name / "checkpoints/7").mkdir(parents=True)
    (tmp_path / name / "config.json").write_text(json.dumps(config))
  (tmp_path / "a/complete").touch()
  (tmp_path / "a/results").mkdir()
  (tmp_path / "a/results/comparison.json").write_text(
    json.dumps({"rows": rows})
  )
  (tmp_path / "other").mkdir()
  lines = [*listing.runs(f"{tmp_path}/*")]
  assert [line.split("  ")[-1].strip() for line in lines] == [
    "complete, clip on d/100hz",
    "d/100hz form, probe 1: 0.800 (clip)",
    "step 7 of 9, clip on d/100hz",
  ]
  table = listing.score_table([tmp_path / "a", tmp_path / "b"])
  assert table.row_count == 2 and len(table.columns) == 2
  assert listing.score_table([tmp_path / "b"]) is None
