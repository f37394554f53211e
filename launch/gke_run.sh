#!/usr/bin/env bash
# Ships the committed code to the bucket and prints the JobSet that trains with it on GKE. docs/launch.md has the recipe.
set -euo pipefail
PROGRAM=gke_run
CHECKOUT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
STATE="$CHECKOUT/runs/launch"
for part in commands tables storage attempts arguments ship; do
  # shellcheck disable=SC1090
  source "$CHECKOUT/launch/tpu/$part.sh"
done
COMMANDS=""

usage() {
  cat <<'TEXT'
launch/gke_run.sh NAME --type v5p-256 --config "models/7b hardware/v5p_256 runs/pretrain" --bucket gs://BUCKET \
    --image IMAGE [options] [-- options of cm3leon train] | kubectl apply -f -

  --image IMAGE             made from launch/gke.Dockerfile
  --service_account NAME    Kubernetes service account that may write to the bucket (default)
  --spot                    node pools of Spot VMs
  --slices N                N slices
  --max_failures N          failures (not preemptions) after which it stops (10)
  --allow_dirty             launch although the checkout has changes, which are not shipped
  --dry-run                 print the manifest and, as comments, every command; run none
TEXT
  exit 0
}

more_option() {
  case "${1//_/-}" in
    --image) IMAGE="$(value "$@")" ;;
    --service-account) SERVICE_ACCOUNT="$(value "$@")" ;;
    *) return 1 ;;
  esac
}

manifest() {
  local text name
  GKE_ACCELERATOR="$(generation_field "$TYPE" gke_accelerator)"
  TOPOLOGY="$(topology_of "$TYPE")"
  CHIPS="$(chips_per_host "$TYPE")"
  text="$(grep -v '^#' "$CHECKOUT/launch/gke_jobset.yaml")"
  [ -n "$SPOT" ] || text="$(grep -v 'gke-spot' <<<"$text")"
  for name in NAME MAX_FAILURES SLICES HOSTS SERVICE_ACCOUNT GKE_ACCELERATOR TOPOLOGY IMAGE LAUNCH CHIPS; do
    text="${text//"{$name}"/"${!name}"}"
  done
  printf '%s\n' "$text"
}

main() {
  local commands first=1
  set_defaults
  IMAGE="" SERVICE_ACCOUNT=default ZONE=gke # which is how tpu_run.sh knows that the slice is not its own
  find_name "$@"
  shift
  parse_options "$@"
  check_job
  is_bucket "$BUCKET" || fail "--bucket must be a gs:// URL: pods mount nothing else"
  [ -z "$RESERVED$PROJECT$CREATE_FLAGS" ] || fail "capacity and project are the node pool's, not the job's"
  need --image "$IMAGE"
  [[ "$IMAGE" =~ ^[A-Za-z0-9./:@_-]+$ ]] || fail "bad --image '$IMAGE'"
  [[ "$SERVICE_ACCOUNT" =~ ^[a-z0-9.-]+$ ]] || fail "bad --service_account '$SERVICE_ACCOUNT'"
  [ -n "$DRY_RUN" ] || first=$(($(storage_list "$LAUNCH/attempts" | verdicts | latest_attempt) + 1))
  commands="$(mktemp)"
  ship "$first" >"$commands"
  put "$STATE/$NAME.startup.sh" "$LAUNCH/startup.sh" >>"$commands"
  sed '/^#/!s/^/# /' "$commands"
  rm -f "$commands"
  [ -n "$DRY_RUN" ] || unmark
  manifest
}

main "$@"
