#!/usr/bin/env bash
# A run on a Slurm cluster, one process a GPU (docs/cloud_tpu.md). In the clone, on a file system that all nodes share:
#
#   sbatch --nodes=2 docs/cloud/slurm.sh .venv/bin/python -m p10k_jax.train ... --multihost=auto --workdir=W
#
# Every process must see all GPUs of its node, for JAX takes the one with the number of the process there: --gres, and no
# --gpus-per-task.
#
#SBATCH --job-name=p10k_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail
[ $# -gt 0 ] || { echo "slurm.sh: run what? sbatch docs/cloud/slurm.sh .venv/bin/python -m p10k_jax.train ..." >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || { echo "slurm.sh: start it with sbatch" >&2; exit 2; }

code=0
srun --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" --kill-on-bad-exit=0 "$@" || code=$?

# 75: stopped before the time was up, and saved, or a process did not come. A job that was cancelled is no longer RUNNING.
restarts=${SLURM_RESTART_COUNT:-0} most=${MOST_RESTARTS:-50}
if [ "$code" = 75 ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
  if [ "$restarts" -lt "$most" ]; then
    scontrol requeue "$SLURM_JOB_ID"
  else
    echo "slurm.sh: started again $restarts times, no more (MOST_RESTARTS=$most)" >&2
  fi
fi
exit "$code"
