"""What the launchers would call, and what they refuse."""

import os
import pathlib
import stat
import string
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
GOLDEN = pathlib.Path(__file__).parent / "golden"
SCRIPTS = ("lib.sh", "local.sh", "tpu_vm.sh", "xpk.sh", "slurm.sbatch")

RUN = "--config=configs/pretrain.py:base", "--config.data.statements=(0,)"
SLICE = {"TPU_NAME": "slice", "ZONE": "europe-west4-b"}
CLUSTER = {"CLUSTER": "ours", "ZONE": "europe-west4-b", "PROJECT": "hearts"}
WORKLOAD = {
  **CLUSTER,
  **{"WORKLOAD": "run1", "TPU_TYPE": "v5litepod-256", "IMAGE": "image:1"},
  "STORAGE": "bucket",
}
NO_STORAGE = {k: v for k, v in WORKLOAD.items() if k != "STORAGE"}
IN_BUCKET = "--workdir=gs://bucket/run"
CREATE = {
  **SLICE,
  **{"ACCELERATOR_TYPE": "v5litepod-16", "SPOT": "1"},
  **{"RUNTIME_VERSION": "v2-alpha-tpuv5-lite", "PROJECT": "hearts"},
}
SHARED = "--workdir=/mnt/bucket/a b"

CALLS = {
  "local": ("local.sh", {}, ("-n", "3", *RUN, "--workdir=runs/a b")),
  "tpu_vm_create": ("tpu_vm.sh", CREATE, ("create",)),
  "tpu_vm_setup": ("tpu_vm.sh", {**SLICE, "BUCKET": "data"}, ("setup",)),
  "tpu_vm_run": ("tpu_vm.sh", SLICE, ("run", *RUN, SHARED)),
  "tpu_vm_logs": ("tpu_vm.sh", SLICE, ("logs",)),
  "tpu_vm_stop": ("tpu_vm.sh", SLICE, ("stop",)),
  "tpu_vm_delete": ("tpu_vm.sh", SLICE, ("delete",)),
  "xpk_run": ("xpk.sh", WORKLOAD, ("run", *RUN, SHARED)),
  "xpk_run_bucket": ("xpk.sh", NO_STORAGE, ("run", *RUN, IN_BUCKET)),
  "tpu_vm_run_bucket": ("tpu_vm.sh", SLICE, ("run", *RUN, IN_BUCKET)),
  "xpk_list": ("xpk.sh", CLUSTER, ("list",)),
  "xpk_logs": ("xpk.sh", {"WORKLOAD": "run1"}, ("logs",)),
  "xpk_delete": ("xpk.sh", WORKLOAD, ("delete",)),
  "slurm": ("slurm.sbatch", {}, (*RUN, SHARED)),
}


