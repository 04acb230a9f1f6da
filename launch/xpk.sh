#!/usr/bin/env bash
# One run on TPU slices of a GKE cluster, through xpk.
#
#   launch/xpk.sh [--dry-run] run MAIN_ARGUMENTS...
#   launch/xpk.sh [--dry-run] list | logs | delete
#
# Variables: CLUSTER, ZONE, PROJECT   of the cluster; always
#            WORKLOAD                 name of the run; for run, logs, delete
#            TPU_TYPE, IMAGE          for run: v5litepod-256, and an image built
#                                     from launch/Dockerfile with EXTRA=tpu,gcs
#            SLICES                   for run; default 1
#            MAX_RESTARTS             for run; default 100
#            STORAGE                  for run, without gs://: name under which a
#                                     bucket or a Filestore is attached (xpk
#                                     storage attach)
#
# When a pod is lost, or ends with a status other than 0 and 2 (a user's
# mistake), GKE starts all pods again, and they resume. --workdir and --data_dir
# are gs://BUCKET/FOLDER, or below the place where STORAGE is mounted in all pods.
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

xpk_workload() { # xpk_workload VERB ARGUMENTS...
  need CLUSTER ZONE PROJECT
  call xpk workload "$@" \
    "--cluster=$CLUSTER" "--zone=$ZONE" "--project=$PROJECT"
}

case $action in
  run)
    need WORKLOAD TPU_TYPE IMAGE
    case " $*" in
      *" --workdir=gs://"*) ;;
      *" --workdir=/"*) need STORAGE ;;
      *) fail "give --workdir=gs://..., or /... where STORAGE is mounted in all pods" ;;
    esac
    xpk_workload create "--workload=$WORKLOAD" "--tpu-type=$TPU_TYPE" \
      "--docker-image=$IMAGE" "--num-slices=${SLICES:-1}" \
      "--max-restarts=${MAX_RESTARTS:-100}" ${STORAGE:+"--storage=$STORAGE"} \
      "--command=python -m cgdmer_jax.main --multihost --stopped_status=143 ${*@Q}" \
      --restart-on-exit-codes=1
    ;;
  list) xpk_workload list ;;
  logs)
    need WORKLOAD
    call kubectl logs "--selector=jobset.sigs.k8s.io/jobset-name=$WORKLOAD" \
      --follow --tail=50 --prefix
    ;;
  delete)
    need WORKLOAD
    xpk_workload delete "--workload=$WORKLOAD"
    ;;
  *) fail "'$action'; expected run, list, logs or delete" ;;
esac
