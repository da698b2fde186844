#!/usr/bin/env bash
# Divide the features of a zoo among jobs of a Slurm array, of one process each; more may be added while they run.
#
#   [GPUS=1 CPUS_PER_TASK=5 SBATCH_ARGS=''] tools/slurm_array.sh PARTITION JOB_NAME JOBS CONFIG [options of tools/train.py]
set -euo pipefail
if [ $# -lt 4 ]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
partition=$1 job=$2 jobs=$3 config=$4
shift 4
printf -v command ' %q' python -u "$(dirname "$0")/dery/extract_features.py" "$config" "$@"
# SBATCH_ARGS is several words on purpose.
# shellcheck disable=SC2086
exec sbatch -p "$partition" --job-name="$job" --array="0-$((jobs - 1))" --gres="gpu:${GPUS:-1}" --ntasks=1 \
  --cpus-per-task="${CPUS_PER_TASK:-5}" ${SBATCH_ARGS:-} --wrap "exec${command}"
