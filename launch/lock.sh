#!/usr/bin/env bash
# Resolves requirements.lock anew from setup.py, for every supported Python at once. Needs `uv` on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
uv pip compile --universal --python-version 3.11 --extra dev --extra conditions --no-header --no-annotate --quiet \
  --output-file requirements.lock setup.py
echo "requirements.lock: $(grep -c '==' requirements.lock) packages"
