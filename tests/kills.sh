#!/bin/sh
# kills.sh [N] [THREADS] [SEED]: SIGKILL at N random moments of a run, which then must end as the
# unbroken one to the bit. BUILD: the build folder (build/release).
cd "$(dirname "$0")/.." || exit 1
export KILLS="${1:-50}" THREADS="${2:-2}" OMP_WAIT_POLICY=passive
[ -z "$3" ] || export SEED="$3"
exec "${BUILD:-build/release}/tests/experiments/test_kills"
