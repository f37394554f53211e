#!/usr/bin/env bash
# Keeps the job going on one worker: starts it, starts it again, and ends when the launch does. Started by startup.sh, from
# the shipped code. The record that the workers share is described in attempts.sh.
set -euo pipefail
HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(cd "$HERE/../.." && pwd)"
# shellcheck source=storage.sh
source "$HERE/storage.sh"
# shellcheck source=attempts.sh
source "$HERE/attempts.sh"
# shellcheck source=install.sh
source "$HERE/install.sh"
# shellcheck source=inputs.sh
source "$HERE/inputs.sh"
# shellcheck disable=SC1091
source "$CM3LEON_HOME/launch.env"

RETRY_SECONDS="${CM3LEON_RETRY_SECONDS:-10}" # between a failure and the next attempt
GRACE_SECONDS="${CM3LEON_GRACE_SECONDS:-240}" # for a checkpoint, when the job is asked to stop
PEER_GRACE_SECONDS="${CM3LEON_PEER_GRACE_SECONDS:-30}" # when another worker's job has ended: no checkpoint can come of it

LEAVING="" # set by SIGTERM: the machine goes
JOB=""

# Which worker this is: GKE says so in the environment, Cloud TPU in the metadata.
attribute() {
  curl --fail --silent --retry 10 --retry-connrefused --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

worker_number() {
  local slice="${CM3LEON_SLICE:-}" place="${TPU_WORKER_ID:-}"
  [ -n "$place" ] || place="$(attribute agent-worker-number)"
  if [ -z "$slice" ]; then
    slice=0
    if [ "$SLICES" -gt 1 ]; then
      slice="$(attribute tpu-env | sed -n "s/^MEGASCALE_SLICE_ID: *'\{0,1\}\([0-9]*\)'\{0,1\}.*/\1/p")"
    fi
  fi
  printf '%d\n' "$((slice * HOSTS + place))"
}

say() { printf '[worker %d] %s %s\n' "$NUMBER" "$(date -u +%H:%M:%S)" "$*" | tee -a "$LOG" >&2; }

# nap SECONDS: a sleep that SIGTERM ends.
nap() {
  sleep "$1" &
  wait "$!" || true
}

leave() {
  LEAVING=1
  [ -z "$JOB" ] || kill -TERM "$JOB" 2>/dev/null || true
}

upload_log() {
  local size
  size="$(stat -c %s "$LOG")"
  if [ "$size" != "$UPLOADED" ] && storage_put "$LOG" "$(printf '%s/logs/%04d/%s.log' "$LAUNCH" "$ATTEMPT" "$WORKER")"; then
    UPLOADED="$size"
  fi
}

# Reads only the marks and this attempt's files, so that it costs the same in a run of any age.
why_to_end() {
  local mark verdict
  mark="$(marked)" || return 0
  if [ -n "$mark" ]; then
    printf '%s\n' "$mark"
    return
  fi
  verdict="$(storage_list "$(attempt_place "$ATTEMPT")" | verdicts | latest_verdict)" || return 0
  case "$verdict" in
    "" | running | finished) ;;
    *) echo "ended" ;;
  esac
}

end_job() {
  local seconds="$1" deadline
  deadline=$((SECONDS + seconds))
  kill -TERM "$JOB" 2>/dev/null || true
  while kill -0 "$JOB" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ]; do
    nap 1
  done
  kill -KILL "$JOB" 2>/dev/null || true
}

start_job() {
  (
    cd "$ROOT"
    export CM3LEON_COORDINATOR="${CM3LEON_COORDINATOR:-auto}"
    export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu,cpu}" # a TPU that does not start is an error, not a slow CPU run
    export CM3LEON_COMPILATION_CACHE="${CM3LEON_COMPILATION_CACHE:-$LAUNCH/compiled}" # a job that comes back starts sooner
    [ -z "$LIBTPU_ARGS" ] || export LIBTPU_INIT_ARGS="$LIBTPU_ARGS"
    exec "$PYTHON" -m cm3leon_jax train "${ARGUMENTS_HERE[@]}"
  ) >>"$LOG" 2>&1 &
  JOB="$!"
}

# Sets STATUS to what the record will say of this worker in this attempt.
run_job() {
  local reason="" looked
  install_environment "$ROOT" >>"$LOG" 2>&1 || { STATUS=1; say "the environment could not be installed"; return; }
  STATUS=0
  bring_inputs >>"$LOG" 2>&1 || STATUS="$?"
  [ "$STATUS" -eq 0 ] || { say "the data could not be copied here"; return; }
  [ -z "$LEAVING" ] || { STATUS=42; return; }
  start_job
  looked="$SECONDS"
  while kill -0 "$JOB" 2>/dev/null; do
    nap 1
    if [ "$((SECONDS - looked))" -ge "$POLL_SECONDS" ] && [ -z "$LEAVING" ]; then
      upload_log
      reason="$(why_to_end)"
      looked="$SECONDS"
      case "$reason" in
        "") ;;
        ended) say "another worker's job has ended"; end_job "$PEER_GRACE_SECONDS" ;;
        *) say "the launch is $reason"; end_job "$GRACE_SECONDS" ;;
      esac
    fi
  done
  STATUS=0
  wait "$JOB" || STATUS="$?"
  JOB=""
  if [ "$STATUS" -ne 0 ] && [ -n "$LEAVING" ]; then # whatever a job says that is told to go at once
    STATUS=42
  elif [ "$STATUS" -ne 0 ] && [ "$STATUS" -ne 42 ] && [ -n "$reason" ]; then
    STATUS=ended
  fi
}

