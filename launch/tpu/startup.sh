#!/usr/bin/env bash
# The start-up script of every worker, run at each boot: brings the launch's code and starts worker.sh, which keeps the job
# going. It is all that is in the machine's metadata, so it stands alone. What it reads from the environment, where set:
#   CM3LEON_LAUNCH      the launch's place in the bucket (else the metadata attribute cm3leon-launch)
#   CM3LEON_HOME        where code, environment and logs go (/opt/cm3leon)
#   CM3LEON_FOREGROUND  1: run here instead of in a systemd service of its own (pods, which have no systemd)
set -euo pipefail
export CM3LEON_HOME="${CM3LEON_HOME:-/opt/cm3leon}"

metadata() {
  curl --fail --silent --show-error --retry 10 --retry-connrefused --header 'Metadata-Flavor: Google' \
    "http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1/instance/attributes/$1"
}

# A service is stopped before the network is at shutdown, which leaves the job time to write its checkpoint.
become_service() {
  systemctl stop cm3leon.service 2>/dev/null || true
  systemctl reset-failed cm3leon.service 2>/dev/null || true
  exec systemd-run --unit=cm3leon.service --property=After=network-online.target --property=KillMode=mixed \
    --property=TimeoutStopSec=300 --property=Restart=on-failure --property=RestartSec=30 \
    --property="StandardOutput=append:$CM3LEON_HOME/startup.log" --property="StandardError=append:$CM3LEON_HOME/startup.log" \
    --setenv=HOME=/root --setenv="PATH=$PATH:/snap/bin" --setenv="CM3LEON_HOME=$CM3LEON_HOME" \
    --setenv="CM3LEON_LAUNCH=$CM3LEON_LAUNCH" --setenv=CM3LEON_FOREGROUND=1 /bin/bash "$CM3LEON_HOME/startup.sh"
}

bring() {
  case "$1" in
    gs://*) gcloud storage cp --quiet "$1" "$2" ;;
    *) cp "$1" "$2" ;;
  esac
}

bring_code() {
  local archive="$CM3LEON_HOME/code.tar.gz"
  bring "$CM3LEON_LAUNCH/launch.env" "$CM3LEON_HOME/launch.env" || return 1
  # shellcheck disable=SC1091
  source "$CM3LEON_HOME/launch.env"
  CODE_FOLDER="$CM3LEON_HOME/code/$CODE"
  [ ! -d "$CODE_FOLDER" ] || return 0
  bring "$ARCHIVE" "$archive" || return 1
  if [ "$(sha256sum "$archive" | cut -d' ' -f1)" != "$CODE" ]; then
    echo "startup: $ARCHIVE is damaged" >&2
    return 1
  fi
  rm -rf "$CODE_FOLDER.tmp"
  mkdir -p "$CODE_FOLDER.tmp"
  tar -xzf "$archive" -C "$CODE_FOLDER.tmp" && mv "$CODE_FOLDER.tmp" "$CODE_FOLDER"
}

mkdir -p "$CM3LEON_HOME/code"
if [ "$0" != "$CM3LEON_HOME/startup.sh" ]; then
  cp "$0" "$CM3LEON_HOME/startup.sh"
fi
[ -n "${CM3LEON_LAUNCH:-}" ] || CM3LEON_LAUNCH="$(metadata cm3leon-launch)"
export CM3LEON_LAUNCH
if [ -z "${CM3LEON_FOREGROUND:-}" ] && [ -d /run/systemd/system ]; then
  become_service
fi
until bring_code; do
  echo "startup: cannot bring the code of $CM3LEON_LAUNCH; trying again in 30 seconds" >&2
  sleep 30
done
exec bash "$CODE_FOLDER/launch/tpu/worker.sh"
