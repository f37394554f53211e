# Options of tpu_run.sh and gke_run.sh, each a variable of the same name in capitals. Sourced. GIVEN lists those on the
# command line that describe the launch; NAME, COMMAND and WORKER_WANTED are the words.

COMMANDS="status logs stop delete simulate-preemption"

set_defaults() {
  TYPE="" ZONE="" BUCKET="" CONFIG="" SLICES=1 SPOT="" RESERVED="" MAX_FAILURES=10 PROJECT="" CREATE_FLAGS="" KEEP=""
  TRAIN_OPTIONS=()
}

# The name is the first word; a run that was launched from this checkout has its settings in runs/launch/NAME.env.
find_name() {
  [ "$#" -gt 0 ] || usage
  case "$1" in
    -h | --help) usage ;;
    -*) fail "the run's name comes first: $PROGRAM.sh NAME …" ;;
  esac
  [[ " $COMMANDS " != *" $1 "* ]] || fail "the run's name comes first: $PROGRAM.sh NAME $1"
  [[ "$1" =~ ^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$ ]] ||
    fail "bad name '$1': at most 40 small letters, digits and hyphens, starting with a letter"
  NAME="$1"
}

parse_options() {
  local option
  GIVEN="" COMMAND="" WORKER_WANTED="" DETACH="" WATCH_ONLY="" ALLOW_DIRTY=""
  while [ "$#" -gt 0 ]; do
    if [[ "$1" =~ ^(--[a-z_-]+)=(.*)$ ]]; then
      set -- "${BASH_REMATCH[@]:1:2}" "${@:2}"
    fi
    option="${1//_/-}" # --max_failures and --max-failures are the same
    case "$option" in
      --) shift; TRAIN_OPTIONS=("$@"); GIVEN+=" --"; break ;;
      --type) TYPE="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --zone) ZONE="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --bucket) BUCKET="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --config) CONFIG="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --slices) SLICES="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --max-failures) MAX_FAILURES="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --project) PROJECT="$(value "$@")"; GIVEN+=" $option"; shift ;;
      --create-flags) CREATE_FLAGS="${2:-}"; GIVEN+=" $option"; shift ;;
      --spot) SPOT=1; GIVEN+=" $option" ;;
      --reserved) RESERVED=1; GIVEN+=" $option" ;;
      --keep) KEEP=1 ;;
      --detach) DETACH=1 ;;
      --watch-only) WATCH_ONLY=1 ;; # how --detach starts itself: a launch that was stopped meanwhile stays so
      --allow-dirty) ALLOW_DIRTY=1 ;;
      --dry-run) DRY_RUN=1 ;;
      -h | --help) usage ;;
      -*) more_option "$@" || fail "unknown option $1; $PROGRAM.sh --help lists them"; shift ;;
      *) take_word "$1" ;;
    esac
    shift
  done
}

value() {
  [ "$#" -ge 2 ] && [[ "$2" != --* ]] || fail "$1 needs a value"
  printf '%s\n' "$2"
}

take_word() {
  if [ -z "$COMMAND" ] && [[ " $COMMANDS " == *" $1 "* ]]; then
    COMMAND="$1"
  elif [ "$COMMAND" = logs ] && [ -z "$WORKER_WANTED" ] && [[ "$1" =~ ^[0-9]{1,4}$ ]]; then
    WORKER_WANTED="$1"
  else
    fail "cannot use '$1'; commands are: $COMMANDS (logs takes a worker's number; what is for cm3leon train follows --)"
  fi
}

need() { [ -n "$2" ] || fail "$1 is missing; $PROGRAM.sh --help shows an example"; }

check_bucket() {
  need --bucket "$BUCKET"
  BUCKET="${BUCKET%/}"
  [[ "$BUCKET" =~ ^(gs:/)?/[^/].*$ ]] && [[ "$BUCKET" != *[[:space:],]* ]] ||
    fail "bad --bucket '$BUCKET': gs://BUCKET[/FOLDER], or the absolute path of a folder that every worker mounts"
  LAUNCH="$BUCKET/$NAME"
}

check_whole() { [[ "$2" =~ ^[0-9]+$ ]] && [ "$2" -ge "$3" ] || fail "bad $1 '$2': a whole number from $3"; }

# check_job: what a job needs, wherever it runs.
check_job() {
  need --type "$TYPE"
  [ -n "$(hosts_of "$TYPE")" ] || fail "unknown --type '$TYPE'; known are: $(known_types)"
  check_bucket
  need --config "$CONFIG"
  check_whole --slices "$SLICES" 1
  check_whole --max_failures "$MAX_FAILURES" 0
  [ -z "$SPOT" ] || [ -z "$RESERVED" ] || fail "--spot and --reserved exclude each other"
  HOSTS="$(hosts_of "$TYPE")"
  WORKERS=$((HOSTS * SLICES))
}
