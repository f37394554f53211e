#!/usr/bin/env bash
# Installs what tests compare with or run in, beside what .venv has: PyTorch, transformers, pytorch-fid, pycocoevalcap with
# Java, the TPU's compiler and Chromium. Tests of what is missing skip themselves.
set -euo pipefail
source "$(dirname "$0")/environment.sh"

pip_install() {  # WHAT PIP-ARGUMENT…
  local what="$1"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "${@:2}" || echo "no $what: its tests are skipped" >&2
}

debian_install() {  # PROGRAM PACKAGE…
  command -v "$1" >/dev/null && return
  (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}") >/dev/null 2>&1 ||
    echo "no $1: its tests are skipped (as root, on Debian: apt-get install ${*:2})" >&2
}

# The folder also tells launch/test.sh and .ci/run that this script has run.
mkdir -p "$ROOT/.venv/references"
pip_install PyTorch "torch==2.13.0" "transformers==5.23.0"
# pytorch-fid needs torchvision, whose usual build breaks transformers where PyTorch is one for CPUs alone: a folder apart.
pip_install pytorch-fid --no-deps --target "$ROOT/.venv/references" "torchvision==0.28.0" "pytorch-fid==0.3.0"
# With the jars of METEOR and of Stanford's tokenizer, which run where there is Java.
pip_install pycocoevalcap --no-deps "pycocoevalcap==1.2" "pycocotools==2.0.11"
debian_install java default-jre-headless
pip_install libtpu --no-deps "libtpu==0.0.42.1"
debian_install chromedriver chromium chromium-driver
