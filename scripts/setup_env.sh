#!/usr/bin/env bash
# Makes .venv once, with everything pinned; demo.sh and test.sh call it. A sourced ROS 2
# (ROS_DISTRO) is used as it is; otherwise its wheels are installed.
#   PYTHON=python3.12     the interpreter, 3.10 to 3.13
#   TPF_PIP_ARGS="..."    more arguments for pip. Where there is no NVIDIA GPU,
#                         --extra-index-url with PyTorch's index of CPU builds saves gigabytes.
set -euo pipefail
cd "$(dirname "$0")/.."
ros=${ROS_DISTRO:-wheels}

die() {
  echo "error: $*" >&2
  exit 1
}

fits() {
  "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

for python in ${PYTHON:-python3 python3.12 python3.11 python3.13 python3.10}; do
  fits "$python" && break
done
fits "$python" || die "no Python from 3.10 to 3.13 found; install one, or name it: PYTHON=... $0"

kind="$ros, $("$python" -V)"
hash=$(cat setup.py scripts/pins.txt scripts/setup_env.sh | sha256sum)
stamp=.venv/stamp
if [[ -f $stamp ]]; then
  [[ $(<"$stamp") == "$kind"$'\n'"$hash" ]] && exit
  # Another Python or another ROS 2: nothing in there fits any more.
  [[ $(head -1 "$stamp") == "$kind" ]] || rm -rf .venv
fi

echo "== making .venv ($kind): once, a few minutes, about 2 GB without CUDA"
[[ $ros == wheels ]] || site=--system-site-packages
"$python" -m venv ${site:-} .venv || die "cannot make .venv; on Debian or Ubuntu: sudo apt install python3-venv"
pip() {
  .venv/bin/python -m pip --disable-pip-version-check "$@"
}
if [[ $ros == wheels ]]; then
  pins=scripts/pins.txt extras=ros,console,train,onnx,dev,lint
else
  # The numpy that this ROS 2 was compiled against must stay.
  pins=.venv/pins.txt extras=console,train,onnx,dev
  { "$python" -c 'import numpy; print(f"numpy=={numpy.__version__}")'; grep ^torch== scripts/pins.txt; } >$pins
fi
pip install -q -c scripts/pins.txt setuptools
pip install -q --no-build-isolation -c $pins ${TPF_PIP_ARGS:-} -e ".[$extras]"
if [[ $ros == wheels ]] && ! command -v "${CXX:-g++}" >/dev/null; then
  echo '== no C++ compiler found: installing zig into .venv'
  pip install -q -c $pins ziglang
fi
.venv/bin/python -m tpf_tracker_ros.ros.interfaces
printf '%s\n%s\n' "$kind" "$hash" >$stamp