# Sets ATTEMPT: the newest one if no worker's end has closed it, else the one behind it. A worker that finds that it had begun
# the open one has lost its machine meanwhile, and closes it.
choose_attempt() {
  local names record mine
  names="$(storage_list "$LAUNCH/attempts")" || return 1
  record="$(verdicts <<<"$names")"
  ATTEMPT="$(latest_attempt <<<"$record")"
  VERDICT="$(latest_verdict <<<"$record")"
  FAILURES="$(failures_since "$FIRST_ATTEMPT" <<<"$record")"
  if [ "$ATTEMPT" -lt "$FIRST_ATTEMPT" ]; then
    ATTEMPT="$FIRST_ATTEMPT"
    VERDICT=""
    return
  fi
  mine="$(grep "$(printf '/%04d/%s\.' "$ATTEMPT" "$WORKER")" <<<"$names" || true)"
  case "$VERDICT" in
    running | finished)
      [ -n "$mine" ] || return 0
      [[ "$mine" == *.exit-* ]] || record_end lost
      ;;
  esac
  ATTEMPT=$((ATTEMPT + 1))
}

record_end() {
  until storage_write "$(attempt_place "$ATTEMPT")/$WORKER.exit-$1" "$1"; do
    [ -z "$LEAVING" ] || return 0
    nap 5
  done
}

# The launch has ended only when every worker's job has: until then one of them may still call for another attempt.
wait_for_the_others() {
  local record verdict count
  while [ -z "$LEAVING" ] && [ -z "$(marked || true)" ]; do
    record="$(storage_list "$(attempt_place "$ATTEMPT")" | verdicts || true)"
    read -r _ verdict count <<<"$record" || true
    [ "$verdict" = finished ] || return 0
    if [ "$count" -eq "$WORKERS" ]; then
      mark finished "attempt $ATTEMPT finished" || true
      return 0
    fi
    nap "$POLL_SECONDS"
  done
}

# While the launch is marked there is nothing to do.
wait_while_marked() {
  local mark
  mark="$(marked || true)"
  [ -n "$mark" ] || return 0
  if [ -n "${CM3LEON_POD:-}" ]; then # the exit status tells the cluster that it is over
    case "$mark" in finished) exit 0 ;; failed) exit 2 ;; esac
  fi
  say "the launch is $mark; waiting"
  while [ -z "$LEAVING" ]; do
    nap "$POLL_SECONDS"
    mark="$(marked)" || continue
    [ -n "$mark" ] || return 0
  done
}

# A launch that was given anew has other settings, and perhaps other code.
take_up_changes() {
  local newest="$CM3LEON_HOME/newest.env"
  storage_get "$LAUNCH/launch.env" "$newest" || return 0
  cmp --silent "$newest" "$CM3LEON_HOME/launch.env" || exec bash "$CM3LEON_HOME/startup.sh"
}

one_attempt() {
  take_up_changes
  until choose_attempt; do
    nap 5
  done
  if [ "$VERDICT" = input ]; then
    mark failed "status 2: bad input; the log of attempt $((ATTEMPT - 1)) says what to change" || true
    return
  elif [ "$FAILURES" -gt "$MAX_FAILURES" ]; then
    mark failed "status 1: $FAILURES failures, $MAX_FAILURES allowed (--max_failures); the logs say what happened" || true
    return
  fi
  LOG="$CM3LEON_HOME/log"
  UPLOADED=""
  : >"$LOG"
  storage_write "$(attempt_place "$ATTEMPT")/$WORKER.started" "$(date -u +%FT%TZ)" || { nap 5; return; }
  say "attempt $ATTEMPT of commit $COMMIT, $FAILURES failures so far"
  run_job
  say "attempt $ATTEMPT ended here with status $STATUS"
  upload_log || true
  record_end "$STATUS"
  [ -z "$LEAVING" ] || return 0
  case "$STATUS" in
    0) wait_for_the_others ;;
    42 | ended | 2) ;;
    *) nap "$RETRY_SECONDS" ;;
  esac
}

LOG="$CM3LEON_HOME/log"
ATTEMPT=0
NUMBER="$(worker_number)"
WORKER="$(printf 'worker-%03d' "$NUMBER")"
trap leave TERM INT
while [ -z "$LEAVING" ]; do
  wait_while_marked
  [ -n "$LEAVING" ] || one_attempt
done
say "leaving: the machine is going"
exit 42
