#!/bin/sh
# What Snakemake calls: job.sh submit CORES MB MINUTES GPUS SCRIPT | job.sh status JOB | job.sh cancel JOB...
set -eu

# ---- your cluster ----
IMAGE=python:3.11                 # with Python at the place that .venv was made from
CLAIM=kc                          # a PersistentVolumeClaim with accessModes: [ReadWriteMany]
MOUNT=/kc                         # where it is mounted: this folder lies below
GPU=nvidia.com/gpu                # what GPUs are called
# ----------------------

action=$1
shift
case "$action" in
status)
  case "$(kubectl get job "$1" --output jsonpath='{.status.succeeded}/{.status.failed}')" in
  1/*) echo success ;;
  /[1-9]*) echo failed ;;         # killed for memory or time, too
  *) echo running ;;
  esac ;;
cancel)
  kubectl delete job --wait=false "$@" ;;
submit)
  variables=$(env | sed -n 's/^\(KC_[A-Z_]*\)=\(.*\)$/{name: \1, value: "\2"}, /p' | tr -d '\n')
  kubectl create --output jsonpath='{.metadata.name}' --filename - << END ;;
apiVersion: batch/v1
kind: Job
metadata: {generateName: kc-}
spec:
  backoffLimit: 0                 # Snakemake tries again, with more
  ttlSecondsAfterFinished: 86400
  template:
    spec:
      restartPolicy: Never
      activeDeadlineSeconds: $(($3 * 60))
      containers:
        - name: job
          image: $IMAGE
          command: [sh, "$5"]
          workingDir: "$PWD"
          env: [$variables]
          resources:
            requests: {cpu: $1, memory: ${2}M, $GPU: $4}
            limits: {memory: ${2}M, $GPU: $4}
          volumeMounts: [{name: results, mountPath: $MOUNT}]
      volumes: [{name: results, persistentVolumeClaim: {claimName: $CLAIM}}]
END
esac