def run(script, variables, *arguments, path=None):
  """A launcher in an environment that knows nothing else."""
  known = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG")}
  binaries = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
  known["PATH"] = f"{path}{os.pathsep}{binaries}" if path else binaries
  return subprocess.run(
    ["bash", str(LAUNCH / script), *arguments],
    cwd=ROOT,
    env=known | variables,
    capture_output=True,
    text=True,
    timeout=60,
  )


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell_says_nothing_against_it(script):
  shellcheck = os.path.join(os.path.dirname(sys.executable), "shellcheck")
  for checker in (["bash", "-n"], [shellcheck, "--shell=bash"]):
    done = subprocess.run(
      [*checker, str(LAUNCH / script)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", CALLS)
def test_dry_run(name):
  script, variables, arguments = CALLS[name]
  done = run(script, variables, "--dry-run", *arguments)
  assert done.returncode == 0, done.stderr
  shown = done.stdout.replace(f"{LAUNCH}", "launch")
  assert shown == (GOLDEN / f"{name}.txt").read_text()


def record_calls(folder):
  """Programs that write down how they are called, a line for each argument."""
  for name in ("gcloud", "xpk", "kubectl", "srun", "scontrol", "git"):
    program = folder / name
    program.write_text(
      f'#!/bin/sh\nprintf "%s\\n" {name} "$@" "" >> {folder}/calls\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
  return folder


def calls(folder):
  text = (folder / "calls").read_text()
  return [call.split("\n") for call in text.strip("\n").split("\n\n")]


@pytest.mark.parametrize("name", [n for n in CALLS if n != "local"])
def test_what_is_called_is_what_the_dry_run_shows(name, tmp_path):
  script, variables, arguments = CALLS[name]
  if script == "slurm.sbatch":
    variables = {"SLURM_JOB_ID": "7"}
  shown = run(script, variables, "--dry-run", *arguments).stdout
  done = run(script, variables, *arguments, path=record_calls(tmp_path))
  assert done.returncode == 0, done.stderr
  expected = subprocess.run(
    ["bash", "-c", "\n".join(f"show {line}" for line in commands(shown))],
    env={"BASH_FUNC_show%%": '() { printf "%s\\n" "$@" ""; }'},
    capture_output=True,
    text=True,
  ).stdout
  found = calls(tmp_path)
  if script == "slurm.sbatch":
    assert found.pop() == ["scontrol", "requeue", "7"]
  assert "\n\n".join("\n".join(c) for c in found) == expected.strip("\n")


def commands(shown):
  """The lines of a dry run that call a program we replace."""
  lines = [s for s in shown.splitlines() if not s.startswith("#SBATCH")]
  return [line for line in lines if not line.startswith("mkdir")]


def test_remote_commands_are_valid_and_keep_their_quotes(tmp_path):
  awkward = "--config.data.dataset=it's"
  run(
    *("tpu_vm.sh", SLICE, "run", *RUN, awkward, SHARED),
    path=record_calls(tmp_path),
  )
  (call,) = calls(tmp_path)
  command = call[-1].removeprefix("--command=")
  command = command.replace("nohup bash -c", "echo").replace("> run.log", ";:")
  command = command.replace("cd cgdmer_jax &&", "")
  inner = subprocess.run(
    ["bash", "-c", command.rpartition(";:")[0]], capture_output=True, text=True
  ).stdout
  inner = inner.replace(".venv/bin/python", "printf '%s\\n'")
  inner = inner.replace("sleep 10", "break")
  shown = subprocess.run(["bash", "-c", inner], capture_output=True, text=True)
  assert shown.stdout.splitlines() == [
    *("-m", "cgdmer_jax.main", "--multihost", "--stopped_status=143"),
    *(*RUN, awkward, SHARED),
  ]


MISTAKES = [
  ("local.sh", {}, (), "nothing to run"),
  ("local.sh", {}, ("-n", "0", "--config=x"), "-n 0; give a number above 0"),
  ("local.sh", {"PYTHON": "none"}, ("--config=x",), "no program none"),
  ("tpu_vm.sh", SLICE, ("begin",), "'begin'; expected create, setup"),
  ("tpu_vm.sh", {"ZONE": "z"}, ("logs",), "set TPU_NAME"),
  ("tpu_vm.sh", SLICE, ("create",), "set ACCELERATOR_TYPE"),
  ("tpu_vm.sh", SLICE, ("run",), "nothing to run"),
  ("tpu_vm.sh", SLICE, ("run", "--workdir=runs/x"), "which all workers share"),
  ("xpk.sh", CLUSTER, ("run",), "set WORKLOAD"),
  ("xpk.sh", WORKLOAD, ("run", "--workdir=x"), "where STORAGE is mounted"),
  ("xpk.sh", NO_STORAGE, ("run", "--workdir=/x"), "set STORAGE"),
  ("xpk.sh", {}, ("list",), "set CLUSTER"),
  ("xpk.sh", CLUSTER, (), "''; expected run"),
  ("slurm.sbatch", {}, ("--config=x",), "give --workdir=DIR"),
  ("slurm.sbatch", {}, ("--workdir=gs://b/x",), "gs://b/x: give a folder"),
  ("slurm.sbatch", {"SWEEP": "x"}, (), "submit with sbatch --array"),
]


@pytest.mark.parametrize(("script", "variables", "arguments", "said"), MISTAKES)
def test_mistakes_are_one_line(script, variables, arguments, said, tmp_path):
  done = run(script, variables, *arguments, path=record_calls(tmp_path))
  assert done.returncode == 2
  assert done.stderr.startswith("error: ") and said in done.stderr
  assert done.stderr.count("\n") == 1
  assert not (tmp_path / "calls").exists()


def test_a_slurm_job_is_queued_again_until_it_is_complete(tmp_path):
  workdir = tmp_path / "run"
  workdir.mkdir()
  folder = record_calls(tmp_path)
  array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "8"}
  array["SLURM_ARRAY_TASK_ID"] = "1"
  points = tmp_path / "points"
  points.write_text(
    f"--config=a --workdir=/x\n'--config=b c' --workdir={workdir}"
  )
  array["SWEEP"] = str(points)
  assert run("slurm.sbatch", array, path=folder).returncode == 0
  srun, again = calls(folder)
  assert srun[-2:] == ["--config=b c", f"--workdir={workdir}"]
  assert again == ["scontrol", "requeue", "8_1"]
  (workdir / "complete").touch()
  assert run("slurm.sbatch", array, path=folder).returncode == 0
  assert len(calls(folder)) == 3
  # A run that fails is not queued again.
  (workdir / "complete").unlink()
  (folder / "srun").write_text("#!/bin/sh\nexit 3\n")
  assert run("slurm.sbatch", array, path=folder).returncode == 3
  assert len(calls(folder)) == 3


def test_jobset():
  values = dict.fromkeys(
    ("NAME", "IMAGE", "BUCKET", "TPU", "TOPOLOGY"), "value"
  )
  values |= {"HOSTS": "4", "CHIPS": "8", "ARGUMENTS": "--config='a: b' #c"}
  text = (LAUNCH / "jobset.yaml").read_text()
  document = yaml.safe_load(string.Template(text).substitute(values))
  assert document["kind"] == "JobSet"
  assert document["spec"]["failurePolicy"]["maxRestarts"] > 0
  (job,) = document["spec"]["replicatedJobs"]
  job = job["template"]["spec"]
  assert job["parallelism"] == job["completions"] == 4
  assert job["backoffLimit"] == 0  # the JobSet restarts, all together
  pod = job["template"]["spec"]
  assert pod["terminationGracePeriodSeconds"] >= 120
  (container,) = pod["containers"]
  assert container["args"] == [
    "exec python -m cgdmer_jax.main --multihost \\\n"
    "  --stopped_status=143 --config='a: b' #c\n"
  ]
  assert container["resources"]["limits"]["google.com/tpu"] == 8
  mounts = {m["name"] for m in container["volumeMounts"]}
  assert mounts == {v["name"] for v in pod["volumes"]}


def test_the_image_gets_what_the_package_needs():
  lines = (LAUNCH / "Dockerfile").read_text().splitlines()
  copied = {word for s in lines if s.startswith("COPY") for word in s.split()}
  for needed in ("pyproject.toml", "cgdmer_jax", "configs", "data_builders"):
    assert needed in copied and (ROOT / needed).exists()
  assert "USER user" in lines
