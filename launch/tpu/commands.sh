# How the launcher runs what it runs: for real, or printed by --dry-run. Sourced.

DRY_RUN=""

fail() {
  echo "${PROGRAM:-tpu_run}: $*" >&2
  exit 2
}

note() { echo "${PROGRAM:-tpu_run}: $*" >&2; }

# run COMMAND…: what changes something.
run() {
  if [ -n "$DRY_RUN" ]; then
    printf '%q ' "$@" | sed 's/ $/\n/'
  else
    "$@"
  fi
}

# put FILE PLACE: storage_put, as `run` would do it.
put() {
  if [ -z "$DRY_RUN" ]; then
    storage_put "$1" "$2" || fail "cannot write $2; check --bucket and that you may write there"
  elif is_bucket "$2"; then
    run gcloud storage cp --quiet "$1" "$2"
  else
    run mkdir -p "$(dirname "$2")"
    run cp "$1" "$2"
  fi
}

# What storage_list and storage_read run; for --dry-run.
list_command() { if is_bucket "$1"; then run gcloud storage ls "$1/**"; else run find "$1" -type f; fi; }
read_command() { if is_bucket "$1"; then run gcloud storage cat --range=0- "$1"; else run tail -c +1 "$1"; fi; }
