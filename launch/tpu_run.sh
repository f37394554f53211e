#!/usr/bin/env bash
# Launches a training run on TPU slices and keeps it running until it is finished. docs/launch.md has the recipes.
set -euo pipefail
PROGRAM=tpu_run
CHECKOUT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
STATE="$CHECKOUT/runs/launch" # what this checkout knows of its launches
for part in commands tables storage attempts arguments ship slice watch; do
  # shellcheck disable=SC1090
  source "$CHECKOUT/launch/tpu/$part.sh"
done

usage() {
  cat <<'TEXT'
launch/tpu_run.sh NAME --type v5p-256 --zone us-east5-a --config "models/7b hardware/v5p_256 runs/pretrain" \
    --bucket gs://BUCKET [options] [-- options of cm3leon train]
launch/tpu_run.sh NAME            watch it again; after `stop` or a failure: go on, with the commit that is checked out now
launch/tpu_run.sh NAME status
launch/tpu_run.sh NAME logs [WORKER]
launch/tpu_run.sh NAME stop       end the job with a checkpoint; the slice stays
launch/tpu_run.sh NAME delete     delete the slice; checkpoints, metrics and logs stay in the bucket
launch/tpu_run.sh NAME simulate-preemption

  --spot | --reserved    the kind of capacity (else on demand)
  --slices N             N slices, joined over the data-centre network
  --max_failures N       failures (not preemptions) after which it stops (10)
  --project PROJECT      else gcloud's own setting
  --create_flags FLAGS   more flags for `gcloud compute tpus queued-resources create`, such as "--network=… --service-account=…"
  --keep                 keep the slice at the end
  --detach               watch in the background; output in runs/launch/NAME.log
  --allow_dirty          launch although the checkout has changes, which are not shipped
  --dry-run              print every command, run none
TEXT
  exit 0
}

more_option() { return 1; }

# The settings of an earlier launch: from this checkout, else from the bucket that is given.
load_settings() {
  local file="$STATE/$NAME.env"
  if [ ! -f "$file" ] && [ -z "$DRY_RUN" ] && [ -n "$BUCKET" ]; then
    check_bucket
    mkdir -p "$STATE"
    storage_get "$LAUNCH/launch.env" "$file" || rm -f "$file"
  fi
  [ -f "$file" ] || return 0
  # shellcheck disable=SC1090
  source "$file"
  KNOWN=1
  [ -f "$STATE/$NAME.startup.sh" ] || git -C "$CHECKOUT" show "$COMMIT:launch/tpu/startup.sh" >"$STATE/$NAME.startup.sh" 2>/dev/null ||
    cp "$CHECKOUT/launch/tpu/startup.sh" "$STATE/$NAME.startup.sh"
}

# take_lock SECONDS: of those who watch a launch and create its slice from this checkout, there is one at a time.
take_lock() {
  mkdir -p "$STATE"
  exec 9>"$STATE/$NAME.lock"
  flock --timeout "$1" 9
}

# wait_until_stopped: the jobs of a launch that was just marked are still writing their checkpoint. Not for ever: the slice may
# have gone meanwhile.
wait_until_stopped() {
  local names deadline=$((SECONDS + 600))
  while [ "$SECONDS" -lt "$deadline" ] && [ "$(slice_state || true)" = ACTIVE ]; do
    names="$(storage_list "$(attempt_place "$(record | latest_attempt)")")" || continue
    [ "$(grep -c '\.started$' <<<"$names")" -gt "$(grep -c '/worker-[0-9]*\.exit-' <<<"$names")" ] || return 0
    note "waiting for the job to write its checkpoint"
    sleep "$WATCH_SECONDS"
  done
}

launch() {
  local mark="" state=NONE first=1
  own_slice
  check_job
  need --zone "$ZONE"
  if [ -n "$DRY_RUN" ]; then
    ship 1
    create_slice
    watch_dry
    return
  fi
  if [ -n "$WATCH_ONLY" ]; then
    take_lock 60 || fail "$NAME is already watched from this checkout"
    watch
    return
  fi
  take_lock 0 || { [ -n "$KNOWN" ] && [ -n "$(marked || true)" ] && take_lock 120; } ||
    fail "$NAME is already watched from this checkout; see launch/tpu_run.sh $NAME logs"
  if [ -n "$KNOWN" ]; then
    mark="$(marked)" || fail "cannot read $LAUNCH; check --bucket, and that you are logged in (gcloud auth login)"
    state="$(slice_state)" || fail "cannot ask for the state of $NAME in $ZONE; check --zone and --project"
  fi
  if [ -n "$KNOWN" ] && [ -z "$GIVEN" ] && [ -z "$mark" ]; then
    note "watching $NAME (commit ${COMMIT:0:12})"
  elif [ "$mark" = finished ] && [ -z "$GIVEN" ]; then
    note "$NAME is finished; its model is in $LAUNCH/train"
    return
  else
    [ -z "$KNOWN" ] || [ -n "$mark" ] || [ "$state" = NONE ] || fail "$NAME is running; launch/tpu_run.sh $NAME stop (or delete) comes first"
    [ "$state" = NONE ] || [[ ! " $GIVEN " =~ \ --(type|zone|slices|spot|reserved|project|create-flags)\  ]] ||
      fail "the slice $NAME is there already, with its own options; launch/tpu_run.sh $NAME delete comes first"
    [ -z "$mark" ] || wait_until_stopped
    [ -z "$KNOWN" ] || first=$(($(record | latest_attempt) + 1))
    ship "$first"
    LOG_ATTEMPT="$first" # attempts that fail faster than they are looked at are shown too
    [ -z "$KNOWN" ] || unmark
    case "$state" in SUSPENDED | FAILED) delete_slice; state=NONE ;; esac
  fi
  if [ -n "$DETACH" ]; then
    [ "$state" != NONE ] || create_slice || exit 1
    flock --unlock 9
    nohup bash "$CHECKOUT/launch/tpu_run.sh" "$NAME" --watch_only ${KEEP:+--keep} >"$STATE/$NAME.log" 2>&1 9>&- &
    note "watching in the background (process $!); launch/tpu_run.sh $NAME status"
    return
  fi
  [ "$state" != NONE ] || create_slice || exit 1
  watch
}

