#!/usr/bin/env bash
# Several processes of one run on this machine, for CPUs.
#
#   launch/local.sh [--dry-run] [-n PROCESSES] MAIN_ARGUMENTS...
#   launch/local.sh -n 2 --config=configs/pretrain.py --workdir=runs/two
#
# Variables: PYTHON, the interpreter (default: python).
#            PORT, where the processes meet (default: a free one).
#            XLA_FLAGS, if it gives each process several fake devices: NPROC is
#            then 16, unless it is set.
#
# Every line of output begins with the number of its process. Ctrl-C or SIGTERM
# stops all of them at the same step, which is saved; the same command resumes,
# with any number of processes. One that fails ends the others.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
tell "${1:-}"

dry_run=
count=2
while (($#)); do
  case $1 in
    --dry-run) dry_run=1 && shift ;;
    -n)
      count=${2:-}
      [[ $count =~ ^[1-9][0-9]*$ ]] || fail "-n $count; give a number above 0"
      shift 2
      ;;
    *) break ;;
  esac
done
(($#)) || fail "nothing to run; give --config=configs/pretrain.py or another"

python=${PYTHON:-python}
command -v "$python" >/dev/null ||
  fail "no program $python; activate the environment, or set PYTHON"
[[ -n $dry_run || -n ${PYTHON:-} ]] || "$python" -c 'import absl' 2>/dev/null ||
  fail "$python lacks the package; . .venv/bin/activate, or set PYTHON"
port=${PORT:-}
if [[ -z $port && -z $dry_run ]]; then
  port=$("$python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
fi

# XLA:CPU has as many threads as NPROC says, else as there are cores. With fewer
# than the collectives of fake devices block, they wait forever; without fake
# devices more threads than cores only take time.
if [[ ${XLA_FLAGS:-} == *host_platform_device_count* ]]; then
  export NPROC=${NPROC:-16}
fi

commands=()
for ((i = 0; i < count; i++)); do
  line=("$python" -m cgdmer_jax.main "$@"
    "--coordinator=localhost:${port:-PORT}"
    "--num_processes=$count" "--process_id=$i")
  if [[ -n $dry_run ]]; then
    show "${line[@]}"
    continue
  fi
  # In the background bash has SIGINT ignored: Ctrl-C reaches this script only.
  "${line[@]}" > >(sed -u "s/^/[$i] /") 2>&1 &
  commands+=($!)
done
[[ -z $dry_run ]] || exit 0

stop() { kill -TERM "${commands[@]}" 2>/dev/null || true; }
trap stop INT TERM

status=0
while ((${#commands[@]})); do
  running=()
  for pid in "${commands[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then
      running+=("$pid")
      continue
    fi
    code=0
    wait "$pid" || code=$?
    if ((code && !status)); then
      status=$code
      stop
    fi
  done
  commands=(${running[@]+"${running[@]}"})
  sleep 0.2 || true
done
exit "$status"
