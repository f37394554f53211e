#!/usr/bin/env bash
# Makes .venv with the exact versions of requirements.lock; sourced by the other launchers. A second call costs nothing.
# Afterwards $PYTHON is the environment's interpreter.
set -euo pipefail
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
PYTHON="$ROOT/.venv/bin/python"

find_python() {
  local candidate
  for candidate in "${CM3LEON_PYTHON:-}" python3.11 python3.12 python3 python3.13; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  echo "cm3leon: needs Python 3.11, 3.12 or 3.13 on the PATH (or named by CM3LEON_PYTHON)" >&2
  return 2
}

make_environment() {
  local stamp="$ROOT/.venv/installed.sha256" wanted python
  wanted="$(cat "$ROOT/requirements.lock" "$ROOT/setup.py" | sha256sum | cut -d' ' -f1)"
  if [ -x "$PYTHON" ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$wanted" ]; then
    return
  fi
  python="$(find_python)"
  echo "Installing into .venv (a few minutes, once) …"
  if ! "$python" -m venv "$ROOT/.venv"; then
    echo "cm3leon: $python cannot make environments; install its venv module (Debian: apt install python3-venv)" >&2
    return 2
  fi
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps -r "$ROOT/requirements.lock"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable "$ROOT"
  echo "$wanted" >"$stamp"
}

make_environment
