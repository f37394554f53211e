#!/usr/bin/env bash
# The complete recipe on the embedded data. Ends with runs/demo/report.html. Started again, it continues.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$ROOT"
exec "$PYTHON" -m cm3leon_jax demo --gin_file runs/demo.gin "$@"
