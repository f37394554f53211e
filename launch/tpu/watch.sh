# Watches a launch until it ends: creates the slice, creates it again when it is gone, follows worker 0's log. Sourced.

WATCH_SECONDS="${CM3LEON_POLL_SECONDS:-20}"

# The worker's log, from where it was last read: of every attempt after the first one seen, which is the newest (0: none yet).
LOG_ATTEMPT=0
LOG_OFFSET=0
follow_log() {
  local worker="$1" newest part place
  newest="$(storage_list "$LAUNCH/logs" | sed -n "s|.*/logs/0*\([0-9][0-9]*\)/worker-$worker\.log\$|\1|p" | sort -n | tail -n 1)" || return 0
  [ -n "$newest" ] || return 0
  part="$(mktemp)"
  while true; do
    if [ "$LOG_ATTEMPT" -gt 0 ]; then
      place="$(printf '%s/logs/%04d/worker-%s.log' "$LAUNCH" "$LOG_ATTEMPT" "$worker")"
      storage_read "$place" "$LOG_OFFSET" >"$part" || true
      cat "$part"
      LOG_OFFSET=$((LOG_OFFSET + $(stat -c %s "$part")))
    fi
    [ "$LOG_ATTEMPT" -lt "$newest" ] || break
    LOG_ATTEMPT=$((LOG_ATTEMPT > 0 ? LOG_ATTEMPT + 1 : newest))
    LOG_OFFSET=0
  done
  rm -f "$part"
}

record() { storage_list "$LAUNCH/attempts" | verdicts; }

# note_failed_slice: a request that Google Cloud could not fulfil counts like a job that failed.
note_failed_slice() {
  local all attempt failures
  all="$(record)" || return 0
  attempt=$(($(latest_attempt <<<"$all") + 1))
  [ "$attempt" -ge "$FIRST_ATTEMPT" ] || attempt="$FIRST_ATTEMPT"
  storage_write "$(attempt_place "$attempt")/slice.exit-1" "$1" || return 0
  failures="$(record | failures_since "$FIRST_ATTEMPT")"
  note "$1 (failure $failures, $MAX_FAILURES allowed)"
  [ "$failures" -le "$MAX_FAILURES" ] || mark failed "status 1: $failures failures, $MAX_FAILURES allowed (--max_failures); last: $1"
}

# ensure_slice: creates it, unless the launch was marked meanwhile: who deletes a slice marks the launch first.
ensure_slice() {
  [ -z "$(marked || true)" ] || return 0
  create_slice || note_failed_slice "the slice could not be created"
}

recreate() {
  note "$1; creating it again"
  delete_slice || true
  ensure_slice
}

end_watch() {
  local mark="$1" reason status
  follow_log 000
  reason="$(storage_read "$LAUNCH/state/$mark" || true)"
  note "$NAME is $mark: $reason"
  case "$mark" in
    finished) status=0 ;;
    stopped) return 42 ;; # the slice stays, for going on
    *) status="$(sed -n 's/^status \([0-9]*\).*/\1/p' <<<"$reason")" ;;
  esac
  if [ -z "$KEEP" ] && [ "$(slice_state || true)" != NONE ]; then
    delete_slice || note "the slice could not be deleted and costs money: launch/tpu_run.sh $NAME delete"
  fi
  return "${status:-1}"
}

watch_once() {
  local state
  state="$(slice_state)" || return 0
  if [ "$state" != "$SEEN" ]; then
    note "slice $NAME: $state"
    SEEN="$state"
  fi
  case "$state" in
    NONE) ensure_slice ;;
    SUSPENDED) recreate "the slice was preempted" ;;
    FAILED)
      note_failed_slice "the slice failed"
      recreate "the slice failed"
      ;;
    ACTIVE) ! node_gone || recreate "the slice was preempted" ;;
  esac
}

watch() {
  local mark
  SEEN=""
  trap 'note "no longer watching; $NAME goes on, but is not created again when preempted. Watch it: launch/tpu_run.sh $NAME"; exit 130' INT TERM
  while true; do
    mark="$(marked || true)"
    if [ -n "$mark" ]; then
      end_watch "$mark"
      return
    fi
    watch_once
    follow_log 000
    sleep "$WATCH_SECONDS" &
    wait "$!"
  done
}

# What --dry-run says of the watch: the commands of one round, and those that answer a preemption.
watch_dry() {
  local node
  echo "# every $WATCH_SECONDS seconds:"
  slice_state
  for node in $(slice_nodes); do
    tpu tpu-vm describe "$node" --format='value(state)'
  done
  list_command "$LAUNCH/state"
  list_command "$LAUNCH/logs"
  read_command "$LAUNCH/logs/0001/worker-000.log"
  echo "# when it was preempted (state SUSPENDED) or failed (at most $MAX_FAILURES times):"
  delete_slice
  create_slice
  if [ -z "$KEEP" ]; then
    echo "# at the end:"
    delete_slice
  fi
}
