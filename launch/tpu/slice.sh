# The slice: one queued resource of one or several TPU VMs. Sourced.

tpu() {
  local group="$1" verb="$2" name="$3"
  shift 3
  run gcloud compute tpus "$group" "$verb" "$name" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"} "$@"
}

# slice_nodes: names of its TPU VMs, as the queued resource gives them.
slice_nodes() {
  local slice
  if [ "$SLICES" -eq 1 ]; then
    printf '%s\n' "$NAME"
  else
    for ((slice = 0; slice < SLICES; slice++)); do
      printf '%s-%d\n' "$NAME" "$slice"
    done
  fi
}

create_slice() {
  local flags=()
  if [ "$SLICES" -eq 1 ]; then
    flags+=(--node-id="$NAME")
  else
    flags+=(--node-count="$SLICES" --node-prefix="$NAME")
  fi
  [ -z "$SPOT" ] || flags+=(--spot)
  [ -z "$RESERVED" ] || flags+=(--reserved)
  # shellcheck disable=SC2206 # several flags in one word
  flags+=($CREATE_FLAGS)
  tpu queued-resources create "$NAME" --accelerator-type="$(accelerator_type "$TYPE")" \
    --runtime-version="$(generation_field "$TYPE" runtime_version)" "${flags[@]}" \
    --metadata="cm3leon-launch=$LAUNCH" --metadata-from-file="startup-script=$STATE/$NAME.startup.sh"
}

delete_slice() { tpu queued-resources delete "$NAME" --force --quiet; }

# slice_state: NONE where there is no queued resource; nothing (and failure) where Google Cloud does not answer.
slice_state() {
  local errors state status=0
  if [ -n "$DRY_RUN" ]; then
    tpu queued-resources describe "$NAME" --format='value(state.state)'
    return
  fi
  errors="$(mktemp)"
  state="$(tpu queued-resources describe "$NAME" --format='value(state.state)' 2>"$errors")" || status=$?
  if [ "$status" -ne 0 ]; then
    state=""
    if grep -qE 'NOT_FOUND|not found' "$errors"; then
      state=NONE
      status=0
    else
      note "gcloud: $(tail -n 1 "$errors")"
    fi
  fi
  rm -f "$errors"
  [ "$status" -eq 0 ] && printf '%s\n' "${state:-UNKNOWN}"
}

# node_gone: whether a TPU VM was taken away while its queued resource still says ACTIVE.
node_gone() {
  local node state
  for node in $(slice_nodes); do
    state="$(tpu tpu-vm describe "$node" --format='value(state)' 2>/dev/null)" || continue
    case "$state" in PREEMPTED | TERMINATED) return 0 ;; esac
  done
  return 1
}

delete_nodes() {
  local node
  for node in $(slice_nodes); do
    tpu tpu-vm delete "$node" --quiet
  done
}
