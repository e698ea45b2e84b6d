#!/usr/bin/env bash
# The main job, from nothing: a target tracked live through ROS 2; the results go to demo_out/.
# Arguments go to `tpf demo`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup_env.sh
exec .venv/bin/tpf demo --out demo_out "$@"
