# Ships the committed code and the launch's settings to the bucket. Sourced.

# The checkout's changes are not in its commit, so a launch that would quietly run without them is refused.
check_committed() {
  local changed
  git -C "$CHECKOUT" rev-parse --verify --quiet HEAD >/dev/null || fail "$CHECKOUT is no git checkout with a commit"
  changed="$(git -C "$CHECKOUT" status --porcelain)"
  [ -n "$changed" ] || return 0
  [ -n "$ALLOW_DIRTY" ] || fail "$(wc -l <<<"$changed") files differ from the commit, which is what is shipped (first:" \
    "$(head -n 1 <<<"$changed" | cut -c 4-)); commit them, or give --allow_dirty to run without them"
  note "warning: $(wc -l <<<"$changed") changed files are not shipped; the job runs commit $(git -C "$CHECKOUT" rev-parse --short HEAD)"
}

# committed_gin FILE: a gin file as the commit has it, in gin_configs/ or at the top.
committed_gin() {
  git -C "$CHECKOUT" show "HEAD:gin_configs/$1" 2>/dev/null || git -C "$CHECKOUT" show "HEAD:$1" 2>/dev/null
}

# A gin file that is missing, or made for another slice, is found here, not on every worker.
check_config() {
  local file text slice asked="$TYPE"
  [ "$SLICES" -eq 1 ] || asked="${SLICES}x$TYPE"
  for file in $CONFIG; do
    file="${file%.gin}.gin"
    text="$(committed_gin "$file")" || fail "--config names $file, which is not in the commit (looked for in gin_configs/ and at the top)"
    slice="$(sed -n "s/^HardwareConfig\.slice *= *['\"]\(.*\)['\"].*/\1/p" <<<"$text" | tail -n 1)"
    [ -z "$slice" ] || [ "$slice" = "$asked" ] || fail "$file is for $slice, not for $asked (--type and --slices)"
  done
}

# The archive is named by its own hash: the same code is uploaded once, and a worker can tell that it is whole.
ship_code() {
  local archive="$STATE/$NAME.tar.gz"
  COMMIT="$(git -C "$CHECKOUT" rev-parse HEAD)"
  CODE="$(git -C "$CHECKOUT" archive --format=tar.gz HEAD | sha256sum | cut -d' ' -f1)"
  ARCHIVE="$BUCKET/code/$CODE.tar.gz"
  [ -n "$DRY_RUN" ] || mkdir -p "$STATE"
  run git -C "$CHECKOUT" archive --format=tar.gz --output="$archive" HEAD
  if ! is_bucket "$BUCKET"; then
    [ -f "$ARCHIVE" ] || put "$archive" "$ARCHIVE"
  elif [ -n "$DRY_RUN" ]; then
    run gcloud storage cp --quiet --no-clobber "$archive" "$ARCHIVE"
  else
    gcloud storage cp --quiet --no-clobber "$archive" "$ARCHIVE" ||
      fail "cannot write to $BUCKET; check --bucket, and that you are logged in (gcloud auth login)"
  fi
  run rm -f "$archive"
}

train_arguments() {
  local file
  ARGUMENTS=()
  for file in $CONFIG; do
    ARGUMENTS+=(--gin_file "$file")
  done
  ARGUMENTS+=(--directory "$LAUNCH/train" "${TRAIN_OPTIONS[@]}")
}

print_settings() {
  local name
  for name in NAME LAUNCH COMMIT CODE ARCHIVE HOSTS SLICES WORKERS MAX_FAILURES FIRST_ATTEMPT POLL_SECONDS LIBTPU_ARGS \
    TYPE ZONE BUCKET CONFIG SPOT RESERVED PROJECT CREATE_FLAGS; do
    printf '%s=%q\n' "$name" "${!name}"
  done
  printf 'ARGUMENTS=('
  [ "${#ARGUMENTS[@]}" -eq 0 ] || printf ' %q' "${ARGUMENTS[@]}"
  printf ' )\nTRAIN_OPTIONS=('
  [ "${#TRAIN_OPTIONS[@]}" -eq 0 ] || printf ' %q' "${TRAIN_OPTIONS[@]}"
  printf ' )\n'
}

# ship FIRST_ATTEMPT: everything that workers need. Their failures count from that attempt on.
ship() {
  FIRST_ATTEMPT="$1"
  POLL_SECONDS="${CM3LEON_POLL_SECONDS:-15}"
  LIBTPU_ARGS="$(generation_field "$TYPE" libtpu_init_args)"
  check_committed
  check_config
  ship_code
  train_arguments
  if [ -n "$DRY_RUN" ]; then
    echo "# $STATE/$NAME.env:"
    print_settings | sed 's/^/#   /'
  else
    print_settings >"$STATE/$NAME.env"
    git -C "$CHECKOUT" show "$COMMIT:launch/tpu/startup.sh" >"$STATE/$NAME.startup.sh"
  fi
  put "$STATE/$NAME.env" "$LAUNCH/launch.env"
  [ -n "$DRY_RUN" ] || note "shipped commit ${COMMIT:0:12} for $WORKERS workers"
}
