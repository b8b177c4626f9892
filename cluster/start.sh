#!/usr/bin/env bash
# Start Ray on one machine, in place of what ran there before.
#
#   start.sh HEAD_ADDRESS [OPTION ...]    further options are those of `ray start`
#
# What is set here is what drivers and workers of this machine see.
set -euo pipefail
export RAY_AUTH_MODE=token  # ~/.ray/auth_token is the same on every machine
export RAY_JOB_STOP_WAIT_TIME_S=300  # for a stopped sweep to save its trials
export MIXNMATCH_HOME=/shared/runs
export MLFLOW_TRACKING_URI=http://$1:5000
shift
ulimit -n 65536 || true
ray stop
ray start --disable-usage-stats "$@"
