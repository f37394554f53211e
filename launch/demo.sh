#!/usr/bin/env bash
# The complete recipe on the embedded data. Ends with runs/demo/report.html. Started again, it continues.
# --quick: everything smaller, in a few minutes, into runs/demo_quick.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$ROOT"
settings=runs/demo.gin arguments=()
for argument in "$@"; do
  if [ "$argument" = --quick ]; then settings=runs/demo_quick.gin; else arguments+=("$argument"); fi
done
exec "$PYTHON" -m cm3leon_jax demo --gin_file "$settings" "${arguments[@]}"
