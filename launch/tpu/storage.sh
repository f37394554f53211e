# Files in the launch's place: a gs:// URL, or a folder on a file system that every worker mounts. Sourced.

is_bucket() { [[ "$1" == gs://* ]]; }

# storage_put FILE PLACE: writes PLACE whole or not at all.
storage_put() {
  if is_bucket "$2"; then
    gcloud storage cp --quiet "$1" "$2" >/dev/null 2>&1
  else
    mkdir -p "$(dirname "$2")" && cp "$1" "$2.$$.tmp" && mv -f "$2.$$.tmp" "$2"
  fi
}

# storage_write PLACE TEXT
storage_write() {
  local file status=0
  file="$(mktemp)"
  printf '%s\n' "$2" >"$file"
  storage_put "$file" "$1" || status=$?
  rm -f "$file"
  return "$status"
}

storage_get() {
  if is_bucket "$1"; then
    gcloud storage cp --quiet "$1" "$2" >/dev/null 2>&1
  else
    cp "$1" "$2" 2>/dev/null
  fi
}

# storage_read PLACE [OFFSET]: the bytes from OFFSET on; fails where there are none.
storage_read() {
  if is_bucket "$1"; then
    gcloud storage cat --range="${2:-0}-" "$1" 2>/dev/null
  else
    [ -f "$1" ] && tail -c "+$((${2:-0} + 1))" "$1"
  fi
}

# storage_list PLACE: every file below PLACE, a line each, nothing where there is none. Fails when storage does not answer.
storage_list() {
  local errors status=0
  if ! is_bucket "$1"; then
    [ ! -d "$1" ] || find "$1" -type f ! -name '*.tmp' 2>/dev/null || true
    return
  fi
  errors="$(mktemp)"
  gcloud storage ls "$1/**" 2>"$errors" || status=$?
  if [ "$status" -ne 0 ] && grep -q 'matched no objects' "$errors"; then
    status=0
  fi
  rm -f "$errors"
  return "$status"
}

storage_remove() {
  if is_bucket "$1"; then
    gcloud storage rm --quiet "$1" >/dev/null 2>&1
  else
    rm -f "$1"
  fi
}
