#!/usr/bin/env bash
# One run on a TPU slice of Google Cloud: a process on each of its workers.
#
#   launch/tpu_vm.sh [--dry-run] create
#   launch/tpu_vm.sh [--dry-run] setup
#   launch/tpu_vm.sh [--dry-run] run MAIN_ARGUMENTS...
#   launch/tpu_vm.sh [--dry-run] logs | stop | delete
#
# Variables: TPU_NAME, ZONE                 which slice; always
#            PROJECT                        default: that of gcloud
#            ACCELERATOR_TYPE, RUNTIME_VERSION
#                                           for create: v5litepod-16,
#                                           v2-alpha-tpuv5-lite
#            SPOT=1                         for create: may be preempted
#
#            BUCKET                         for setup: mounted at /mnt/bucket
#                                           on every worker, by its gcsfuse
#
# setup copies the last commit to every worker and installs it; repeat it after
# every change. run starts the same command on all workers, in the background,
# and starts it again when a process fails; it then resumes. --workdir and
# --data_dir are gs://BUCKET/FOLDER, or on storage that every worker has mounted,
# such as /mnt/bucket. stop saves before it ends. After a preemption: delete,
# create, setup, run.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
tell "${1:-}"

dry_run=
if [[ ${1:-} == --dry-run ]]; then
  dry_run=1
  shift
fi
action=${1:-}
shift || true

tpu() { # tpu VERB ARGUMENTS...: one call of gcloud for this slice
  need TPU_NAME ZONE
  local verb=$1
  shift
  call gcloud compute tpus tpu-vm "$verb" "$TPU_NAME" "--zone=$ZONE" \
    ${PROJECT:+"--project=$PROJECT"} "$@"
}

everywhere() { tpu ssh --worker=all "--command=$1"; }

case $action in
  create)
    need ACCELERATOR_TYPE RUNTIME_VERSION
    tpu create "--accelerator-type=$ACCELERATOR_TYPE" \
      "--version=$RUNTIME_VERSION" ${SPOT:+--spot}
    ;;
  setup)
    need TPU_NAME ZONE
    archive=$(dirname "$0")/../build/cgdmer_jax.tar.gz
    call mkdir -p "$(dirname "$archive")"
    call git -C "$(dirname "$0")/.." archive --format=tar.gz \
      --output=build/cgdmer_jax.tar.gz HEAD
    call gcloud compute tpus tpu-vm scp "$archive" "$TPU_NAME:" \
      "--zone=$ZONE" ${PROJECT:+"--project=$PROJECT"} --worker=all
    everywhere "mkdir -p cgdmer_jax && tar xzf cgdmer_jax.tar.gz -C cgdmer_jax \
&& cd cgdmer_jax && (command -v python3.11 || (sudo apt-get update -q && \
sudo apt-get install -yq python3.11-venv)) && python3.11 -m venv .venv && \
.venv/bin/pip install -q '.[tpu,gcs]'"
    [[ -z ${BUCKET:-} ]] || everywhere "mountpoint -q /mnt/bucket || \
(sudo mkdir -p /mnt/bucket && sudo chown \$USER /mnt/bucket && \
gcsfuse --implicit-dirs --rename-dir-limit=100000 $BUCKET /mnt/bucket)"
    ;;
  run)
    (($#)) || fail "nothing to run; give --config=... --workdir=gs://..."
    case " $*" in
      *" --workdir=/"* | *" --workdir=gs://"*) ;;
      *) fail "give --workdir=gs://... or /mnt/bucket/..., which all workers share" ;;
    esac
    # 0: complete. 143: stopped. 2: a mistake; trying again does not help.
    again="while true; do .venv/bin/python -m cgdmer_jax.main --multihost \
--stopped_status=143 ${*@Q}; case \$? in 0 | 2 | 143) break ;; esac; \
sleep 10; done"
    everywhere "cd cgdmer_jax && nohup bash -c ${again@Q} \
> run.log 2>&1 < /dev/null &"
    ;;
  logs) tpu ssh --worker=0 "--command=tail -n 50 -f cgdmer_jax/run.log" ;;
  stop) everywhere "pkill -TERM -f '[c]gdmer_jax.main' || true" ;;
  delete) tpu delete --quiet ;;
  *) fail "'$action'; expected create, setup, run, logs, stop or delete" ;;
esac
