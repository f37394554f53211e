# install_environment: sets $PYTHON to an interpreter that has everything of requirements.lock, and JAX for TPUs. Sourced by
# worker.sh from the shipped code. CM3LEON_ENVIRONMENT names an environment to use instead of making one.

UV_VERSION=0.13.9

# TPU VM images come with Python 3.10; uv brings 3.11, for which the lock file holds the JAX that the tests ran with.
find_python_311() {
  if [ -n "${CM3LEON_PYTHON:-}" ] || command -v python3.11 >/dev/null; then
    printf '%s\n' "${CM3LEON_PYTHON:-python3.11}"
    return
  fi
  local tools="$CM3LEON_HOME/uv"
  [ -x "$tools/bin/uv" ] || python3 -m pip install --quiet --target "$tools" "uv==$UV_VERSION" >&2 || return
  "$tools/bin/uv" python install --quiet 3.11 >&2 && "$tools/bin/uv" python find 3.11
}

install_environment() {
  local root="$1" stamp version
  if [ -n "${CM3LEON_ENVIRONMENT:-}" ]; then
    PYTHON="$CM3LEON_ENVIRONMENT/bin/python"
    return
  fi
  PYTHON="$root/.venv/bin/python"
  stamp="$root/.venv/installed_tpu"
  [ ! -f "$stamp" ] || return 0
  CM3LEON_PYTHON="$(find_python_311)" || return
  export CM3LEON_PYTHON
  bash "$root/launch/environment.sh" || return
  version="$("$PYTHON" -c 'import importlib.metadata as m; print(m.version("jax"))')" || return
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --constraint "$root/requirements.lock" "jax[tpu]==$version" || return
  touch "$stamp"
}
