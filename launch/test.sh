#!/usr/bin/env bash
# Runs the tests; arguments go to pytest (for example: bash launch/test.sh tests/model -k cache).
set -euo pipefail
source "$(dirname "$0")/environment.sh"
cd "$ROOT"
# Where launch/references.sh puts the packages that must not be found by others.
if [ -d .venv/references ]; then
  export CM3LEON_REFERENCES="${CM3LEON_REFERENCES:-$ROOT/.venv/references}"
fi
exec "$PYTHON" -m pytest "$@"
