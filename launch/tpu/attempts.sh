# The record that workers and launcher keep of a launch, in files below $LAUNCH whose names say everything. Sourced.
#
#   state/finished, state/stopped, state/failed      the launch has ended so; workers wait until the file is gone
#   attempts/0007/worker-003.started                 this worker started the job in attempt 7
#   attempts/0007/worker-003.exit-42                 ... where it ended with status 42
#   attempts/0007/worker-003.exit-lost               ... where it vanished without a status (its machine did)
#   attempts/0007/worker-003.exit-ended              ... where its supervisor ended it, because another worker's had ended
#
# One worker's end is the end of the attempt for all: a job that runs on every chip cannot go on without one of them.

# marked: prints finished, stopped or failed where the launch is marked so.
marked() {
  local names mark
  names="$(storage_list "$LAUNCH/state")" || return 1
  for mark in finished stopped failed; do
    if grep -q "/$mark\$" <<<"$names"; then
      printf '%s\n' "$mark"
      return
    fi
  done
}

mark() { storage_write "$LAUNCH/state/$1" "$2"; }

unmark() {
  local state
  for state in finished stopped failed; do
    storage_remove "$LAUNCH/state/$state" || true
  done
}

attempt_place() { printf '%s/attempts/%04d\n' "$LAUNCH" "$1"; }

# verdicts: reads names of files, prints "ATTEMPT VERDICT WORKERS_FINISHED" for each attempt, oldest first. VERDICT:
#   input    a worker ended with 2
#   failed   one ended with another status than 0 and 42
#   again    one said 42, or vanished
#   finished every status so far is 0
#   running  no worker has ended
verdicts() {
  awk '
    match($0, /attempts\/[0-9]+\//) {
      attempt = substr($0, RSTART + 9, RLENGTH - 10) + 0
      if (!(attempt in weight)) weight[attempt] = -1
    }
    match($0, /\.exit-[a-z0-9]+$/) {
      status = substr($0, RSTART + 6)
      if (status == "0") { w = 0; finished[attempt]++ }
      else if (status == "42" || status == "lost" || status == "ended") w = 1
      else if (status != "2") w = 2
      else w = 3
      if (w > weight[attempt]) weight[attempt] = w
    }
    END {
      split("running finished again failed input", name, " ")
      for (attempt in weight) print attempt, name[weight[attempt] + 2], finished[attempt] + 0
    }' | sort -n
}

# The rest read what `verdicts` printed.
latest_attempt() { tail -n 1 | cut -d' ' -f1 | grep . || echo 0; }
latest_verdict() { tail -n 1 | cut -d' ' -f2; }
# failures_since ATTEMPT
failures_since() { awk -v first="$1" '$1 >= first && $2 == "failed"' | wc -l; }