# own_slice: refuses what is to be done to pods by the cluster's own tools.
own_slice() { [ "$ZONE" != gke ] || fail "$NAME runs on GKE; see it with kubectl get jobset $NAME, free it with kubectl delete jobset $NAME"; }

status() {
  local all mark
  mark="$(marked || true)"
  all="$(record || true)"
  echo "run       $NAME: commit ${COMMIT:0:12}, $CONFIG"
  if [ "$ZONE" = gke ]; then
    echo "slice     $SLICES x $TYPE on GKE (kubectl get jobset $NAME)"
  else
    echo "slice     $SLICES x $TYPE in $ZONE: $(slice_state || echo unknown)"
  fi
  echo "job       ${mark:-running}, attempt $(latest_attempt <<<"$all"), $(failures_since "$FIRST_ATTEMPT" <<<"$all") failures of $MAX_FAILURES allowed"
  [ -z "$mark" ] || echo "          $(storage_read "$LAUNCH/state/$mark" || true)"
  echo "files     $LAUNCH"
}

logs() {
  local worker mark
  worker="$(printf '%03d' "$((10#${WORKER_WANTED:-0}))")"
  [ "$((10#$worker))" -lt "$WORKERS" ] || fail "$NAME has workers 0 to $((WORKERS - 1))"
  trap 'exit 130' INT
  while true; do
    mark="$(marked || true)"
    follow_log "$worker"
    [ -z "$mark" ] || break
    sleep "$WATCH_SECONDS"
  done
  [ "$LOG_ATTEMPT" -gt 0 ] || note "worker $((10#$worker)) has written no log yet"
}

stop() {
  local mark
  mark="$(marked)" || fail "cannot read $LAUNCH"
  [ -z "$mark" ] || fail "$NAME is $mark already"
  mark stopped "by launch/tpu_run.sh $NAME stop, $(date -u +%FT%TZ)"
  wait_until_stopped
  note "$NAME has stopped; launch/tpu_run.sh $NAME goes on, launch/tpu_run.sh $NAME delete frees the slice"
}

delete() {
  [ -n "$(marked || true)" ] || mark stopped "by launch/tpu_run.sh $NAME delete, $(date -u +%FT%TZ)"
  take_lock 120 || note "another process still watches $NAME; see that it does not create the slice again"
  if [ "$(slice_state || true)" != NONE ]; then
    delete_slice
  fi
  note "the slice $NAME is deleted; $LAUNCH stays"
}

# What --dry-run says of a command that only reads or writes marks.
dry_command() {
  case "$COMMAND" in
    status) slice_state; list_command "$LAUNCH/state"; list_command "$LAUNCH/attempts" ;;
    logs) list_command "$LAUNCH/logs"; read_command "$(printf '%s/logs/0001/worker-%03d.log' "$LAUNCH" "$((10#${WORKER_WANTED:-0}))")" ;;
    stop) put "$STATE/$NAME.mark" "$LAUNCH/state/stopped" ;;
    delete) put "$STATE/$NAME.mark" "$LAUNCH/state/stopped"; delete_slice ;;
    simulate-preemption) delete_nodes ;;
  esac
}

main() {
  set_defaults
  KNOWN=""
  find_name "$@"
  shift
  parse_options "$@" # for the bucket
  load_settings
  parse_options "$@" # what is given now counts
  if [ -z "$COMMAND" ]; then
    launch
    return
  fi
  [ -n "$KNOWN" ] || [ -n "$DRY_RUN" ] || fail "$NAME was not launched from this checkout; give its --bucket (gs://…)"
  check_bucket
  need --zone "$ZONE"
  case "$COMMAND" in delete | simulate-preemption) own_slice ;; esac
  if [ -n "$DRY_RUN" ]; then
    dry_command
    return
  fi
  case "$COMMAND" in
    simulate-preemption) delete_nodes; note "deleted the TPU VMs of $NAME, as a preemption does" ;;
    *) "$COMMAND" ;;
  esac
}

main "$@"
