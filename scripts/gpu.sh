#!/usr/bin/env bash
# Everything that needs a GPU, in one call; what is most wanted comes first.
#   scripts/gpu.sh --out DIR [--minutes 9] [--device cuda] [--only tests,bench,scan,train] [--rehearse]
# Parts: tests of the GPU paths; step times of every model; the scan's backends; training of the
# small model for the minutes that are left (TPF_GPU_TRAIN: another `tpf train` command line).
# Each part has a limit of its own and has written its files when it ends: DIR/log.txt, all
# tables; DIR/*.json, their numbers; DIR/train/, weights, log and state.
# Needs python3 with torch, numpy, opencv, safetensors, scipy, matplotlib, click, tqdm, pytest and
# hypothesis; not this package installed, no ROS, no rosbags. --rehearse: tiny sizes, for a CPU.
set -uo pipefail
cd "$(dirname "$0")/.."

out= minutes=9 device=cuda only=tests,bench,scan,train rehearse=
die() {
  echo "error: $*; see the head of $0" >&2
  exit 2
}
while (($#)); do
  case $1 in
    --out | --minutes | --device | --only)
      (($# > 1)) || die "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    --rehearse) rehearse=yes ;;
    *) die "unknown argument $1" ;;
  esac
  shift
done
[[ -n $out ]] || die 'give --out DIR'

mkdir -p "$out" && out=$(cd "$out" && pwd)
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
tpf=("$python" -m tpf_tracker_ros.cli)
end=$((SECONDS + minutes * 60))
failed=0

# part NAME SECONDS COMMAND...: run it, within what is left of the whole.
part() {
  local name=$1 limit=$2 began=$SECONDS left=$((end - SECONDS - 5))
  shift 2
  ((left < limit)) && limit=$left
  ((limit > 3)) || { echo "== $name: no time left" | tee -a "$out/log.txt"; failed=1; return; }
  echo "== $name (at most $limit s)" | tee -a "$out/log.txt"
  timeout -k 5 "$limit" "$@" 2>&1 | tee -a "$out/log.txt"
  local status=${PIPESTATUS[0]}
  echo "== $name: exit $status after $((SECONDS - began)) s" | tee -a "$out/log.txt"
  ((status == 0)) || failed=1
}
wanted() { [[ ,$only, == *,$1,* ]]; }

models=(tpf_tiny tpf_small tpf_base) frames=100 tokens=65536
[[ -z $rehearse ]] || models=(tpf_tiny) frames=20 tokens=1024

if wanted tests; then
  part tests 60 "$python" -m pytest -q -p no:cacheprovider \
    test/models/layers/test_scan.py test/models/layers/test_scan_triton.py test/engines/test_engine.py
fi
if wanted bench; then
  for model in "${models[@]}"; do
    part "bench $model" 60 "${tpf[@]}" bench --device "$device" --model "$model" \
      --frames "$frames" --json "$out/$model.json"
  done
fi
if wanted scan; then
  part scan 60 "$python" benchmarks/scan.py --device "$device" --tokens "$tokens" --json "$out/scan.json"
fi
if wanted train; then
  train=(${TPF_GPU_TRAIN:-supervised --out "$out/train"})
  part train $((end - SECONDS)) "${tpf[@]}" train "${train[@]}" --device "$device"
fi
exit $failed
