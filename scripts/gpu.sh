#!/usr/bin/env bash
# Everything that needs a GPU, in one call; what is most wanted comes first.
#   scripts/gpu.sh --out DIR [--minutes 9] [--device cuda] [--only tests,bench,scan,train]
#                  [--train 'supervised --config mine.toml'] [--rehearse]
# Parts: tests of the GPU paths; step times of every model; the scan's backends; training for the
# minutes that are left, of the small model or as --train says, from DIR/train/state.pt or a
# --state named there. Each part has a limit of its own and has written its files when it ends:
# DIR/log.txt, all tables; DIR/*.json, their numbers; DIR/train/, weights, log and state.
# Needs python3 with torch, numpy, opencv, safetensors, scipy, matplotlib, click, tqdm, pytest and
# hypothesis; not this package installed, no ROS, no rosbags. --rehearse: tiny sizes, for a CPU.
set -uo pipefail
cd "$(dirname "$0")/.."

out= minutes=9 device=cuda only=tests,bench,scan,train train=supervised rehearse=
die() {
  echo "error: $*; see the head of $0" >&2
  exit 2
}
while (($#)); do
  case $1 in
    --out | --minutes | --device | --only | --train)
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

models=(tpf_tiny tpf_nano tpf_base tpf_small cmd_tiny cmd_small ckd_base sdstrack) frames=100 tokens=65536
if [[ -n $rehearse ]]; then
  models=(tpf_tiny) frames=20 tokens=1024 train="supervised --config $out/rehearsal.toml"
  cat >"$out/rehearsal.toml" <<END
model = "tpf_tiny"
steps = 2
batch = 2
log_every = 1
[world]
backgrounds = 2
background_size = 32
sprites = 8
END
fi

if wanted tests; then
  part tests 60 "$python" -m pytest -q -p no:cacheprovider -k 'scan or kernels or cuda' \
    test/models/layers test/engines
fi
if wanted bench; then
  for model in "${models[@]}"; do
    part "bench $model" 60 "${tpf[@]}" bench --device "$device" --model "$model" \
      --frames "$frames" --json "$out/$model.json"
  done
fi
if wanted scan; then
  part scan 60 "$python" benchmarks/scan.py --device "$device" --tokens "$tokens" \
    --json "$out/scan.json"
fi
if wanted train; then
  left=$((end - SECONDS - 25)) # the rest is for the start and the last state
  # shellcheck disable=SC2086  # several words
  part train $((left + 20)) "${tpf[@]}" train $train --out "$out/train" --device "$device" \
    --stop-after "$(awk "BEGIN { print ($left > 3 ? $left : 3) / 60 }")"
fi
exit $failed
