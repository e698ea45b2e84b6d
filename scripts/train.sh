#!/usr/bin/env bash
# The whole training of tpf_tiny and of tpf_nano's adapter, from nothing to the tables:
#   scripts/train.sh SOURCE [--device auto] [--pairs DIR] [--only tpf_tiny,tpf_nano] [--rehearse]
# SOURCE: folder of real images, see docs/training.md. --pairs: folder of registered pairs (visible/,
# infrared/) to measure on, too. --rehearse: a quarter of the steps and of each batch, for a CPU.
# All goes to runs/, or runs/rehearsal/; what was interrupted goes on. Hours on a CPU.
set -eu
cd "$(dirname "$0")/.."
die() {
  echo "error: $*; see the head of $0" >&2
  exit 2
}
source=${1:-}
[[ -n $source && $source != --* ]] || die 'give the folder of real images'
shift
device=auto pairs= only=tpf_tiny,tpf_nano runs=runs
while (($#)); do
  case $1 in
    --device | --pairs | --only)
      (($# > 1)) || die "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    --rehearse) runs=runs/rehearsal ;;
    *) die "unknown argument $1" ;;
  esac
  shift
done

scripts/setup_env.sh
python=.venv/bin/python tpf=.venv/bin/tpf
# An experiment by its name; one that is rehearsed starts from what was rehearsed before it.
train() {
  local config=tpf_tracker_ros/training/experiments/$2.toml
  if [[ $runs != runs ]]; then
    mkdir -p "$runs"
    awk -v runs="$runs" '/^(steps|batch) = / {$3 = int($3 / 4)}
      /^init_/ {sub(/"runs\//, "\"" runs "/")} 1' "$config" > "$runs/$2.toml"
    config=$runs/$2.toml
  fi
  $tpf train "$1" --config "$config" --out "$runs/$2" --device "$device"
}
ablation() {
  local model=$1
  shift
  [[ $runs == runs ]] || set -- "$@" --steps 40 --batch 8 --count 2 --frames 40
  $python benchmarks/ablation.py --model "$model" --device "$device" --out "$runs/ablation_$model" \
    ${pairs:+--pairs "$pairs"} "$@"
}
fusion() {
  $python benchmarks/fusion.py ${pairs:+--pairs "$pairs"} --device "$device" --model "$1" \
    --checkpoint "$2" --json "$runs/fusion_$1.json" --sheet "$runs/fusion_$1.png"
}

[[ -f runs/pack/pack.json ]] || $tpf train pack "$source" runs/pack
if [[ ,$only, == *,tpf_nano,* ]]; then
  # NanoTrack's part is in the package; tpf import-weights makes it again, bit for bit.
  train mad tpf_nano_mad
  ablation tpf_nano --adapter "$runs/tpf_nano_mad/tpf_nano.safetensors"
  fusion tpf_nano "$runs/tpf_nano_mad/tpf_nano.safetensors"
fi
if [[ ,$only, == *,tpf_tiny,* ]]; then
  train supervised tpf_tiny
  train mad tpf_tiny_mad
  train drf tpf_tiny_drf
  train distil tpf_tiny_distil
  ablation tpf_tiny --adapter "$runs/tpf_tiny_mad/tpf_tiny.safetensors" \
    --start "$runs/tpf_tiny/tpf_tiny.safetensors"
  fusion tpf_tiny "$runs/tpf_tiny_distil/tpf_tiny.safetensors"
fi
